"""Between an ASGI server and plain handler functions: parameters, bodies, who may do what.

With `answering`, `quick`, `sending` and `gate` the asynchronous part. Handlers return ready bytes.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Final
from urllib.parse import unquote_plus

import fastapi
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import compile_path
from starlette.types import Receive

from aggregator.api import errors
from aggregator.api.answering import Answering, Question, busy
from aggregator.api.auth import ANONYMOUS, Authenticator
from aggregator.api.exchange import Access, Caller, Lane, Reach, Reply, Request, RequestError, Route
from aggregator.api.heads import RequestHead
from aggregator.api.pool import FairPool
from aggregator.api.sending import SMALL_BYTES, Answer, Unsent
from aggregator.api.settings import ApiSettings, Role
from aggregator.errors import AggregatorError
from aggregator.model.budget import Budget
from aggregator.model.record import record

MAX_BODY_BYTES: Final = 2**20
MAX_PARAMETERS: Final = 1_000
_BODY_SECONDS = 10.0
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_FORM = "application/x-www-form-urlencoded"
_THREADS_PER_YOUNG = 3
_MAX_CHARACTERS = 500  # of a parameter that is remembered, or of a header that is looked at


@record
class Visit:
    """A request on its way to the route that answers it; `path` are the route's parameters.

    `client` and its `line` take turns; callers by name, the anonymous by their address. `gzip`
    tells whether the answer may be compressed.
    """

    route: Route
    path: Mapping[str, str]
    head: RequestHead
    caller: Caller | None
    client: str
    line: str
    gzip: bool

    @staticmethod
    def of(
        route: Route, path: Mapping[str, str], head: RequestHead, caller: Caller | None
    ) -> "Visit":
        """Return the visit of *caller*."""
        is_named = caller is not None and caller.name != ANONYMOUS
        client = caller.name if caller is not None and is_named else head.peer
        line = head.headers.get("x-dashboard-uid", "")[:64]
        gzip = _names_gzip(head.headers.get("accept-encoding", "")[:_MAX_CHARACTERS])
        return Visit(route, path, head, caller, client, line, gzip)


class Edge:
    """Runs handlers on behalf of an ASGI server."""

    def __init__(self, settings: ApiSettings, authenticator: Authenticator) -> None:
        self._authenticator, self._limits = authenticator, settings.query
        young = settings.query.concurrency
        self._pool = FairPool(young, young * _THREADS_PER_YOUNG)
        self._answering = Answering(self._pool, settings.query)
        self._unsent = Unsent(settings.query.bytes)
        self._plain: dict[tuple[str, str], Route] = {}
        self._patterns: list[tuple[re.Pattern[str], Route]] = []
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="api-metrics")

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        """Keep the pool running while the server does."""
        self._pool.start()
        try:
            yield
        finally:
            self._pool.stop()
            self._aside.shutdown(wait=True, cancel_futures=True)

    def endpoint(self, route: Route) -> Callable[[fastapi.Request], Awaitable[Response]]:
        """Return what the framework calls for *route*; from now on `find` finds it too."""
        if "{" in route.path:
            self._patterns.append((compile_path(route.path)[0], route))
        else:
            self._plain.update({(method, route.path): route for method in route.methods})

        async def endpoint(request: fastapi.Request) -> Response:
            raise NotImplementedError(f"the gate answers {request.url.path}")

        return endpoint

    def find(self, head: RequestHead, caller: Caller | None) -> Visit | None:
        """Return who answers, None if nobody does.

        The framework takes longer to find that out than most answers take.
        """
        route = self._plain.get((head.method, head.path))
        if route is not None:
            return Visit.of(route, {}, head, caller)
        for pattern, route in self._patterns:
            found = pattern.match(head.path)
            if found is not None and head.method in route.methods:
                return Visit.of(route, found.groupdict(), head, caller)
        return None

    async def respond(self, visit: Visit, receive: Receive) -> Response:
        """Answer one request. Raises `RequestError`."""
        self._check_access(visit)
        body = b"" if visit.head.method in _READS else await _body(receive)
        asked, gzip = _request(visit, body, self._budget()), visit.gzip
        handler = visit.route.handler
        match visit.route.lane:
            case Lane.EVENT_LOOP:
                return Answer(errors.answer(handler, asked, gzip=gzip))
            case Lane.ASIDE:
                loop = asyncio.get_running_loop()
                work = partial(errors.answer, handler, asked, gzip=gzip)
                return Answer(await loop.run_in_executor(self._aside, work))
            case Lane.POOL:
                question = _question(visit, asked)
                reply = await self._answering.answer(question, receive)
                return Response(status_code=499) if reply is None else self._sent(question, reply)

    def at_once(self, visit: Visit, body: bytes) -> Answer | None:
        """Answer one request as `respond` would, or return None if that takes waiting.

        Raises `RequestError`.
        """
        lane = visit.route.lane
        if lane is Lane.ASIDE or (lane is Lane.POOL and not self._answering.idle):
            return None
        self._check_access(visit)
        body = b"" if visit.head.method in _READS else body
        if lane is Lane.EVENT_LOOP:
            asked = _request(visit, body, self._budget())
            return Answer(errors.answer(visit.route.handler, asked, gzip=visit.gzip))
        asked = _request(visit, body, self._answering.quick_budget())
        question = _question(visit, asked)
        reply = self._answering.at_once(question)
        return None if reply is None else self._sent(question, reply)

    def install(self, app: fastapi.FastAPI) -> None:
        """Let *app* answer what fails outside of our handlers in our envelopes."""
        methods: dict[str, set[str]] = {}
        for route in app.routes:
            if isinstance(route, APIRoute):
                methods.setdefault(route.path, set()).update(route.methods or ())

        async def not_routed(request: fastapi.Request, error: Exception) -> Response:
            status = error.status_code if isinstance(error, HTTPException) else 500
            reply = errors.not_routed(request.url.path, status)
            template = getattr(request.scope.get("route"), "path", "")
            allowed = methods.get(template, set()) if status == 405 else set()
            headers = {"allow": ", ".join(sorted(allowed))} if allowed else {}
            return Answer(Reply(reply.body, reply.status, reply.content_type, headers))

        async def refused(_request: fastapi.Request, error: Exception) -> Response:
            return Answer(
                errors.of(error)
                if isinstance(error, AggregatorError)
                else errors.reply(500, "internal", errors.INTERNAL)
            )

        app.add_exception_handler(HTTPException, not_routed)
        app.add_exception_handler(AggregatorError, refused)
        app.add_exception_handler(Exception, refused)

    def _check_access(self, visit: Visit) -> None:
        route, caller = visit.route, visit.caller
        if route.access is Access.OPERATOR:
            self._check_change(caller, visit.head.headers)
        if caller is not None and caller.scope and route.reach is Reach.FLEET:
            raise RequestError(403, "forbidden", "this token sees only the series of its match")

    def _check_change(self, caller: Caller | None, headers: Mapping[str, str]) -> None:
        if caller is None or caller.role is not Role.OPERATOR:
            raise RequestError(403, "forbidden", "this needs the role operator")
        if not self._authenticator.knows_origin(headers.get("origin"), headers.get("host", "")):
            raise RequestError(403, "forbidden", "the page that sent this is not one of ours")

    def _budget(self) -> Budget:
        return Budget(
            timeout_seconds=self._limits.timeout / 1000,
            max_samples=self._limits.samples,
            max_series=self._limits.series,
            max_bytes=self._limits.bytes,
        )

    def _sent(self, question: Question, reply: Reply) -> Answer:
        """Return the answer; a large one counts as long as it is on its way."""
        client, size = question.client, len(reply.body)
        if size < SMALL_BYTES:
            return Answer(reply)
        if not self._unsent.admit(client, size):
            raise busy("too many large answers wait for their readers")
        return Answer(reply, lambda: self._unsent.release(client, size))


def _question(visit: Visit, asked: Request) -> Question:
    return Question(visit.route, asked, visit.client, visit.line, visit.gzip)


def _request(visit: Visit, body: bytes, budget: Budget) -> Request:
    head = visit.head
    pairs = parameter_pairs(head.query) if head.query else []
    if body and _is_form(head.headers.get("content-type", "")[:_MAX_CHARACTERS]):
        pairs = parameter_pairs(body) + pairs
    return Request(visit.path, pairs, body, visit.caller, budget)


@lru_cache(maxsize=64)
def _is_form(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == _FORM


def parameter_pairs(encoded: bytes) -> list[tuple[str, str]]:
    """Return the parameters as `urllib.parse.parse_qsl` does, at a third of its price.

    Raises `RequestError` (400) if there are too many.
    """
    text = encoded.decode("utf-8", "replace")
    fields = text.split("&")
    if len(fields) > MAX_PARAMETERS:
        raise RequestError(400, "bad_data", f"more than {MAX_PARAMETERS} parameters")
    pairs = []
    for each in fields:
        if "%" in each or "+" in each:
            pairs.append(_known(each) if len(each) <= _MAX_CHARACTERS else _unquoted(each))
        elif each:
            name, _, value = each.partition("=")
            pairs.append((name, value))
    return pairs


def _unquoted(field: str) -> tuple[str, str]:
    """Return the name and the value of a parameter."""
    name, _, value = field.partition("=")
    return unquote_plus(name), unquote_plus(value)


_known = lru_cache(maxsize=2_048)(_unquoted)  # the panels of dashboards ask the same


async def _body(receive: Receive) -> bytes:
    """Return the body, or raise `RequestError` if it is too large or too slow."""
    chunks, size = [], 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise RequestError(400, "bad_data", "the body ended early")
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > MAX_BODY_BYTES:
                    raise RequestError(413, "bad_data", f"body of more than {MAX_BODY_BYTES} bytes")
                chunks.append(chunk)
                more = message.get("more_body", False)
    except TimeoutError as error:
        raise RequestError(408, "bad_data", "the body came too slowly") from error
    return b"".join(chunks)


@lru_cache(maxsize=64)
def _names_gzip(codings: str) -> bool:
    """Tell whether an Accept-Encoding header names gzip, and not with `q=0`."""
    for part in codings.lower().split(","):
        coding, _, quality = part.partition(";")
        if coding.strip() == "gzip":
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
