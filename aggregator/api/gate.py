"""The outermost ASGI layer: refuses what must not be routed, adds security headers, counts."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aggregator.api import errors, paths
from aggregator.api.auth import Authenticator, is_led_here
from aggregator.api.edge import Edge, Visit
from aggregator.api.exchange import JSON, TEXT, Caller, Reply
from aggregator.api.heads import RequestHead, of_scope
from aggregator.api.sending import Answer, Field
from aggregator.errors import AggregatorError
from aggregator.telemetry import HTTP_REQUESTS

_PUBLIC_PATHS = frozenset({"/healthz", "/readyz"})
# Data is not taken for anything else, and no page of another site loads it.
_POSTED_HEADERS: Final[dict[bytes, bytes]] = {
    b"x-content-type-options": b"nosniff",
    b"cross-origin-resource-policy": b"same-origin",
}
# What an address alone leads to is neither kept nor framed. An answer to POST is not kept anyway,
# unless it says for how long (RFC 9110, 9.3.3).
_DATA_HEADERS: Final[dict[bytes, bytes]] = {
    **_POSTED_HEADERS,
    b"cache-control": b"no-store",
    b"x-frame-options": b"DENY",
}
# Of what a browser shows as a page, or loads for one.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_PAGE_HEADERS: Final[dict[bytes, bytes]] = {
    **_DATA_HEADERS,
    b"content-security-policy": _POLICY.encode(),
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
}
_DATA_TYPES: Final = frozenset({JSON.encode(), TEXT.encode()})


@dataclass(slots=True)
class Entry:
    """A request whose head is known: who answers, None if nobody does, or why it is refused."""

    method: str
    visit: Visit | None
    refusal: Reply | None
    started: float = field(default_factory=time.perf_counter)


class Gate:
    """Around the framework, whose own layers cost more than most answers."""

    def __init__(
        self, app: ASGIApp, authenticator: Authenticator, edge: Edge, *, https: bool
    ) -> None:
        self._app, self._authenticator, self._edge = app, authenticator, edge
        always = {b"strict-transport-security": b"max-age=31536000"} if https else {}
        self._of_posted = [*(_POSTED_HEADERS | always).items()]
        self._of_data = [*(_DATA_HEADERS | always).items()]
        self._of_pages = [*(_PAGE_HEADERS | always).items()]
        # all but the length is often the same
        self._hardened = lru_cache(maxsize=256)(self._harden)

    def enter(self, head: RequestHead) -> Entry:
        """Settle who asks, whether they may, and who answers; the body may come later."""
        caller = self._authenticator.caller(head.headers, head.peer)
        return Entry(head.method, self._edge.find(head, caller), self._refusal(head, caller))

    def at_once(self, entry: Entry, body: bytes) -> Answer | None:
        """Answer a request that has come as a whole, or return None if that takes waiting.

        Call `leave` when the answer is on its way.
        """
        entry.started = time.perf_counter()
        if entry.visit is None:
            return None
        try:
            answer = (
                self._edge.at_once(entry.visit, body)
                if entry.refusal is None
                else Answer(entry.refusal)
            )
        except AggregatorError as error:
            answer = Answer(errors.of(error))
        if answer is not None:
            answer.fields = self._hardened(entry.method, answer.fields)
        return answer

    def leave(self, entry: Entry, status: int) -> None:
        """Count a request that was answered."""
        visit = entry.visit
        name = "refused" if entry.refusal else "unknown" if visit is None else visit.route.path
        HTTP_REQUESTS.observe(name, status, time.perf_counter() - entry.started)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        entry, status = self.enter(of_scope(scope)), 500

        async def sending(message: Message) -> None:
            nonlocal status
            starts = message["type"] == "http.response.start"
            if starts:
                message["headers"] = self._harden(entry.method, message["headers"])
            await send(message)
            if starts:  # what cannot be sent is a failure
                status = message["status"]

        try:
            if entry.refusal is not None:
                await Answer(entry.refusal)(scope, receive, sending)
            elif entry.visit is not None:
                await self._answer(entry.visit, scope, receive, sending)
            else:
                await self._app(scope, receive, sending)
        finally:
            self.leave(entry, status)

    async def _answer(self, visit: Visit, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._edge.respond(visit, receive)
        except AggregatorError as error:
            response = Answer(errors.of(error))
        await response(scope, receive, send)

    def _harden(self, method: str, fields: Sequence[Field]) -> tuple[Field, ...]:
        """Return *fields* and the security headers that are not among them."""
        given = dict(fields)
        if given.get(b"content-type") not in _DATA_TYPES:
            added = self._of_pages
        else:
            added = self._of_posted if method == "POST" else self._of_data
        return (*fields, *(pair for pair in added if pair[0] not in given))

    def _refusal(self, head: RequestHead, caller: Caller | None) -> Reply | None:
        headers = head.headers
        if not paths.is_plain(head.raw_path):
            return errors.reply(400, "bad_data", "write the path plainly: no //, dots, %2F or %25")
        if head.path in _PUBLIC_PATHS:
            return None
        if not self._authenticator.knows_host(headers.get("host", "")):
            return errors.reply(
                403, "forbidden", "unknown Host; name it in api.hosts or set api.external_url"
            )
        if is_led_here(head.method, headers):
            return errors.reply(403, "forbidden", "a page of another site sent this")
        if caller is None:
            refused = errors.reply(
                401, "unauthorized", "a token is needed: Authorization: Bearer …"
            )
            challenge = {"www-authenticate": 'Basic realm="fleet aggregator", charset="UTF-8"'}
            return Reply(refused.body, 401, headers=challenge)
        return None
