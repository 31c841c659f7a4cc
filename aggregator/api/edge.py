"""Between an ASGI server and plain handler functions: parameters, bodies, who may do what.

With `answering`, `quick`, `sending` and `gate` the asynchronous part. Handlers return ready bytes.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import unquote

import fastapi
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import compile_path
from starlette.types import Receive, Scope

from aggregator.api import errors
from aggregator.api.answering import Answering, Question, busy
from aggregator.api.auth import ANONYMOUS, Authenticator
from aggregator.api.exchange import Access, Caller, Lane, Reach, Reply, Request, RequestError, Route
from aggregator.api.pool import FairPool
from aggregator.api.sending import SMALL_BYTES, Answer, Unsent, compressed
from aggregator.api.settings import ApiSettings, Role
from aggregator.errors import AggregatorError
from aggregator.model.budget import Budget

MAX_BODY_BYTES: Final = 2**20
MAX_PARAMETERS: Final = 1_000
_BODY_SECONDS = 10.0
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_FORM = "application/x-www-form-urlencoded"
_THREADS_PER_YOUNG = 3


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
            return await self.respond(route, request.scope, request.receive)

        return endpoint

    def find(self, scope: Scope) -> Route | None:
        """Return the route that answers, and put its parameters into *scope*.

        The framework takes longer to find it than most answers take.
        """
        method, path = scope["method"], scope["path"]
        route = self._plain.get((method, path))
        if route is not None:
            return route
        for pattern, route in self._patterns:
            found = pattern.match(path)
            if found is not None and method in route.methods:
                scope["path_params"] = found.groupdict()
                return route
        return None

    async def respond(self, route: Route, scope: Scope, receive: Receive) -> Response:
        """Answer one request. Raises `RequestError`."""
        self._check_access(route, scope)
        body = b"" if scope["method"] in _READS else await _body(receive)
        asked, gzip = _request(scope, body, self._budget()), _accepts_gzip(scope["named_headers"])
        match route.lane:
            case Lane.EVENT_LOOP:
                return Answer(compressed(errors.answer(route.handler, asked), gzip=gzip))
            case Lane.ASIDE:
                loop = asyncio.get_running_loop()
                work = loop.run_in_executor(self._aside, errors.answer, route.handler, asked)
                return Answer(compressed(await work, gzip=gzip))
            case Lane.POOL:
                question = _question(route, scope, asked, gzip=gzip)
                reply = await self._answering.answer(question, receive)
                return Response(status_code=499) if reply is None else self._sent(question, reply)

    def at_once(self, route: Route, scope: Scope, body: bytes) -> Answer | None:
        """Answer one request as `respond` would, or return None if that takes waiting.

        Raises `RequestError`.
        """
        if route.lane is Lane.ASIDE or (route.lane is Lane.POOL and not self._answering.idle):
            return None
        self._check_access(route, scope)
        body = b"" if scope["method"] in _READS else body
        gzip = _accepts_gzip(scope["named_headers"])
        if route.lane is Lane.EVENT_LOOP:
            asked = _request(scope, body, self._budget())
            return Answer(compressed(errors.answer(route.handler, asked), gzip=gzip))
        asked = _request(scope, body, self._answering.quick_budget())
        question = _question(route, scope, asked, gzip=gzip)
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

    def _check_access(self, route: Route, scope: Scope) -> None:
        caller: Caller | None = scope["caller"]
        if route.access is Access.OPERATOR:
            self._check_change(caller, scope["named_headers"])
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


def _question(route: Route, scope: Scope, asked: Request, *, gzip: bool) -> Question:
    line = scope["named_headers"].get("x-dashboard-uid", "")[:64]
    return Question(route, asked, _client(asked.caller, scope), line, gzip)


def _client(caller: Caller | None, scope: Scope) -> str:
    """Return who shares turns: callers by name, the anonymous by their address."""
    address = scope.get("client")
    if caller is not None and caller.name != ANONYMOUS:
        return caller.name
    return address[0] if address else ""


def _request(scope: Scope, body: bytes, budget: Budget) -> Request:
    headers: Mapping[str, str] = scope["named_headers"]
    pairs = parameter_pairs(scope["query_string"])
    if body and headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM:
        pairs = parameter_pairs(body) + pairs
    return Request(scope.get("path_params", {}), pairs, body, scope["caller"], budget)


def parameter_pairs(encoded: bytes) -> list[tuple[str, str]]:
    """Return the parameters as `urllib.parse.parse_qsl` does, at a third of its price.

    Raises `RequestError` (400) if there are too many.
    """
    fields = encoded.decode("utf-8", "replace").split("&")
    if len(fields) > MAX_PARAMETERS:
        raise RequestError(400, "bad_data", f"more than {MAX_PARAMETERS} parameters")
    named = [field.partition("=") for field in fields if field]
    return [(_decoded(name), _decoded(value)) for name, _, value in named]


def _decoded(text: str) -> str:
    text = text.replace("+", " ")
    return unquote(text) if "%" in text else text


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


def _accepts_gzip(headers: Mapping[str, str]) -> bool:
    """Tell whether the Accept-Encoding header names gzip, and not with `q=0`."""
    for part in headers.get("accept-encoding", "").lower().split(","):
        coding, _, quality = part.partition(";")
        if coding.strip() == "gzip":
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
