"""The head of a request: as ASGI gives it, or read here if it is a plain one, as most are.

A client that keeps its connection sends the same fields again and again, so what they say is kept.
What is not quite plain is left to uvicorn, whose parser also reads the fields here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import httptools
from starlette.types import Scope

from aggregator.model.record import record

_LINE: Final = re.compile(rb"(GET|POST) (/[\w./~-]*)(?:\?([!\"$-~]*))? HTTP/1\.1\r\n")
_END: Final = b"\r\n\r\n"
_MAX_FIELDS, _MAX_FIELDS_BYTES = 64, 4096  # what is kept must not fill the memory
_STAYS: Final = "keep-alive"
_NOT_PLAIN: Final = frozenset({"transfer-encoding", "expect", "upgrade", "proxy-connection"})


@record
class RequestHead:
    """What was asked for, and the address of who asked.

    `headers` are by name in lower case; one that is repeated is joined by commas.
    """

    method: str
    path: str
    raw_path: bytes
    query: bytes
    headers: Mapping[str, str] = field(repr=False)  # they hold secrets
    peer: str


@record
class PlainRequest:
    """A head, where the body begins behind it, and where that ends."""

    head: RequestHead
    body: int
    end: int


@dataclass(frozen=True, slots=True)
class _Fields:
    headers: Mapping[str, str]
    body_bytes: int


def of_scope(scope: Scope) -> RequestHead:
    """Return the head of what ASGI gives."""
    client, path = scope.get("client"), scope["path"]
    return RequestHead(
        scope["method"],
        path,
        scope.get("raw_path") or path.encode(),
        scope["query_string"],
        _by_name(scope["headers"]),
        client[0] if client else "",
    )


def read(data: bytes, peer: str) -> PlainRequest | None:
    """Return the request that *data* begins with, None if its head is not whole or not plain."""
    line = _LINE.match(data)
    if line is None:
        return None
    first = line.end()
    last = data.find(_END, first - 2, first + _MAX_FIELDS_BYTES)
    fields = _fields(data[first : last + 2]) if last >= 0 else None
    if fields is None:
        return None
    method, path, query = line.groups(b"")
    head = RequestHead(method.decode(), path.decode(), path, query, fields.headers, peer)
    return PlainRequest(head, last + 4, last + 4 + fields.body_bytes)


@lru_cache(maxsize=256)
def _fields(lines: bytes) -> _Fields | None:
    """Return what the fields of a head say, None if they ask for more than an answer."""
    seen = _Seen()
    parser = httptools.HttpRequestParser(seen)
    try:
        parser.feed_data(b"POST / HTTP/1.1\r\n" + lines + b"\r\n")
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    if len(seen.fields) > _MAX_FIELDS:
        return None
    headers = _by_name(seen.fields)
    stays = headers.get("connection", _STAYS).lower() == _STAYS
    if not (seen.complete and stays) or headers.keys() & _NOT_PLAIN:
        return None
    return _Fields(headers, int(headers.get("content-length", "0")))


class _Seen:
    """What the parser tells of a head."""

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.complete = True


def _by_name(fields: list[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in fields:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
