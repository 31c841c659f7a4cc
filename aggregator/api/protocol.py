"""uvicorn's connection with the bounds that it lacks: for what we wait, and how long.

Without them one client, unknown to us, could hold every connection by sending its headers slowly,
or fill the memory by never ending them, or by never reading what it asked for.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Final, cast

from httptools import HttpParserError
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from aggregator.api.gate import Entry, Gate
from aggregator.api.heads import PlainRequest, read
from aggregator.api.sending import PART_BYTES, Answer

# A query string can carry a query.
MAX_HEAD_BYTES: Final = 128 * 1024
_WHOLE_BYTES: Final = 32 * 1024  # a longer request goes the way of ASGI, which knows the limits
_REST_SECONDS: Final = 0.05  # how long a request is held for the rest of its body
_MAX_QUEUED: Final = 100  # requests of a connection that wait for the answer to an earlier one
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\r\n"


@dataclass(slots=True)
class _Held:
    """A request that lacks a part of its body, and what came of it."""

    request: PlainRequest
    entry: Entry
    data: bytes


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose client owes us the rest of a request for too long.

    That is the rest of a head, from the opening of the connection or from its first byte, the rest
    of a body that was answered already, and a head after anything that is none. Between requests
    uvicorn's own patience holds.

    Cuts off a client that sends too much that is no body, that sends too many requests before it
    has the answer to the first, or that does not read: an answer comes in parts of 256 KiB, and
    each must be taken within the same time.

    A plain request that is here as a whole and needs no waiting is answered here, head and body in
    one write: to parse it anew, a task, its events and two messages would cost more than most of
    these answers. Many clients send a body in a packet of its own, so it is held for a moment.
    """

    patience_seconds = 10.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  uvicorn's own, passed on
        super().__init__(*args, **kwargs)
        self._gate = cast("Gate", self.app)
        self._peer = ""
        self._in_head = True
        self._begun = False  # a request in what is being parsed
        self._framing_bytes = 0  # of a request: its head, chunk sizes and trailers
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._active = 0.0  # when something came last
        self._untouched = True  # by uvicorn's parser
        self._held: _Held | None = None
        self._rest: asyncio.TimerHandle | None = None
        self._made: Answer | None = None  # for the request that is being parsed

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own narrowing
        """Begin to wait for the first head."""
        super().connection_made(transport)
        if self.scheme == "http":  # what is written is sent at once, as far as the socket takes it
            transport.set_write_buffer_limits(0)
        self._peer = self.client[0] if self.client else ""
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._settle()
        self._read()
        self._let_go()
        self._unset_keepalive_if_required()  # uvicorn leaves it to fire after a reset
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Answer a request at once, or parse *data* and look at what is still owed after it."""
        self._active = self.loop.time()
        if self._held is not None:
            held, self._held = self._held, None
            data = held.data + data
            done = self._take(held.request, held.entry, data)
        else:
            request = read(data, self._peer) if self._is_between() else None
            done = request is not None and self._begin(request, data)
        if not done:
            self._parse(data)

    def shutdown(self) -> None:
        """Close the connection after the answer to who waits for one; a held request does."""
        held, self._held = self._held, None
        if held is not None:
            self._parse(held.data)
        super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        """Go on waiting, or close the connection if nothing came for too long."""
        rest = self._active + self.timeout_keep_alive - self.loop.time()
        if rest > 0 and not self.transport.is_closing():
            self._await_next(rest)
        else:
            super().timeout_keep_alive_handler()

    def on_message_begin(self) -> None:
        """Begin to count the bytes of a request."""
        self._in_head = self._begun = True
        self._framing_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of a head. Trailers are dropped: a proxy that checks heads may pass them."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Take the head as it is now: complete.

        Another protocol is never spoken, but the parser takes what follows an offer to do so for
        that: a body would be lost, or be the next request, with a user that no proxy has checked.
        """
        self._in_head = False
        self._settle()
        offers = self.parser.should_upgrade()
        if offers and any(_is_of_body(*field) for field in self.headers):
            raise HttpParserError("a body behind an offer of another protocol")
        if len(self.pipeline) == _MAX_QUEUED:  # uvicorn goes on reading after each answer
            self.transport.close()
        if not self.transport.is_closing():
            super().on_headers_complete()
            self.cycle.keep_alive &= not offers

    def on_body(self, body: bytes) -> None:
        """Take a part of a body, which has a limit of its own."""
        self._framing_bytes -= len(body)
        super().on_body(body)

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.patience_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        self._read()
        super().resume_writing()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Let ASGI answer, or send what is answered already."""
        made, self._made = self._made, None
        super()._start_asgi_task(cycle, app if made is None else cast("ASGI3Application", made))

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: who offers another protocol is answered in this one."""

    def _is_between(self) -> bool:
        """Tell whether the next byte begins a request, and nobody waits for an answer."""
        if self.flow.write_paused:  # who does not read gets nothing more to read
            return False
        if self._untouched:
            return True
        is_answered = not self._in_head and self.cycle.response_complete
        return is_answered and not self.cycle.more_body

    def _begin(self, request: PlainRequest, data: bytes) -> bool:
        """Answer *request* or hold it for its body; tell whether that is done."""
        if request.end > _WHOLE_BYTES or self._is_crowded():
            return False
        self._settle()
        entry = self._gate.enter(request.head)
        if len(data) >= request.end:
            return self._take(request, entry, data)
        self._held = _Held(request, entry, data)
        if self._rest is None:
            self._rest = self.loop.call_later(_REST_SECONDS, self._give_in)
        return True

    def _take(self, request: PlainRequest, entry: Entry, data: bytes) -> bool:
        """Answer *request* if *data* is all of it and that needs no waiting; tell whether so.

        What nobody expected counts as a failed request and goes on to the event loop, which logs
        it and closes the connection.
        """
        if len(data) != request.end:
            return False
        try:
            answer = self._gate.at_once(entry, data[request.body :])
            if answer is None:
                return False
            if len(answer.body) > PART_BYTES:
                self._send_in_parts(answer, data)
            else:
                self._write(answer)
        except BaseException:
            self._gate.leave(entry, 500)
            raise
        self._gate.leave(entry, answer.status_code)
        return True

    def _write(self, answer: Answer) -> None:
        try:
            self.transport.write(answer.whole(self.server_state.default_headers))
        finally:
            answer.done()
        if self.timeout_keep_alive_task is None:
            self._await_next(self.timeout_keep_alive)

    def _send_in_parts(self, answer: Answer, data: bytes) -> None:
        """Have uvicorn send *answer* to the request that *data* is."""
        self._made = answer
        self._parse(data)
        if self._made is not None:  # it was not begun
            self._made = None
            answer.done()

    def _parse(self, data: bytes) -> None:
        self._untouched = self._begun = False
        super().data_received(data)
        if not self._begun:
            self._framing_bytes += len(data)
            if self._framing_bytes > MAX_HEAD_BYTES:
                if self._in_head:
                    self.transport.write(_TOO_LARGE)
                self.transport.close()
        if self.transport.is_closing():
            return
        is_awaited = self.timeout_keep_alive_task is not None  # the next request, by uvicorn
        if self._in_head or (self.cycle.response_complete and not is_awaited):
            self._wait()

    def _give_in(self) -> None:
        """Let uvicorn wait for the rest of a body, if it was held for long enough."""
        self._rest = None
        if self._held is None:
            return
        rest = self._active + _REST_SECONDS - self.loop.time()
        if rest > 0:
            self._rest = self.loop.call_later(rest, self._give_in)
            return
        held, self._held = self._held, None
        self._parse(held.data)

    def _let_go(self) -> None:
        self._held = None
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None

    def _is_crowded(self) -> bool:
        """Tell whether uvicorn would refuse a request, for there are too many."""
        limit = self.limit_concurrency
        return limit is not None and max(len(self.connections), len(self.tasks)) >= limit

    def _await_next(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            seconds, self.timeout_keep_alive_handler
        )

    def _read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _wait(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.patience_seconds, self._give_up)

    def _settle(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self.transport.close()


def _is_of_body(name: bytes, value: bytes) -> bool:
    """Tell whether a field of a head says that a body follows."""
    return name == b"transfer-encoding" or (name == b"content-length" and int(value) > 0)
