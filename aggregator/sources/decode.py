"""Decodes the answers of Prometheus's query API to columns.

In the steady state no Python object is made per series: `columns` finds the numbers, and its
digest proves that the label sets are those of the last answer. Any other answer is parsed in full
and strictly, a part at a time, so that other threads get the interpreter in between.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aggregator.errors import SourceError
from aggregator.model.arrays import Floats, Ints
from aggregator.sources.columns import MAX_TIME_MS, Columns, digest, find_columns
from aggregator.sources.failures import Kind, clean_text, failure

_PART_BYTES = 131_072
_NEXT_SERIES = b'},{"metric":'
_RESULT = b'"result":['
_MAX_NOTES = 10


@dataclass(frozen=True, slots=True)
class Decoded:
    """The result of a query as columns, one series after the other as the server gave them."""

    digest: bytes
    # each series' labels as a JSON object of strings; None when the digest is the known one
    metrics: tuple[bytes, ...] | None
    offsets: Ints
    times: Ints
    values: Floats
    warnings: tuple[str, ...]
    infos: tuple[str, ...]


class _Data(msgspec.Struct, gc=False):
    resultType: str  # noqa: N815  Prometheus's name
    result: msgspec.Raw = msgspec.Raw(b"null")


class _Envelope(msgspec.Struct, gc=False):
    status: str
    data: _Data | None = None
    errorType: str = ""  # noqa: N815  Prometheus's name
    error: str = ""
    warnings: list[str] | None = None
    infos: list[str] | None = None
    isPartial: bool = False  # noqa: N815  VictoriaMetrics's name


class _Labels(msgspec.Struct, gc=False):
    metric: dict[str, str]


class _Series(msgspec.Struct, gc=False):
    metric: msgspec.Raw
    value: tuple[float, str] | None = None
    values: list[tuple[float, str]] | None = None
    histogram: msgspec.Raw = msgspec.Raw()
    histograms: msgspec.Raw = msgspec.Raw()


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_LABELS = msgspec.json.Decoder(list[_Labels])
_SERIES = msgspec.json.Decoder(list[_Series])
_SCALAR = msgspec.json.Decoder(tuple[float, str])


def decode(body: bytes, known: bytes | None = None, *, cluster: str = "") -> Decoded:
    """Return the vector, matrix or scalar in *body*; *known* is the digest of an earlier answer.

    Raises `SourceMalformedError` if *body* is not an answer of Prometheus's query API, and
    `SourceRejectedError` if it says that the query failed.
    """
    try:
        found = find_columns(body)
        if found is not None and found.digest == known:
            envelope = _ENVELOPE.decode(body[: found.start] + body[found.end :])
            _check(cluster, envelope)
            if envelope.data is not None and bytes(envelope.data.result) == b"[]":
                return _decoded(found, None, envelope)
        return _parse(cluster, body, found, known)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise _malformed(cluster, error) from error


def _decoded(
    found: Columns,
    metrics: tuple[bytes, ...] | None,
    envelope: _Envelope,
    notes: Sequence[str] = (),
) -> Decoded:
    warnings = [*notes, *(envelope.warnings or ())]
    if envelope.isPartial:
        warnings.insert(0, "the answer is partial: some of the storage did not answer")
    return Decoded(
        found.digest,
        metrics,
        found.offsets,
        found.times,
        found.values,
        tuple(clean_text(text) for text in warnings[:_MAX_NOTES]),
        tuple(clean_text(text) for text in (envelope.infos or ())[:_MAX_NOTES]),
    )


def _parse(cluster: str, body: bytes, found: Columns | None, known: bytes | None) -> Decoded:
    """Parse everything; take over the digest of *found* only if it found the very same."""
    last, parts = _parts(body)
    envelope = _ENVELOPE.decode(last)
    _check(cluster, envelope)
    if envelope.data is None:
        raise failure(cluster, Kind.WRONG_JSON, "its answer has no data; is it the right server?")
    series = _Collected(cluster)
    match envelope.data.resultType:
        case "vector" | "matrix":
            for part in parts:
                series.add(part, envelope.data.resultType)
                time.sleep(0)  # lets other threads have the interpreter
            series.add(bytes(envelope.data.result), envelope.data.resultType)
        case "scalar":
            pair = _SCALAR.decode(envelope.data.result)
            series.add_pairs([b"{}"], [pair], [1])
        case other:
            text = clean_text(other, 40)
            message = f"its result is a {text}, which has no samples; correct the query"
            raise failure(cluster, Kind.WRONG_JSON, message)
    parsed, metrics = series.columns()
    left_out = series.warnings()
    if found is not None and not left_out and _same(found, parsed):
        parsed = found
    return _decoded(parsed, None if parsed.digest == known else metrics, envelope, left_out)


def _same(found: Columns, parsed: Columns) -> bool:
    """Tell whether both hold the same samples, bit for bit."""
    return (
        np.array_equal(found.offsets, parsed.offsets)
        and np.array_equal(found.times, parsed.times)
        and np.array_equal(found.values.view(np.int64), parsed.values.view(np.int64))
        # a series without samples leaves no trace there
        and bool((np.diff(parsed.offsets) > 0).all())
    )


def _parts(body: bytes) -> tuple[bytes, Iterator[bytes]]:
    """Cut *body* between series: the envelope with the last of them, and lists of the others.

    A body without the usual layout is all in the first.
    """
    head = body.find(_RESULT, 0, 4096)
    if head < 0 or len(body) < 2 * _PART_BYTES:
        return body, iter(())
    start = head + len(_RESULT)
    cuts = [start]
    while (cut := body.find(_NEXT_SERIES, cuts[-1] + _PART_BYTES)) >= 0:
        cuts.append(cut + 2)
    parts = (b"[" + body[begin : end - 1] + b"]" for begin, end in pairwise(cuts))
    return body[:start] + body[cuts[-1] :], parts


class _Collected:
    """The series of an answer, as its parts are parsed."""

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster
        self._metrics: list[bytes] = []
        self._sizes: list[int] = []
        self._times: list[Floats] = []
        self._values: list[Floats] = []
        self._histograms = 0

    def add(self, part: bytes, kind: str) -> None:
        """Parse a JSON list of series."""
        if part == b"null":  # an empty result of some servers
            return
        _LABELS.decode(part)  # every label has to be text
        metrics, pairs, sizes = [], [], []
        for one in _SERIES.decode(part):
            samples = one.values if kind == "matrix" else one.value and [one.value]
            if one.histogram or one.histograms:
                self._histograms += 1
            elif samples is None:
                message = "its answer has a series without samples; is it the right server?"
                raise failure(self._cluster, Kind.WRONG_JSON, message)
            if samples is not None:
                metrics.append(bytes(one.metric))
                pairs.extend(samples)
                sizes.append(len(samples))
        self.add_pairs(metrics, pairs, sizes)

    def add_pairs(
        self, metrics: list[bytes], pairs: list[tuple[float, str]], sizes: list[int]
    ) -> None:
        """Take the samples of series one after the other, *sizes* of them each."""
        self._metrics += metrics
        self._sizes += sizes
        texts = pa.array([value for _, value in pairs], pa.string())
        try:
            values = pc.cast(texts, pa.float64()).to_numpy()
        except pa.ArrowInvalid as error:
            message = "its answer has a value that is not a number; is it the right server?"
            raise failure(self._cluster, Kind.WRONG_JSON, message) from error
        self._values.append(values)
        self._times.append(np.array([at for at, _ in pairs], np.float64))

    def columns(self) -> tuple[Columns, tuple[bytes, ...]]:
        """Return all samples, and the labels of each series as they came."""
        times = np.rint(np.concatenate(self._times or [np.empty(0)]) * 1000)
        if not (np.abs(times) < MAX_TIME_MS).all():
            message = "its answer has a time out of bounds; is it the right server?"
            raise failure(self._cluster, Kind.WRONG_JSON, message)
        columns = Columns(
            digest(b"parsed", len(self._metrics), b"\n".join(self._metrics)),
            np.concatenate(([0], np.cumsum(np.array(self._sizes, np.int64)))),
            times.astype(np.int64),
            np.concatenate(self._values or [np.empty(0)]),
            0,
            0,
        )
        return columns, tuple(self._metrics)

    def warnings(self) -> list[str]:
        """Return what was left out."""
        if not self._histograms:
            return []
        return [f"native histograms of {self._histograms} series are left out: not supported"]


def _check(cluster: str, envelope: _Envelope) -> None:
    if envelope.status == "error":
        text = clean_text(envelope.error)
        raise failure(cluster, Kind.EXECUTION, f"the query failed: {text}; correct or narrow it")
    if envelope.status != "success":
        raise failure(cluster, Kind.WRONG_JSON, "its answer has no status; is it the right server?")


def _malformed(cluster: str, error: Exception) -> SourceError:
    text = clean_text(str(error), 120)
    if "truncated" in text:
        message = "its JSON was cut off; see the server's and the proxies' logs"
        return failure(cluster, Kind.TRUNCATED, message)
    message = f"its JSON is not the answer to a query ({text}); is it the right server?"
    return failure(cluster, Kind.WRONG_JSON, message)
