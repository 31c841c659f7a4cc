"""The outermost ASGI layer: refuses what must not be routed, adds security headers, counts."""

import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aggregator import telemetry
from aggregator.api import errors, paths
from aggregator.api.auth import Authenticator, is_led_here
from aggregator.api.edge import Edge
from aggregator.api.exchange import Reply
from aggregator.api.sending import Answer
from aggregator.errors import AggregatorError

_PUBLIC_PATHS = frozenset({"/healthz", "/readyz"})
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


class Gate:
    """Around the framework, whose own layers cost more than most answers.

    Adds `caller` and `named_headers` to the scope.
    """

    def __init__(
        self, app: ASGIApp, authenticator: Authenticator, edge: Edge, *, https: bool
    ) -> None:
        self._app, self._authenticator, self._edge = app, authenticator, edge
        self._added = [*_SECURITY_HEADERS.items()]
        if https:
            self._added.append((b"strict-transport-security", b"max-age=31536000"))

    def at_once(self, scope: Scope, body: bytes) -> Answer | None:
        """Answer a request that has come as a whole, or return None if that takes waiting."""
        started = time.perf_counter()
        route = self._edge.find(scope)
        if route is None:
            return None
        refusal = self._refusal(scope)
        try:
            answer = Answer(refusal) if refusal else self._edge.at_once(route, scope, body)
        except AggregatorError as error:
            answer = Answer(errors.of(error))
        if answer is not None:
            self._harden(answer.raw_headers)
            name = "refused" if refusal else route.path
            _count(name, answer.status_code, time.perf_counter() - started)
        return answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
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
                self._harden(message["headers"])
            await send(message)

        refusal = self._refusal(scope)
        try:
            if refusal is None:
                await self._route(scope, receive, sending)
            else:
                await Answer(refusal)(scope, receive, sending)
        finally:
            name = "refused" if refusal else _template(scope)
            _count(name, status, time.perf_counter() - started)

    def _harden(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Add the security headers that are not there."""
        given = {name for name, _ in headers}
        headers += [pair for pair in self._added if pair[0] not in given]

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what has a route; the framework answers the rest."""
        route = self._edge.find(scope)
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        try:
            response = await self._edge.respond(route, scope, receive)
        except AggregatorError as error:
            response = Answer(errors.of(error))
        await response(scope, receive, send)

    def _refusal(self, scope: Scope) -> Reply | None:
        headers = scope["named_headers"] = _named_headers(scope)
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


def _named_headers(scope: Scope) -> dict[str, str]:
    """Return the headers by name in lower case; one that is repeated is joined by commas."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _template(scope: Scope) -> str:
    """Return the routed path with its parameters unfilled, so that there are few of them."""
    return str(getattr(scope.get("route"), "path", "unknown"))


def _count(route: str, status: int, seconds: float) -> None:
    count, taken = _measures(route, status)
    count.inc()
    taken.observe(seconds)


@lru_cache(maxsize=1_000)
def _measures(route: str, status: int) -> tuple[Counter, Histogram]:
    """Return what counts requests and what measures them; to look them up takes longer."""
    return (
        telemetry.HTTP_REQUESTS.labels(route, str(status)),
        telemetry.HTTP_SECONDS.labels(route),
    )
