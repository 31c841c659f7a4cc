"""One HTTP answer as it came, read within its limits, and what its status means."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlsplit

import requests
from isal import isal_zlib

from aggregator.errors import SourceError
from aggregator.sources.failures import Kind, clean_text, failure

_READ_BYTES = 262_144
_ERROR_BYTES = 65_536
# JSON of a source shrinks 5 to 20 times; a bomb shrinks a thousand times.
_MAX_RATIO = 200
_RATIO_FROM_BYTES = 16 * 2**20
_GZIP = 31  # zlib's word for a gzip header and a 32 KiB window


_STATUS = {
    204: (Kind.EMPTY, "it answered without a body; check url"),
    401: (Kind.AUTH, "the credentials are not accepted; check auth"),
    403: (Kind.AUTH, "the credentials do not allow this; check auth and the server's roles"),
    404: (Kind.NOT_FOUND, "nothing is there; check the path of url"),
    407: (Kind.AUTH, "the proxy wants credentials; check proxy_url"),
    408: (Kind.TIMEOUT, "the server gave up waiting; check the network"),
    422: (Kind.EXECUTION, "the query cannot be carried out; narrow or correct it"),
    429: (Kind.RATE_LIMITED, "too many requests; ask more rarely or raise its limits"),
    504: (Kind.QUERY_TIMEOUT, "the query took too long; narrow it or look at the server's load"),
}
_STATUS_CLASS = {
    3: (Kind.REDIRECT, "redirects are not followed; give the final address as url"),
    4: (Kind.BAD_REQUEST, "the request is not accepted; correct the query"),
    5: (Kind.SERVER_ERROR, "the server is in trouble; see its log"),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """The most bytes an answer may have, as sent and after inflation."""

    raw_bytes: int
    inflated_bytes: int


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer of any status with its whole body, inflated; of an error the first 64 KiB."""

    status: int
    headers: "requests.structures.CaseInsensitiveDict[str]"
    body: bytes
    raw_bytes: int

    @property
    def is_html(self) -> bool:
        """Whether this is a page for people: of a login, a proxy, a wrong port."""
        kind = self.headers.get("Content-Type", "").lower()
        return "html" in kind or self.body[:64].lstrip()[:1] == b"<"


@dataclass(frozen=True, slots=True)
class Said:
    """What the server says about its error: Prometheus's type of it, and a text.

    `meaning` is what it means and what to do, where the status alone does not tell.
    """

    kind: str = ""
    text: str = ""
    meaning: tuple[Kind, str] | None = None


Explain: TypeAlias = Callable[[HttpAnswer], Said]


def plain_text(answer: HttpAnswer) -> Said:
    """Return the first line of an answer in plain text."""
    text = answer.body[:4096].decode(errors="replace").strip()
    return Said(text=text.partition("\n")[0])


def read_body(cluster: str, response: requests.Response, limits: Limits) -> tuple[bytes, int]:
    """Return the inflated body of *response* and how many bytes came.

    Raises `SourceMalformedError` if either passes its limit or the compression is broken. An error
    answer is not refused for its length: what is beyond 64 KiB is not read.
    """
    failed = not response.ok
    declared = response.headers.get("Content-Length", "")
    if not failed and declared.isdecimal() and int(declared) > limits.raw_bytes:
        raise _too_large(cluster, limits.raw_bytes)
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip", "x-gzip", ""}:
        text = clean_text(encoding, 40)
        message = f"it answered with encoding {text}, which was not asked for; check proxies"
        raise failure(cluster, Kind.BAD_ENCODING, message)
    inflater = _Inflater(cluster, limits) if encoding.endswith("gzip") else None
    pieces: list[bytes] = []
    raw = 0
    while chunk := response.raw.read1(_READ_BYTES, decode_content=False):
        raw += len(chunk)
        if raw > limits.raw_bytes:
            raise _too_large(cluster, limits.raw_bytes)
        if inflater is None:
            pieces.append(chunk)
        else:
            pieces.extend(inflater.add(chunk, raw))
        if failed and sum(map(len, pieces)) > _ERROR_BYTES:
            return b"".join(pieces)[:_ERROR_BYTES], raw
    if inflater is not None and raw:
        inflater.finish()
    return (pieces[0] if len(pieces) == 1 else b"".join(pieces)), raw


def _too_large(cluster: str, limit: int) -> SourceError:
    message = (
        f"the answer passes the limit of {limit} bytes; narrow the query or raise "
        "limits.response_bytes"
    )
    return failure(cluster, Kind.TOO_LARGE, message)


class _Inflater:
    """Inflates gzip piece by piece and never further than the limit."""

    def __init__(self, cluster: str, limits: Limits) -> None:
        self._cluster, self._limit = cluster, limits.inflated_bytes
        self._stream = isal_zlib.decompressobj(_GZIP)
        self._size = 0

    def add(self, data: bytes, raw: int) -> list[bytes]:
        """Return what *data* inflates to; *raw* bytes have come so far, these included."""
        pieces = []
        while data:
            if self._stream.eof:  # gzip files may follow one another
                self._stream = isal_zlib.decompressobj(_GZIP)
            try:
                piece = self._stream.decompress(data, self._limit + 1 - self._size)
            except isal_zlib.IsalError as error:  # type: ignore[misc]  # the stub declares an instance
                message = "its gzip is broken; see the server's and the proxies' logs"
                raise failure(self._cluster, Kind.BAD_ENCODING, message) from error
            pieces.append(piece)
            self._size += len(piece)
            bomb = self._size > _RATIO_FROM_BYTES and self._size > _MAX_RATIO * raw
            if bomb or self._size > self._limit:
                raise _too_large(self._cluster, self._limit)
            data = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
        return pieces

    def finish(self) -> None:
        """Raise `SourceMalformedError` if the stream has not ended."""
        if not self._stream.eof:
            message = "its gzip was cut off; see the server's and the proxies' logs"
            raise failure(self._cluster, Kind.TRUNCATED, message)


def status_failure(cluster: str, answer: HttpAnswer, said: Said) -> SourceError | None:
    """Return what the status of *answer* means, None if it is a success in form.

    *said* is what the server says, already free of secrets.
    """
    status = answer.status
    if status in {200, 203}:
        return _form_failure(cluster, answer)
    text = "" if answer.is_html else clean_text(said.text)
    kind, advice = said.meaning or _meaning(status, said)
    if kind is Kind.REDIRECT:
        target = urlsplit(answer.headers.get("Location", ""))
        place = clean_text(f"{target.scheme}://{target.netloc.rpartition('@')[2]}", 100)
        text = f"to {place}" if target.netloc else ""
    retry = clean_text(answer.headers.get("Retry-After", ""), 40)
    if retry and kind in {Kind.RATE_LIMITED, Kind.SERVER_ERROR}:
        advice += f" (it asks to wait {retry} s)"
    detail = f"HTTP {status}{': ' if text else ''}{text}; {advice}"
    return failure(cluster, kind, detail)


def _form_failure(cluster: str, answer: HttpAnswer) -> SourceError | None:
    if answer.is_html:
        message = "it answered with an HTML page; url may lead to a login or to the wrong server"
        return failure(cluster, Kind.HTML, message)
    if not answer.body.strip():
        message = "it answered with an empty body; see the server's and the proxies' logs"
        return failure(cluster, Kind.EMPTY, message)
    return None


def _meaning(status: int, said: Said) -> tuple[Kind, str]:
    """Return what a status that is no success means, and what to do."""
    if status == 400 and said.text.startswith("unsupported path"):  # VictoriaMetrics's 404
        status = 404
    if status == 503 and said.kind in {"timeout", "canceled"}:  # Prometheus's 504
        status = 504
    known = _STATUS.get(status) or _STATUS_CLASS.get(status // 100)
    return known or (Kind.WRONG_PROTOCOL, "this status is not expected; check url")
