"""Query results as JSON bytes, without a Python loop over many samples or series.

An answer alternates between values and what stands between them: `"],[1795305600,"`, or the end of
a series and the head of the next. Few points are brought in order as slices of a list and joined.
Many are laid out by one Arrow `take` from pieces that are written once each, which costs less for
a point, more for an answer, and does without the interpreter lock for the most part.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from aggregator.api import labelsets
from aggregator.api.texts import Texts, data, sliced, take, texts
from aggregator.model.arrays import Bools, Floats, Ints, every
from aggregator.model.budget import Budget
from aggregator.model.labels import LabelTable
from aggregator.model.record import record
from aggregator.model.samples import SeriesSamples
from aggregator.model.stepmatrix import StepMatrix

# The parts of a text; to put them together is left to whoever adds the last ones.
Parts: TypeAlias = "list[bytes | memoryview]"

# `[1795305600.123,"11.123999999999999"],`, and its two indices while it is laid out.
_BYTES_PER_POINT: Final = 60
_FEW: Final = 3_000  # points, where both ways take as long
_BLOCK: Final = 1 << 14  # points; what is written of them stays in the processor's cache
_HEAD: Final = b'{"metric":'
_NEXT: Final = b'"],['  # between the points of a series
_ALONE: Final = 8  # values that are not worth a call of orjson
_EXACT: Final = 1 << 53  # all integers below are floats
_KEPT_TIMES: Final = 1_000  # of an answer: 100 KB
_COMMA, _QUOTE = ord(","), ord('"')


@dataclass(frozen=True, slots=True)
class _Form:
    """What stands between the labels and the first time of a series, and behind its last value."""

    opening: bytes
    closing: bytes


@dataclass(frozen=True, slots=True)
class _Times:
    """The times of an answer, `1795305600,"` each; `later` follows another point of a series."""

    first: tuple[bytes, ...]
    later: tuple[bytes, ...]

    @staticmethod
    def of(times: Ints) -> "_Times":
        """Return *times*, in ms, as texts; the panels of a dashboard have the same."""
        return _kept_times(times.tobytes()) if times.size <= _KEPT_TIMES else _times(times)


_VALUE: Final = _Form(b',"value":[', b'"]}')
_VALUES: Final = _Form(b',"values":[[', b'"]]}')


@record
class _Points:
    """Points of series: `offsets` as in `SeriesSamples`, `step` tells which of `times` each has.

    Without `step` every series has a point at each of `times`.
    """

    offsets: Ints
    times: _Times
    step: Ints | None
    values: Floats

    def blocks(self, size: int) -> "Iterator[tuple[slice, _Points]]":
        """Yield runs of series with about *size* points, and those."""
        ends = self.offsets
        start, count = 0, ends.size - 1
        while start < count:
            fitting = int(np.searchsorted(ends, ends[start] + size, "right")) - 1
            stop = max(fitting, start + 1)
            run = slice(int(ends[start]), int(ends[stop]))
            step = None if self.step is None else self.step[run]
            offsets = ends[start : stop + 1] - run.start
            yield slice(start, stop), _Points(offsets, self.times, step, self.values[run])
            start = stop


def vector(matrix: StepMatrix, time_ms: int, budget: Budget) -> Parts:
    """Return the `result` array of an instant vector; *matrix* has one step."""
    labels, values, present = matrix.series, matrix.values, matrix.present
    if not every(present):
        rows = np.flatnonzero(present[:, 0])
        labels, values = labels.take(rows), values[rows]
    if not 0 < len(labels) <= labelsets.FEW:
        return _series(labels, _dense(values, np.array([time_ms])), _VALUE, budget)
    objects, written = labelsets.label_objects(labels), _written(values[:, 0])
    form = b'{"metric":%%b,"value":[%b,"%%b"]}' % second(time_ms).encode()
    return [b"[", b",".join([form % each for each in zip(objects, written, strict=True)]), b"]"]


def matrix(steps: StepMatrix, times: Ints, budget: Budget) -> Parts:
    """Return the `result` array of a range query; *times* are the steps in ms."""
    labels, values, present = steps.series, steps.values, steps.present
    if not present.all():
        counts = np.count_nonzero(present, axis=1)
        budget.spend_bytes(int(counts.sum()) * _BYTES_PER_POINT)
        rows = np.flatnonzero(counts)
        labels, values, counts = labels.take(rows), values[rows], counts[rows]
        if (counts < times.size).any():
            some = present[rows]
            step, given = np.nonzero(some)[1], values[some]
            points = _Points(_offsets(counts), _Times.of(times), step, given)
            return _series(labels, points, _VALUES, budget)
    budget.spend_bytes(values.size * _BYTES_PER_POINT)
    return _series(labels, _dense(values, times), _VALUES, budget)


def ranges(labels: LabelTable, samples: SeriesSamples, budget: Budget) -> Parts:
    """Return the `result` array of a range selector: the samples with their own times."""
    counts = np.diff(samples.offsets)
    rows = np.flatnonzero(counts)
    run = slice(int(samples.offsets[0]), int(samples.offsets[-1]))
    budget.spend_bytes((run.stop - run.start) * _BYTES_PER_POINT)
    stamps, step = np.unique(samples.times[run], return_inverse=True)
    points = _Points(_offsets(counts[rows]), _times(stamps), step, samples.values[run])
    return _series(labels.take(rows), points, _VALUES, budget)


def second(time_ms: int) -> str:
    """Return a time as Prometheus writes it: seconds, three decimals if there are any."""
    whole, rest = divmod(abs(time_ms), 1000)
    sign = "-" if time_ms < 0 else ""
    return f"{sign}{whole}.{rest:03}" if rest else f"{sign}{whole}"


def number(value: float) -> str:
    """Return *value* as Prometheus writes it in JSON: shortest, decimal from 1e-6 to 1e21."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    digits, _, exponent = repr(value).partition("e")
    if not exponent:
        return digits.removesuffix(".0")
    if 1e-6 <= abs(value) < 1e21:
        return f"{Decimal(repr(value)):f}"
    return f"{digits}e{exponent[0]}{exponent[1:]:0>2}"


def _series(labels: LabelTable, points: _Points, form: _Form, budget: Budget) -> Parts:
    """Write `{"metric":…,<opening>t,"v"],[t,"v<closing>`, separated by commas."""
    if not len(labels):
        return [b"[]"]
    if points.values.size <= _FEW and len(labels) <= labelsets.FEW:
        budget.check()
        return [_few(labels, points, form)]
    # the quote that ends a value is a part of its text
    later = [text[1:] for text in points.times.later]
    times = texts([form.closing[1:] + b",", *points.times.first, *later])
    parts: Parts = [b"["]
    for rows, some in points.blocks(_BLOCK):
        budget.check()
        parts.append(data(_many(labels.take(rows), some, times, form)))
    parts[-1] = parts[-1][:-1]
    return [*parts, b"]"]


def _few(labels: LabelTable, points: _Points, form: _Form) -> bytes:
    """Return the whole array."""
    before, times = form.closing + b"," + _HEAD, points.times
    if points.step is None:
        behind = form.opening + times.first[0]
        heads = [before + each + behind for each in labelsets.label_objects(labels)]
        between = list(times.later * len(labels))
        between[:: len(times.later)] = heads
    else:
        step, begin = points.step.tolist(), points.offsets.tolist()
        heads = [before + each + form.opening for each in labelsets.label_objects(labels)]
        between = [times.later[at] for at in step]
        for start, head in zip(begin[:-1], heads, strict=True):
            between[start] = head + times.first[step[start]]
    between[0] = b"[" + between[0][len(form.closing) + 1 :]
    pieces = [b""] * (2 * len(between))
    pieces[::2] = between
    pieces[1::2] = _written(points.values)
    return b"".join((*pieces, form.closing, b"]"))


def _many(labels: LabelTable, points: _Points, times: Texts, form: _Form) -> Texts:
    """Return the texts of the series, each with a comma behind it.

    *times* are the end of a series, the times of first points, and those of later ones.
    """
    heads, head = labelsets.label_pieces(labels, _HEAD, form.opening)
    values, value = _values(points.values)
    head += len(times)
    value += len(times) + len(heads)
    (count, width), steps = head.shape, len(points.times.first)
    first, later = 1, 1 + steps
    if points.step is None:
        layout = np.empty((count, width + 2 * steps + 1), np.int64)
        layout[:, :width] = head
        layout[:, width:-1:2] = np.arange(later, later + steps)
        layout[:, width] = first
        layout[:, width + 1 : -1 : 2] = value.reshape(count, -1)
        layout[:, -1] = 0
    else:
        layout = np.zeros((width + 1) * count + 2 * value.size, np.int64)
        begin = points.offsets[:-1]
        start = 2 * begin + (width + 1) * np.arange(count)  # of a series in the layout
        layout[np.add.outer(start, np.arange(width))] = head
        place = np.arange(0, 2 * value.size, 2) + np.repeat(
            (width + 1) * np.arange(count) + width, np.diff(points.offsets)
        )
        layout[place] = points.step + later
        layout[place[begin]] = points.step[begin] + first
        layout[place + 1] = value
    return take(pa.concat_arrays([times, heads, values]), layout.reshape(-1))


def _dense(values: Floats, times: Ints) -> _Points:
    """Return the points of series that have one at each of *times*, `[series, times]`."""
    offsets = np.arange(0, values.size + 1, times.size)
    return _Points(offsets, _Times.of(times), None, np.ascontiguousarray(values).reshape(-1))


def _times(times: Ints) -> _Times:
    if not (times % 1000).any():
        seconds = orjson.dumps(times // 1000, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
    elif times.min() >= 10**12 and times.max() < 10**13:  # as many digits each
        digits = orjson.dumps(times, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1] + b","
        table = np.frombuffer(digits, np.uint8).reshape(-1, 14)
        dotted = np.insert(table, 10, ord("."), axis=1).tobytes()
        seconds = dotted[:-1].replace(b".000", b"")
    else:
        seconds = ",".join(map(second, times.tolist())).encode()
    first = (seconds.replace(b",", b',"\n') + b',"').split(b"\n")
    return _Times(tuple(first), tuple([_NEXT + text for text in first]))


@lru_cache(maxsize=32)
def _kept_times(times: bytes) -> _Times:
    return _times(np.frombuffer(times, np.int64))


def _written(values: Floats) -> list[bytes]:
    """Return what `number` does for each of a few values."""
    if values.size <= _ALONE:
        return [number(value).encode() for value in values.tolist()]
    values = np.ascontiguousarray(values)  # orjson takes no others
    dump = orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
    written = (dump + b",").replace(b".0,", b",")[:-1].split(b",")
    if b"e" in dump or b"n" in dump:  # an exponent, or null for what is not finite
        places = np.flatnonzero(~(_usual(values) | (values == 0)))
        for place, value in zip(places.tolist(), values[places].tolist(), strict=True):
            written[place] = number(value).encode()
    return written


def _values(values: Floats) -> tuple[Texts, Ints]:
    """Return texts that end in a quote, and which of them each value is."""
    codes = np.arange(values.size)
    with np.errstate(invalid="ignore"):  # NaN, and what is too large
        integers = values.astype(np.int64)
    # not -0, whose bits come back as those of 0
    exact = integers.astype(np.float64).view(np.int64) == values.view(np.int64)
    exact &= np.abs(values) < _EXACT
    if exact.all():
        return _listed(integers), codes
    found = [_listed(values)]
    if exact.any():  # orjson writes `1.0`
        codes[exact] = values.size + np.arange(np.count_nonzero(exact))
        found.append(_listed(integers[exact]))
    usual = exact | _usual(values)
    small = (np.abs(values) < 1e-5) & (values != 0)
    if small.any():
        codes[small] = sum(map(len, found)) + np.arange(np.count_nonzero(small))
        found.append(_small(values[small]))
        usual |= small
    if not usual.all():
        bits = values[~usual].view(np.int64)
        distinct, which = np.unique(bits, return_inverse=True)
        codes[~usual] = sum(map(len, found)) + which
        written = [f'{number(value)}"' for value in distinct.view(np.float64).tolist()]
        found.append(texts([text.encode() for text in written]))
    return pa.concat_arrays(found), codes


def _listed(numbers: Floats | Ints) -> Texts:
    """Return what orjson writes, each with a quote behind it; those not finite are `null`."""
    dump = orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY)
    body = np.frombuffer(dump, np.uint8)[1:].copy()
    ends = np.flatnonzero(body == _COMMA)
    body[ends], body[-1] = _QUOTE, _QUOTE
    offsets = np.zeros(numbers.size + 1, np.int64)
    offsets[1:-1], offsets[-1] = ends + 1, body.size
    return sliced(pa.py_buffer(body.data), offsets)


def _small(values: Floats) -> Texts:
    """Return values below 1e-5: decimal down to 1e-6, then with an exponent of two digits."""
    written = pa.array(values).cast(pa.large_string())  # as `number` does, but for `e-7`
    padded = pc.replace_substring_regex(written, "e-([0-9])$", r"e-0\1")
    quote, nothing = (pa.scalar(text, pa.large_string()) for text in ('"', ""))
    quoted: Texts = pc.call_function("binary_join_element_wise", [padded, quote, nothing]).cast(
        pa.large_binary()
    )
    return quoted


def _usual(values: Floats) -> Bools:
    """Tell which values, if not whole numbers, orjson writes as `number` does."""
    size = np.abs(values)
    return (size >= 1e-5) & (size < _EXACT)


def _offsets(counts: Ints) -> Ints:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
