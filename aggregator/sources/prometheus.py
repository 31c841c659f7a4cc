"""Reads one cluster's Prometheus, or what speaks its API.

`PrometheusConnect` is made safe: it works over our session, so that what it inherits has a total
deadline, byte limits and our errors too, and the queries of collection are added as columns.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec
import orjson
import requests
from prometheus_api_client.prometheus_connect import PrometheusConnect
from urllib3.util import Retry

from aggregator.errors import SourceError, SourceUnreachableError
from aggregator.model.arrays import Floats, Ints
from aggregator.sources.answer import HttpAnswer, Said, plain_text
from aggregator.sources.decode import decode
from aggregator.sources.dialects import (
    DIALECTS,
    PROMETHEUS,
    Dialect,
    DialectName,
    of_address,
    of_build,
)
from aggregator.sources.failures import Kind, failure
from aggregator.sources.http import SourceSession
from aggregator.sources.settings import PrometheusSettings

# Another replica would say the same of these.
_SAME_ELSEWHERE = {
    Kind.BAD_REQUEST,
    Kind.EXECUTION,
    Kind.QUERY_TIMEOUT,
    Kind.TOO_LARGE,
    Kind.RATE_LIMITED,
}
_MIN_TRY_SECONDS = 0.05
_BUILD = "/api/v1/status/buildinfo"


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a query: series one after the other, in the order of the server.

    The samples of series k are `offsets[k]:offsets[k + 1]` of `times` (ms UTC) and `values`.
    `metrics` holds each series' labels as the server wrote them, a JSON object of strings; it is
    None when `digest` is the one the caller knows: then the label sets, in this order, are those
    of that answer. A label set can occur twice. `warnings` mean that the answer may be partial.
    """

    digest: bytes
    metrics: tuple[bytes, ...] | None
    offsets: Ints
    times: Ints
    values: Floats
    warnings: tuple[str, ...]
    infos: tuple[str, ...]
    raw_bytes: int
    inflated_bytes: int
    server_date_ms: int | None

    @property
    def series(self) -> int:
        """How many series there are."""
        return self.offsets.size - 1


class _CheckedResponse(requests.Response):
    """An answer that was read and checked, in the shape that PrometheusConnect's methods expect."""

    def __init__(self, cluster: str, request: requests.PreparedRequest, answer: HttpAnswer) -> None:
        super().__init__()
        self._cluster, self._answer = cluster, answer
        self.status_code, self.headers = answer.status, answer.headers
        self.url, self.request = request.url or "", request

    @property
    def content(self) -> bytes:
        """The whole body."""
        return self._answer.body

    def json(self, **kwargs: object) -> object:
        """Return Prometheus's envelope, which has data. Raises `SourceMalformedError`."""
        del kwargs
        try:
            envelope = orjson.loads(self._answer.body)
        except orjson.JSONDecodeError:
            envelope = None
        if not isinstance(envelope, dict) or "data" not in envelope:
            message = "its answer is not Prometheus's JSON; does url lead to the right server?"
            raise failure(self._cluster, Kind.WRONG_JSON, message)
        return envelope


class PrometheusSession(SourceSession):
    """A session that code which knows requests alone can use as well."""

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:  # noqa: ANN401  requests' own, and all overruled
        """Send *request* for code that knows requests alone (PrometheusConnect's own methods).

        Raises `SourceError` for everything but a success.
        """
        timeout = kwargs.get("timeout")
        seconds = float(timeout) if isinstance(timeout, int | float) else None
        return _CheckedResponse(self.cluster, request, self.exchange(request, seconds))


class SafePrometheusConnect(PrometheusConnect):
    """One Prometheus server over a session of ours, which every inherited method uses too."""

    def __init__(self, session: PrometheusSession) -> None:
        super().__init__(url=session.base, session=session, retry=Retry(0))
        session.remount()  # the base class has just mounted an adapter of its own over ours
        self._source_session = session

    def query_columns(
        self,
        path: str,
        params: Sequence[tuple[str, str]],
        known: bytes | None,
        timeout_seconds: float,
    ) -> Answer:
        """Ask a query endpoint and decode its answer. Raises `SourceError`."""
        # A server that knows when we give up does not work on.
        limited = [*params, ("timeout", f"{timeout_seconds:.3f}")]
        answer = self._source_session.ask(path, limited, timeout_seconds)
        decoded = decode(answer.body, known, cluster=self._source_session.cluster)
        return Answer(
            decoded.digest,
            decoded.metrics,
            decoded.offsets,
            decoded.times,
            decoded.values,
            tuple(map(self._source_session.redact, decoded.warnings)),
            tuple(map(self._source_session.redact, decoded.infos)),
            answer.raw_bytes,
            len(answer.body),
            _date_ms(answer),
        )

    def dialect(self, timeout_seconds: float) -> Dialect:
        """Return what the server says that it is. Raises `SourceError`."""
        return of_build(self._source_session.ask(_BUILD, (), timeout_seconds))


class PrometheusSource:
    """A cluster's Prometheus. With replicas it stays with one until that fails."""

    def __init__(
        self,
        cluster: str,
        settings: PrometheusSettings,
        *,
        timeout_seconds: float = 10.0,
        connect_seconds: float = 3.0,
        max_bytes: int = 64 * 2**20,
        gzip: bool = True,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        proxy_url = None if settings.proxy_url is None else str(settings.proxy_url)
        self._servers = tuple(
            SafePrometheusConnect(
                PrometheusSession(
                    cluster,
                    str(url),
                    auth=settings.auth,
                    tls=settings.tls,
                    proxy_url=proxy_url,
                    timeout_seconds=timeout_seconds,
                    connect_seconds=connect_seconds,
                    max_bytes=max_bytes,
                    gzip=gzip,
                    tenant=settings.tenant,
                    explain=prometheus_error,
                )
            )
            for url in settings.urls
        )
        self._chosen = 0
        self._clock_offset_ms: int | None = None
        set_ = settings.dialect is not DialectName.AUTO
        self._dialect = DIALECTS[settings.dialect] if set_ else of_address(str(settings.urls[0]))

    @property
    def dialect(self) -> Dialect:
        """How the server differs from Prometheus, as far as it was set or found out."""
        return PROMETHEUS if self._dialect is None else self._dialect

    def find_dialect(self, timeout_seconds: float) -> bool:
        """Ask the server what it is, if that is not known; return whether it is now.

        It takes *timeout_seconds* for each replica. Raises `SourceUnreachableError`.
        """
        tried = 0
        while self._dialect is None:
            try:
                self._dialect = self.server.dialect(timeout_seconds)
            except SourceUnreachableError:
                tried += 1
                self._chosen = (self._chosen + 1) % len(self._servers)
                if tried == len(self._servers):
                    raise
            except SourceError as error:
                if error.kind == Kind.AUTH:  # of us, or of this path alone
                    return False
                self._dialect = PROMETHEUS  # no such path here, or something else than JSON
        return True

    @property
    def clock_offset_ms(self) -> int | None:
        """By how much the server's clock was ahead of ours at its last answer, to the second."""
        return self._clock_offset_ms

    @property
    def server(self) -> SafePrometheusConnect:
        """The server that is asked at present, for PrometheusConnect's own methods."""
        return self._servers[self._chosen]

    def instant(
        self,
        expr: str,
        time_ms: int,
        *,
        known: bytes | None = None,
        timeout_seconds: float | None = None,
    ) -> Answer:
        """Return the vector of *expr* at *time_ms*, or its matrix if it is a range selector.

        A scalar is a vector of one series without labels. *known* is the digest of an earlier
        answer, whose labels need not be given again. Raises `SourceError`.
        """
        params = [("query", expr), ("time", seconds_text(time_ms))]
        return self._ask("/api/v1/query", params, known, timeout_seconds)

    def query_range(
        self,
        expr: str,
        start_ms: int,
        end_ms: int,
        step_ms: int,
        *,
        known: bytes | None = None,
        timeout_seconds: float | None = None,
    ) -> Answer:
        """Return the matrix of *expr* at *start_ms*, each *step_ms* later, up to *end_ms*.

        Raises `SourceError`.
        """
        params = [
            ("query", expr),
            ("start", seconds_text(start_ms)),
            ("end", seconds_text(end_ms)),
            ("step", seconds_text(step_ms)),
        ]
        return self._ask("/api/v1/query_range", params, known, timeout_seconds)

    def close(self) -> None:
        """Close every connection."""
        for server in self._servers:
            server.close()

    def _ask(
        self,
        path: str,
        params: Sequence[tuple[str, str]],
        known: bytes | None,
        timeout_seconds: float | None,
    ) -> Answer:
        """Ask the chosen replica, and the others in turn while there is time."""
        params = [*params, *self.dialect.params]
        limit = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        ends = time.monotonic() + limit
        tried, count = 0, len(self._servers)
        while True:
            chosen = self._chosen
            left = ends - time.monotonic() if tried else limit
            try:
                answer = self._servers[chosen].query_columns(path, params, known, left)
            except SourceError as error:
                if error.kind in _SAME_ELSEWHERE:
                    raise
                tried += 1
                self._chosen = (chosen + 1) % count
                if tried == count or ends - time.monotonic() < _MIN_TRY_SECONDS:
                    raise
            else:
                if answer.server_date_ms is not None:
                    # the header is cut to the second: half of one is the least wrong guess
                    date_ms = answer.server_date_ms + 500
                    self._clock_offset_ms = date_ms - time.time_ns() // 1_000_000
                return answer


def seconds_text(milliseconds: int) -> str:
    """Return *milliseconds* in seconds, exactly."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds}.{rest:03d}" if rest else str(seconds)


class _Error(msgspec.Struct, gc=False):
    error: str
    errorType: str = ""  # noqa: N815  Prometheus's name


def prometheus_error(answer: HttpAnswer) -> Said:
    """Return the type and the text of an error in Prometheus's envelope, or of a plain one."""
    try:
        error = msgspec.json.decode(answer.body, type=_Error)
    except ValueError:  # msgspec's own errors, and text that is not UTF-8
        return plain_text(answer)
    return Said(error.errorType, error.error)


def _date_ms(answer: HttpAnswer) -> int | None:
    """Return the server's clock, to the second."""
    try:
        return int(parsedate_to_datetime(answer.headers.get("Date", "")).timestamp() * 1000)
    except ValueError:
        return None
