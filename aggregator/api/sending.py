"""How answers leave: compressed, in parts, and no more of them waiting than fit the memory."""

from collections import Counter
from collections.abc import Callable

from fastapi.responses import Response
from isal import isal_zlib
from starlette.types import Receive, Scope, Send

from aggregator.api.exchange import Reply

_PART_BYTES = 256 * 1024
_SMALL_BYTES = 64 * 1024
_COMPRESS_FROM_BYTES = 1_400  # less fits one packet anyway


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
    """An answer as the framework takes it; *sent* is called once it is sent or given up."""

    def __init__(self, reply: Reply, sent: Callable[[], None] | None = None) -> None:
        self.background = None
        self.body, self.status_code = reply.body, reply.status
        self.raw_headers = _raw_headers(reply)
        self._reply, self._sent = reply, sent

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the answer."""
        try:
            await send_reply(self._reply, send)
        finally:
            if self._sent is not None:
                self._sent()


async def send_reply(reply: Reply, send: Send) -> None:
    """Send an answer in parts, so that the connection copies no more than one of them.

    A reader that does not take a part in time is cut off by `BoundedProtocol`.
    """
    start = {"type": "http.response.start", "status": reply.status}
    await send({**start, "headers": _raw_headers(reply)})
    if len(reply.body) <= _PART_BYTES:
        await send({"type": "http.response.body", "body": reply.body})
        return
    body = memoryview(reply.body)
    for first in range(0, len(body), _PART_BYTES):
        last = first + _PART_BYTES
        part = {"type": "http.response.body", "body": body[first:last]}
        await send({**part, "more_body": last < len(body)})


def compressed(reply: Reply, *, gzip: bool) -> Reply:
    """Return *reply* compressed, if it is long enough and the client takes *gzip*."""
    if len(reply.body) < _COMPRESS_FROM_BYTES:
        return reply
    headers = {**reply.headers, "vary": "accept-encoding"}
    if not gzip:
        return Reply(reply.body, reply.status, reply.content_type, headers)
    body = isal_zlib.compress(reply.body, level=1, wbits=31)
    headers["content-encoding"] = "gzip"
    return Reply(body, reply.status, reply.content_type, headers)


def _raw_headers(reply: Reply) -> list[tuple[bytes, bytes]]:
    """Return the headers of *reply*; its own names are in lower case."""
    return [
        (b"content-length", str(len(reply.body)).encode()),
        (b"content-type", reply.content_type.encode("latin-1")),
        *((name.encode("latin-1"), text.encode("latin-1")) for name, text in reply.headers.items()),
    ]
