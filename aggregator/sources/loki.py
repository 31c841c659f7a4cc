"""Reads one cluster's Loki: numbers that it counts in logs, and the names of its labels.

A log line never comes further than the HTTP answer: what has lines is refused, and of the texts
that Loki writes about errors, which can quote them, only known parts are taken over.
"""

import re

import msgspec
import numpy as np

from aggregator.errors import SourceError
from aggregator.sources.answer import HttpAnswer, Said
from aggregator.sources.decode import Decoded, decode
from aggregator.sources.failures import Kind, failure
from aggregator.sources.http import SourceSession
from aggregator.sources.prometheus import Answer
from aggregator.sources.settings import LokiSettings

_PING_SECONDS = 3.0
_MAX_LABELS = 10_000
_LINES = re.compile(rb'"resultType"\s*:\s*"streams"')
_HEAD_BYTES = 4_096

# What Loki writes, how much of it is repeated, and what it means. The parts that are repeated
# speak of limits and of our own query, never of what was logged.
_SAID: tuple[tuple[re.Pattern[str], Kind, str], ...] = (
    (
        re.compile(r"no org id"),
        Kind.AUTH,
        "it wants to know whose logs to read; set loki.tenant",
    ),
    (
        re.compile(r"tenant ID|multiple org IDs"),
        Kind.AUTH,
        "it does not accept the tenant; correct loki.tenant",
    ),
    (
        re.compile(r"too many outstanding requests"),
        Kind.RATE_LIMITED,
        "Loki has more queries than it can serve; ask more rarely or give it more queriers",
    ),
    (
        re.compile(r"maximum (?:number of )?series \(\d+\) reached|maximum of series \(\d+\)"),
        Kind.EXECUTION,
        "narrow loki.default_selector or raise max_query_series",
    ),
    (
        re.compile(
            r"the query time range exceeds the limit(?: \(query length: \w+, limit: \w+\))?"
            r"|\[interval\] value exceeds limit"
        ),
        Kind.EXECUTION,
        "shorten the metric's window or raise max_query_length and max_query_range",
    ),
    (
        re.compile(r"the query would read too many bytes(?: \([\w .:,]{1,60}\))?"),
        Kind.EXECUTION,
        "narrow loki.default_selector or raise max_query_bytes_read",
    ),
    (
        re.compile(r"pipeline error: '\w{1,40}'"),
        Kind.EXECUTION,
        'a parser fails at some lines; add | __error__="" to the expression',
    ),
    (
        re.compile(r"log queries are not supported as an instant query type"),
        Kind.BAD_REQUEST,
        "write an expression that counts, for example count_over_time",
    ),
    (
        re.compile(r"queries require at least one regexp or equality matcher"),
        Kind.BAD_REQUEST,
        'name a label that is not empty, for example {namespace=~".+"}',
    ),
    (
        re.compile(r"parse error(?: at line \d+, col \d+)?"),
        Kind.BAD_REQUEST,
        "Loki cannot read the expression; correct it, or loki.default_selector",
    ),
    (
        re.compile(r"request timed out|context (?:deadline exceeded|canceled)"),
        Kind.QUERY_TIMEOUT,
        "the query took too long; narrow loki.default_selector or look at Loki's load",
    ),
)


class _Labels(msgspec.Struct, gc=False):
    status: str
    data: list[str] = []


_LABELS = msgspec.json.Decoder(_Labels)


class LokiSource:
    """A cluster's Loki. It is asked one thing at a time."""

    def __init__(
        self, cluster: str, settings: LokiSettings, *, max_bytes: int, gzip: bool = True
    ) -> None:
        self._cluster = cluster
        self._timeout_seconds = settings.timeout / 1_000
        self._session = SourceSession(
            cluster,
            str(settings.url),
            auth=settings.auth,
            tls=settings.tls,
            proxy_url=None if settings.proxy_url is None else str(settings.proxy_url),
            timeout_seconds=self._timeout_seconds,
            max_bytes=max_bytes,
            gzip=gzip,
            tenant=settings.tenant,
            explain=loki_error,
        )

    def instant(
        self,
        expr: str,
        time_ms: int,
        *,
        known: bytes | None = None,
        timeout_seconds: float | None = None,
    ) -> Answer:
        """Return the vector of the metric query *expr* at *time_ms*; every sample is of that time.

        *known* is the digest of an earlier answer, whose labels need not be given again. What Loki
        warns of is told without its words. Raises `SourceError`.
        """
        params = [("query", expr), ("time", _nanoseconds(time_ms))]
        answer = self._session.ask("/loki/api/v1/query", params, timeout_seconds)
        if _LINES.search(answer.body, 0, _HEAD_BYTES):
            message = "it answered with log lines, which are not taken; ask for numbers only"
            raise failure(self._cluster, Kind.WRONG_JSON, message)
        decoded = self._decoded(answer.body, known)
        series = decoded.offsets.size - 1
        if decoded.times.size != series:
            message = "an instant query was answered by a range; does url lead to a Loki?"
            raise failure(self._cluster, Kind.WRONG_JSON, message)
        return Answer(
            decoded.digest,
            decoded.metrics,
            decoded.offsets,
            np.full(series, time_ms, np.int64),  # Loki writes a scalar's in ms, others in seconds
            decoded.values,
            ("Loki warns that the answer may lack data",) if decoded.warnings else (),
            (),
            answer.raw_bytes,
            len(answer.body),
            None,
        )

    def labels(self, start_ms: int, end_ms: int) -> frozenset[str]:
        """Return the labels of the streams between two times. Raises `SourceError`."""
        params = [("start", _nanoseconds(start_ms)), ("end", _nanoseconds(end_ms))]
        answer = self._session.ask("/loki/api/v1/labels", params)
        try:
            found = _LABELS.decode(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._no_labels() from error
        if found.status != "success" or len(found.data) > _MAX_LABELS:
            raise self._no_labels()
        return frozenset(found.data)

    def ping(self, time_ms: int) -> None:
        """Ask something that costs nothing; raise `SourceError` if Loki does not answer."""
        self.instant("vector(1)", time_ms, timeout_seconds=_PING_SECONDS)

    def close(self) -> None:
        """Close every connection."""
        self._session.close()

    def _decoded(self, body: bytes, known: bytes | None) -> Decoded:
        try:
            return decode(body, known, cluster=self._cluster)
        except SourceError as error:
            kind, message = Kind(error.kind), error.detail
        if kind is Kind.EXECUTION:  # an envelope of some proxy, with a text of its own
            message = "the query failed; see the log of Loki or of what stands before it"
        # without the exceptions behind it, which may quote the answer
        raise failure(self._cluster, kind, message)

    def _no_labels(self) -> SourceError:
        message = "its JSON is not a list of labels; does url lead to a Loki?"
        return failure(self._cluster, Kind.WRONG_JSON, message)


def loki_error(answer: HttpAnswer) -> Said:
    """Return what is known of an error's text, which is plain; the rest may quote what was logged.

    Limits and an unknown path have a status that says it all.
    """
    text = answer.body[:4_096].decode(errors="replace")
    for pattern, kind, advice in _SAID:
        match = pattern.search(text)
        if match is not None:
            return Said(text=match[0], meaning=(kind, advice))
    if answer.status == 404:
        return Said(meaning=(Kind.NOT_FOUND, "url goes up to but not including /loki/api/v1"))
    return Said()


def _nanoseconds(time_ms: int) -> str:
    return f"{time_ms}000000"
