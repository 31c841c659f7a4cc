"""How answers leave: in parts, and no more of them waiting than fit the memory."""

from collections import Counter
from collections.abc import Callable

from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from aggregator.api.exchange import Reply

_PART_BYTES = 256 * 1024
_SMALL_BYTES = 64 * 1024


class Unsent:
    """Counts the bytes of answers that are not sent yet, on the event loop.

    One answer is always taken, whatever its size; a client may hold half of the limit.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes: Counter[str] = Counter()

    def admit(self, client: str, size: int) -> bool:
        """Count an answer for *client*, or return False if there are too many bytes."""
        held, own = self._bytes.total(), self._bytes[client]
        fits = held + size <= self._limit and own + size <= self._limit // 2
        if fits or not own or size < _SMALL_BYTES:
            self._bytes[client] += size
            return True
        return False

    def release(self, client: str, size: int) -> None:
        """Forget an answer that was sent or given up."""
        self._bytes[client] -= size
        if not self._bytes[client]:
            del self._bytes[client]


class Answer(Response):
    """An answer that is sent in parts, so that the connection copies no more than one of them.

    A reader that does not take a part in time is cut off by `BoundedProtocol`. *sent* is called
    once the bytes are sent or given up.
    """

    def __init__(self, reply: Reply, sent: Callable[[], None] | None = None) -> None:
        super().__init__(
            reply.body, reply.status, {"content-type": reply.content_type, **reply.headers}
        )
        self._sent = sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        try:
            if len(self.body) <= _PART_BYTES:
                await super().__call__(scope, receive, send)
                return
            start = {"type": "http.response.start", "status": self.status_code}
            await send({**start, "headers": self.raw_headers})
            body = memoryview(self.body)
            for first in range(0, len(body), _PART_BYTES):
                last = first + _PART_BYTES
                part = {"type": "http.response.body", "body": body[first:last]}
                await send({**part, "more_body": last < len(body)})
        finally:
            if self._sent is not None:
                self._sent()
