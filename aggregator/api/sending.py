"""How answers leave: compressed, in parts, and no more of them waiting than fit the memory."""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final, TypeAlias

from fastapi.responses import Response
from isal import isal_zlib
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from aggregator.api.exchange import Reply

Field: TypeAlias = tuple[bytes, bytes]

PART_BYTES: Final = 256 * 1024
SMALL_BYTES: Final = 64 * 1024  # answers that do not count, whoever waits for them
_COMPRESS_FROM_BYTES = 1_400  # less fits one packet anyway


class Unsent:
    """Counts the bytes of large answers that are not sent yet, on the event loop.

    One answer is always taken, whatever its size; a client may hold half of the limit.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes: Counter[str] = Counter()

    def admit(self, client: str, size: int) -> bool:
        """Count an answer for *client*, or return False if there are too many bytes."""
        held, own = self._bytes.total(), self._bytes[client]
        fits = held + size <= self._limit and own + size <= self._limit // 2
        if fits or not own:
            self._bytes[client] += size
            return True
        return False

    def release(self, client: str, size: int) -> None:
        """Forget an answer that was sent or given up."""
        self._bytes[client] -= size
        if not self._bytes[client]:
            del self._bytes[client]


class Answer(Response):
    """An answer as ASGI takes it; call `done` once it is sent or given up, unless that did.

    `fields` are those of its head but the length, in place of what `Response` keeps of it.
    """

    def __init__(self, reply: Reply, release: Callable[[], None] | None = None) -> None:
        self.background = None
        self.body, self.status_code = reply.body, reply.status
        self.fields = _fields(reply.content_type, *reply.headers.items())
        self._release = release

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the answer in parts, so that the connection copies no more than one of them.

        A reader that does not take a part in time is cut off by `BoundedProtocol`.
        """
        start = {"type": "http.response.start", "status": self.status_code}
        length = b"content-length", b"%d" % len(self.body)
        try:
            await send({**start, "headers": [length, *self.fields]})
            body = memoryview(self.body)
            for first in range(0, len(body) or 1, PART_BYTES):
                last = first + PART_BYTES
                part = {"type": "http.response.body", "body": body[first:last]}
                await send({**part, "more_body": last < len(body)})
        finally:
            self.done()

    def whole(self, common: Iterable[Field]) -> bytes:
        """Return all that is sent if the connection is kept, with the fields *common* to answers.

        Raises `RuntimeError` if a field has more than one line.
        """
        length = b"content-length: %d\r\n" % len(self.body)
        rest = _lines(*common, *self.fields)
        return b"".join((STATUS_LINE[self.status_code], length, rest, self.body))

    def done(self) -> None:
        """Count the answer no longer among those that are not sent."""
        if self._release is not None:
            self._release()


@lru_cache(maxsize=256)
def _fields(content_type: str, *headers: tuple[str, str]) -> tuple[Field, ...]:
    """Return the fields of a reply but its length; its own names are in lower case."""
    fields = ("content-type", content_type), *headers
    return tuple((name.encode("latin-1"), text.encode("latin-1")) for name, text in fields)


@lru_cache(maxsize=256)  # they differ by their second, and hardly else
def _lines(*fields: Field) -> bytes:
    lines = b"".join([b"%b: %b\r\n" % field for field in fields])
    if len(lines.splitlines()) != len(fields):
        raise RuntimeError("a field has more than one line")
    return lines + b"\r\n"


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
