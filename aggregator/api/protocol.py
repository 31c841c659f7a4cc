"""uvicorn's connection with the bounds that it lacks: for what we wait, and how long.

Without them one client, unknown to us, could hold every connection by sending its headers slowly,
or fill the memory by never ending them, or by never reading what it asked for.
"""

import asyncio
from typing import Any, Final

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from aggregator.api.gate import Gate
from aggregator.api.sending import PART_BYTES, Answer

# A query string can carry a query.
MAX_HEAD_BYTES: Final = 128 * 1024
_AT_ONCE: Final = frozenset({"GET", "POST"})  # HEAD would have to be answered without the body
_WHOLE_BYTES: Final = 32 * 1024  # a longer body goes the way of ASGI, which knows the limits
_REST_SECONDS: Final = 0.05  # how long a request is held for the rest of its body
_MAX_QUEUED: Final = 100  # requests of a connection that wait for the answer to an earlier one
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\r\n"


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose client owes us the rest of a request for too long.

    That is the rest of a head, from the opening of the connection or from its first byte, the rest
    of a body that was answered already, and a head after anything that is none. Between requests
    uvicorn's own patience holds.

    Cuts off a client that sends too much that is no body, that sends too many requests before it
    has the answer to the first, or that does not read: an answer comes in parts of 256 KiB, and
    each must be taken within the same time.

    A request that is here as a whole and needs no waiting is answered here, head and body in one
    write: a task, its events and two messages would cost more than most of these answers.
    """

    patience_seconds = 10.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  uvicorn's own, passed on
        super().__init__(*args, **kwargs)
        self._in_head, self._may_hold = True, False
        self._begun = False  # a request in what is being parsed
        self._framing_bytes = 0  # of a request: its head, chunk sizes and trailers
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._held: RequestResponseCycle | None = None
        self._rest: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own narrowing
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._settle()
        self._read()
        self._let_go()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse *data*, answer what that completes, and look at what is still owed after it."""
        self._begun = False
        super().data_received(data)
        if not self._begun:
            self._framing_bytes += len(data)
            if self._framing_bytes > MAX_HEAD_BYTES:
                if self._in_head:
                    self.transport.write(_TOO_LARGE)
                self.transport.close()
        if self.transport.is_closing():
            return
        if self._held is not None:
            self._hold(self._held)
        is_awaited = self.timeout_keep_alive_task is not None  # the next request, by uvicorn
        if self._in_head or (self.cycle.response_complete and not is_awaited):
            self._wait()

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
        """Take the head as it is now: complete."""
        self._in_head = False
        self._settle()
        if len(self.pipeline) == _MAX_QUEUED:  # uvicorn goes on reading after each answer
            self.transport.close()
        if self.transport.is_closing():
            return
        self._may_hold = True
        super().on_headers_complete()
        self._may_hold = False

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
        """Wait for the end of what came: the whole request may be there.

        One that was queued behind another is not held: nothing would come that lets it go.
        """
        if self._may_hold and isinstance(app, Gate) and not self.flow.write_paused:
            self._held = cycle
        else:
            super()._start_asgi_task(cycle, app)

    def _hold(self, cycle: RequestResponseCycle) -> None:
        """Wait a moment for the rest of a body; many clients send it in a packet of its own."""
        awaited = cycle.more_body and not cycle.waiting_for_100_continue
        if not awaited or len(cycle.body) > _WHOLE_BYTES:
            self._go_on()
        elif self._rest is None:
            self._rest = self.loop.call_later(_REST_SECONDS, self._go_on)

    def _let_go(self) -> RequestResponseCycle | None:
        held, self._held = self._held, None
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        return held

    def _go_on(self) -> None:
        held = self._let_go()
        if held is not None and not self.transport.is_closing():
            self._answer(held)

    def _answer(self, cycle: RequestResponseCycle) -> None:
        """Answer a request at once if that is possible, else let ASGI do it."""
        gate, answer = self.app, None
        is_whole = not cycle.more_body and len(cycle.body) <= _WHOLE_BYTES
        if is_whole and cycle.scope["method"] in _AT_ONCE:
            answer = gate.at_once(cycle.scope, bytes(cycle.body))
        if answer is None:
            super()._start_asgi_task(cycle, gate)
        elif len(answer.body) > PART_BYTES:
            super()._start_asgi_task(cycle, answer)
        else:
            answer.done()
            self._write(cycle, answer)

    def _write(self, cycle: RequestResponseCycle, answer: Answer) -> None:
        """Write a whole answer, and have uvicorn go on as after one of its own."""
        headers = [*self.server_state.default_headers, *answer.raw_headers]
        if not cycle.keep_alive:
            headers.append((b"connection", b"close"))
        lines = [b"%b: %b\r\n" % header for header in headers]
        head = b"".join((STATUS_LINE[answer.status_code], *lines, b"\r\n"))
        if len(head.splitlines()) != len(headers) + 2:
            raise RuntimeError("a header has more than one line")
        self.transport.write(head + answer.body)
        cycle.response_started = cycle.response_complete = True
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

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
