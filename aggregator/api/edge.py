"""The ASGI side: bodies, disconnects, compression and access around plain handler functions.

With `sending` the only asynchronous module. Handlers run in our own pool and return ready bytes;
health answers on the event loop and never waits for them.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final, TypeAlias
from urllib.parse import parse_qsl

import fastapi
from fastapi.responses import Response
from fastapi.routing import APIRoute
from isal import isal_zlib
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aggregator import telemetry
from aggregator.api import errors, paths
from aggregator.api.auth import ANONYMOUS, Authenticator, is_led_here
from aggregator.api.exchange import Access, Caller, Lane, Reach, Reply, Request, RequestError, Route
from aggregator.api.pool import FairPool
from aggregator.api.sending import Answer, Unsent
from aggregator.api.settings import ApiSettings, QueryLimits, Role
from aggregator.errors import AggregatorError
from aggregator.model.budget import Budget

Endpoint: TypeAlias = Callable[[fastapi.Request], Awaitable[Response]]
# By method and path: what answers without the framework's routing, which costs 50 µs.
Direct: TypeAlias = Mapping[tuple[str, str], tuple[Route, Endpoint]]

MAX_BODY_BYTES: Final = 2**20
MAX_PARAMETERS: Final = 1_000
_BODY_SECONDS = 10.0
_COMPRESS_FROM_BYTES = 1_400  # less fits one packet anyway
_PUBLIC_PATHS = frozenset({"/healthz", "/readyz"})
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_FORM = "application/x-www-form-urlencoded"
_THREADS_PER_YOUNG = 3
_WATCH_SECONDS = 0.02
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_SECURITY_HEADERS: Final[Mapping[bytes, bytes]] = {
    b"content-security-policy": _POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-store",
}


class Edge:
    """Runs handlers on behalf of an ASGI server."""

    def __init__(self, settings: ApiSettings, authenticator: Authenticator) -> None:
        self._authenticator, self._limits = authenticator, settings.query
        young = settings.query.concurrency
        self._pool = FairPool(young, young * _THREADS_PER_YOUNG)
        self._unsent = Unsent(settings.query.bytes)
        self.direct: dict[tuple[str, str], tuple[Route, Endpoint]] = {}
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

    def endpoint(self, route: Route) -> Endpoint:
        """Return what the framework calls for *route*."""

        async def serve(request: fastapi.Request) -> Response:
            headers = _headers(request.scope)
            caller: Caller | None = request.scope["caller"]
            if route.access is Access.OPERATOR:
                self._check_change(caller, headers)
            if caller is not None and caller.scope and route.reach is Reach.FLEET:
                raise RequestError(403, "forbidden", "this token sees only the series of its match")
            budget = _budget(self._limits)
            pairs = _pairs(request.scope["query_string"])
            body = b""
            if request.method not in _READS:
                body = await _body(request.receive)
                if headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM:
                    pairs = [*_pairs(body), *pairs]
            asked = Request(request.path_params, pairs, body, caller, budget)
            gzip = _accepts_gzip(headers.get("accept-encoding", ""))
            match route.lane:
                case Lane.EVENT_LOOP:
                    return Answer(_compressed(errors.answer(route.handler, asked), gzip))
                case Lane.ASIDE:
                    loop = asyncio.get_running_loop()
                    work = loop.run_in_executor(self._aside, errors.answer, route.handler, asked)
                    return Answer(_compressed(await work, gzip))
                case Lane.POOL:
                    line = headers.get("x-dashboard-uid", "")[:64]
                    turn = _Turn(_client(caller, request.scope), line, request.receive, gzip)
                    return await self._pooled(route, asked, turn)

        if "{" not in route.path:
            self.direct.update({(method, route.path): (route, serve) for method in route.methods})
        return serve

    def install(self, app: fastapi.FastAPI) -> None:
        """Let *app* answer what fails outside of our handlers in our envelopes."""
        methods: dict[str, set[str]] = {}
        for route in app.routes:
            if isinstance(route, APIRoute):
                methods.setdefault(route.path, set()).update(route.methods or ())

        async def not_routed(request: fastapi.Request, error: Exception) -> Response:
            status = error.status_code if isinstance(error, HTTPException) else 500
            reply = errors.not_routed(request.url.path, status)
            allowed = methods.get(_template(request.scope), set()) if status == 405 else set()
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

    def _check_change(self, caller: Caller | None, headers: Mapping[str, str]) -> None:
        if caller is None or caller.role is not Role.OPERATOR:
            raise RequestError(403, "forbidden", "this needs the role operator")
        if not self._authenticator.knows_origin(headers.get("origin"), headers.get("host", "")):
            raise RequestError(403, "forbidden", "the page that sent this is not one of ours")

    async def _pooled(self, route: Route, asked: Request, turn: "_Turn") -> Response:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Reply | None] = loop.create_future()

        def deliver(reply: Reply | None) -> None:
            if not done.done():
                done.set_result(reply)

        def job() -> None:
            request = replace(asked, queued_seconds=asked.budget.elapsed_seconds)
            reply = _compressed(errors.answer(route.handler, request), turn.gzip)
            with contextlib.suppress(RuntimeError):  # the loop has ended, nobody waits
                loop.call_soon_threadsafe(deliver, reply)

        async def watch() -> None:
            await _disconnected(turn.receive)
            deliver(None)

        if not self._pool.submit(turn.client, turn.line, job):
            raise _busy("too many requests are waiting")
        watching: list[asyncio.Task[None]] = []  # a quick answer does not need it
        later = loop.call_later(
            _WATCH_SECONDS, lambda: watching.append(asyncio.create_task(watch()))
        )
        reply = None
        try:
            reply = await done
        finally:
            later.cancel()
            for task in watching:
                task.cancel()
            if reply is None:
                done.cancel()
                asked.budget.cancel("the client went away")
        if reply is None:
            return Response(status_code=499)
        if not self._unsent.admit(turn.client, len(reply.body)):
            raise _busy("too many large answers wait for their readers")
        return Answer(reply, lambda: self._unsent.release(turn.client, len(reply.body)))


@dataclass(frozen=True, slots=True)
class _Turn:
    """Whose turn a request waits for, how it is told that they left, and what they accept."""

    client: str
    line: str
    receive: Receive
    gzip: bool


class Gate:
    """Middleware: refuses what must not be routed, adds security headers, counts requests."""

    def __init__(
        self, app: ASGIApp, authenticator: Authenticator, direct: Direct, https: bool
    ) -> None:
        self._app, self._authenticator, self._direct = app, authenticator, direct
        self._added = dict(_SECURITY_HEADERS)
        if https:
            self._added[b"strict-transport-security"] = b"max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"]
                given = {name.lower() for name, _ in headers}
                headers.extend(pair for pair in self._added.items() if pair[0] not in given)
            await send(message)

        refusal = self._refusal(scope)
        try:
            if refusal is None:
                await self._route(scope, receive, sending)
            else:
                await Answer(refusal)(scope, receive, sending)
        finally:
            route = "refused" if refusal else _template(scope)
            telemetry.HTTP_REQUESTS.labels(route, str(status)).inc()
            telemetry.HTTP_SECONDS.labels(route).observe(time.perf_counter() - started)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the endpoint of a plain path answer; the framework routes what has parameters."""
        found = self._direct.get((scope["method"], scope["path"]))
        if found is None:
            await self._app(scope, receive, send)
            return
        scope["route"], endpoint = found
        try:
            response = await endpoint(fastapi.Request(scope, receive))
        except AggregatorError as error:
            response = Answer(errors.of(error))
        await response(scope, receive, send)

    def _refusal(self, scope: Scope) -> Reply | None:
        headers = _headers(scope)
        if not paths.is_plain(scope.get("raw_path") or scope["path"].encode()):
            return errors.reply(400, "bad_data", "write the path plainly: no //, dots, %2F or %25")
        client = scope.get("client")
        scope["caller"] = self._authenticator.caller(headers, client[0] if client else "")
        if scope["path"] in _PUBLIC_PATHS:
            return None
        if not self._authenticator.knows_host(headers.get("host", "")):
            return errors.reply(
                403, "forbidden", "unknown Host; name it in api.hosts or set api.external_url"
            )
        if is_led_here(scope["method"], headers):
            return errors.reply(403, "forbidden", "a page of another site sent this")
        if scope["caller"] is None:
            refused = errors.reply(
                401, "unauthorized", "a token is needed: Authorization: Bearer …"
            )
            challenge = {"www-authenticate": 'Basic realm="fleet aggregator", charset="UTF-8"'}
            return Reply(refused.body, 401, headers=challenge)
        return None


def _template(scope: Scope) -> str:
    """Return the routed path with its parameters unfilled, so that there are few of them."""
    return str(getattr(scope.get("route"), "path", "unknown"))


def _client(caller: Caller | None, scope: Scope) -> str:
    """Return who shares turns: callers by name, the anonymous by their address."""
    address = scope.get("client")
    if caller is not None and caller.name != ANONYMOUS:
        return caller.name
    return address[0] if address else ""


def _busy(reason: str) -> RequestError:
    return RequestError(503, "unavailable", f"{reason}; try again", {"retry-after": "1"})


def _budget(limits: QueryLimits) -> Budget:
    return Budget(
        timeout_seconds=limits.timeout / 1000,
        max_samples=limits.samples,
        max_series=limits.series,
        max_bytes=limits.bytes,
    )


def _headers(scope: Scope) -> dict[str, str]:
    """Return the headers by name in lower case; one that is repeated is joined by commas."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _pairs(encoded: bytes) -> list[tuple[str, str]]:
    try:
        text = encoded.decode("utf-8", "replace")
        return parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError as error:
        raise RequestError(400, "bad_data", f"more than {MAX_PARAMETERS} parameters") from error


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


async def _disconnected(receive: Receive) -> None:
    """Return when the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _accepts_gzip(header: str) -> bool:
    """Tell whether an Accept-Encoding header names gzip, and not with `q=0`."""
    for part in header.lower().split(","):
        coding, _, quality = part.partition(";")
        if coding.strip() == "gzip":
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _compressed(reply: Reply, gzip: bool) -> Reply:
    if len(reply.body) < _COMPRESS_FROM_BYTES:
        return reply
    headers = {**reply.headers, "vary": "accept-encoding"}
    if not gzip:
        return Reply(reply.body, reply.status, reply.content_type, headers)
    body = isal_zlib.compress(reply.body, level=1, wbits=31)
    headers["content-encoding"] = "gzip"
    return Reply(body, reply.status, reply.content_type, headers)
