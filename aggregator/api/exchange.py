"""What a handler is given and what it gives back; no framework, no I/O.

A `Route` also carries what the OpenAPI document says of it, so that the two cannot differ.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

import orjson

from aggregator.api.settings import Role
from aggregator.errors import AggregatorError
from aggregator.model.budget import Budget
from aggregator.model.labels import Matcher
from aggregator.model.record import record

JSON = "application/json"
HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"


class Access(Enum):
    """Who may call a route."""

    PUBLIC = "everybody"
    VIEWER = "viewers and operators"
    OPERATOR = "operators"


class Reach(Enum):
    """What a caller whose token has a `match` gets from a route."""

    SCOPED = "A token with a match gets what that admits."  # the handler uses `Request.scope`
    SAME = "Everybody gets the same, without data of the fleet."
    FLEET = "Not for a token with a match."


class Lane(Enum):
    """Where a handler runs."""

    POOL = "pool"  # whatever reads the store
    ASIDE = "aside"  # takes milliseconds and must not wait for queries
    EVENT_LOOP = "event loop"  # takes microseconds and reads memory only


class RequestError(AggregatorError):
    """A request that is answered with an error of our own choice."""

    def __init__(
        self, status: int, kind: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self.status, self.kind, self.headers = status, kind, dict(headers or {})
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the name of a token or of a proxy's user, what they may do, and see.

    Everything they see passes the matchers of `scope`; without any they see everything.
    """

    name: str
    role: Role
    scope: tuple[Matcher, ...] = ()


@dataclass(slots=True)
class Request:
    """One request: parameters of form and query string (the form's first), and its limits.

    `caller` is None only where a public route is asked by somebody unknown; `queued_seconds` is how
    long the request waited for its turn.
    """

    path: Mapping[str, str]
    pairs: Sequence[tuple[str, str]]
    body: bytes
    caller: Caller | None
    budget: Budget
    queued_seconds: float = 0.0
    _firsts: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._firsts = dict(reversed(self.pairs))

    @property
    def scope(self) -> tuple[Matcher, ...]:
        """The matchers that the answer is restricted to."""
        return () if self.caller is None else self.caller.scope

    def first(self, name: str, default: str = "") -> str:
        """Return the first value of the parameter *name*."""
        return self._firsts.get(name, default)

    def all(self, name: str) -> list[str]:
        """Return every value of the parameter *name*."""
        return [value for key, value in self.pairs if key == name]


@record
class Reply:
    """An answer, ready to be sent."""

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


def json_reply(document: object, status: int = 200) -> Reply:
    """Return *document* as a JSON answer."""
    return Reply(orjson.dumps(document), status)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a route, as the documentation shows it."""

    name: str
    description: str
    required: bool = False
    kind: str = "string"
    repeated: bool = False
    example: str | None = None

    @property
    def schema(self) -> dict[str, object]:
        """The JSON Schema of its value."""
        single: dict[str, object] = {"type": self.kind}
        if self.example is not None:
            single["examples"] = [self.example]
        return {"type": "array", "items": single} if self.repeated else single


Handler: TypeAlias = Callable[[Request], Reply]
Schema: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Route:
    """A path, what answers it, and what there is to know about it.

    `reach` is closed unless a route says otherwise. `errors` are the statuses beside 400, 401 and
    403, which any path may answer with.
    """

    path: str
    handler: Handler
    summary: str
    description: str = ""
    tag: str = "fleet"
    methods: tuple[str, ...] = ("GET",)
    access: Access = Access.VIEWER
    reach: Reach = Reach.FLEET
    lane: Lane = Lane.POOL
    parameters: tuple[Parameter, ...] = ()
    content_type: str = JSON
    schema: Schema = field(default_factory=dict)
    errors: tuple[int, ...] = ()
