"""Query results as JSON bytes, without a Python loop over samples or series.

The answer is a row of text pieces (label objects, timestamps, values, punctuation). Each distinct
piece is written once, then one Arrow `take` lays them out; its data buffer is the JSON. That costs
0.7 ms however little there is to write, so an answer of a few points is written plainly.
"""

import math
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from aggregator.api.labelsets import label_objects
from aggregator.api.texts import Texts, cast, choose, data, join, sliced, take, texts
from aggregator.model.arrays import Floats, Ints
from aggregator.model.budget import Budget
from aggregator.model.labels import LabelTable
from aggregator.model.samples import SeriesSamples
from aggregator.model.stepmatrix import StepMatrix

# `[1795305600.123,"11.123999999999999"],` and its two indices, while they are laid out.
_BYTES_PER_POINT = 60
_VALUES_PER_DUMP = 1 << 16  # orjson holds the interpreter lock for a whole call: about 3 ms
_FEW = 200


@dataclass(frozen=True, slots=True)
class _Points:
    """Points of series: `offsets` as in `SeriesSamples`, `stamps[step]` the time of each in ms."""

    offsets: Ints
    stamps: Ints
    step: Ints
    values: Floats


def vector(matrix: StepMatrix, time_ms: int, budget: Budget) -> bytes:
    """Return the `result` array of an instant vector; *matrix* has one step."""
    rows = np.flatnonzero(matrix.present[:, 0])
    values = np.ascontiguousarray(matrix.values[rows, 0])
    points = _Points(
        np.arange(rows.size + 1), np.array([time_ms]), np.zeros(rows.size, np.int64), values
    )
    return _series(matrix.series.take(rows), points, '"value":', "}", budget)


def matrix(steps: StepMatrix, times: Ints, budget: Budget) -> bytes:
    """Return the `result` array of a range query; *times* are the steps in ms."""
    counts = np.count_nonzero(steps.present, axis=1)
    budget.spend_bytes(int(counts.sum()) * _BYTES_PER_POINT)
    rows = np.flatnonzero(counts)
    if rows.size and counts.min() == times.size:
        step = np.tile(np.arange(times.size), counts.size)
        values = np.ascontiguousarray(steps.values).reshape(-1)
    else:
        step, values = np.nonzero(steps.present)[1], steps.values[steps.present]
    points = _Points(_offsets(counts[rows]), times, step, values)
    return _series(steps.series.take(rows), points, '"values":[', "]}", budget)


def ranges(labels: LabelTable, samples: SeriesSamples, budget: Budget) -> bytes:
    """Return the `result` array of a range selector: the samples with their own times."""
    counts = np.diff(samples.offsets)
    rows = np.flatnonzero(counts)
    run = slice(int(samples.offsets[0]), int(samples.offsets[-1]))
    budget.spend_bytes((run.stop - run.start) * _BYTES_PER_POINT)
    stamps, step = np.unique(samples.times[run], return_inverse=True)
    points = _Points(_offsets(counts[rows]), stamps, step, samples.values[run])
    return _series(labels.take(rows), points, '"values":[', "]}", budget)


def seconds(times: Ints) -> Texts:
    """Return times in ms as Prometheus writes them: seconds, three decimals if there are any."""
    size = np.abs(times)
    whole = cast(size // 1000)
    if not (times % 1000).any() and (times >= 0).all():
        return whole
    decimals = pc.utf8_slice_codeunits(cast(size % 1000 + 1000), 1, 4)
    tail = choose(size % 1000 == 0, "", join(".", decimals))
    return join(choose(times < 0, "-", ""), whole, tail)


def second(time_ms: int) -> str:
    """Return one time as `seconds` does."""
    whole, rest = divmod(abs(time_ms), 1000)
    return f"{'-' * (time_ms < 0)}{whole}{f'.{rest:03}' * (rest > 0)}"


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


def _series(
    labels: LabelTable, points: _Points, opening: str, closing: str, budget: Budget
) -> bytes:
    """Lay out `{"metric":…,<opening>[t,"v"],[t,"v"]<closing>`, separated by commas."""
    budget.check()
    if points.values.size <= _FEW:
        return _few(labels, points, opening, closing)
    return _many(labels, points, opening, closing, budget)


def _few(labels: LabelTable, points: _Points, opening: str, closing: str) -> bytes:
    stamps = [second(stamp) for stamp in points.stamps.tolist()]
    texts = [
        f'[{stamps[step]},"{number(value)}"]'
        for step, value in zip(points.step.tolist(), points.values.tolist(), strict=True)
    ]
    ends = points.offsets.tolist()
    rows = [
        f'{{"metric":{orjson.dumps(metric).decode()},{opening}{",".join(texts[start:end])}{closing}'
        for metric, start, end in zip(labels.dicts(), ends[:-1], ends[1:], strict=True)
    ]
    return f"[{','.join(rows)}]".encode()


def _many(labels: LabelTable, points: _Points, opening: str, closing: str, budget: Budget) -> bytes:
    count, size = len(labels), points.values.size
    stamps = seconds(points.stamps)
    values, value_codes = _values(points.values)
    pieces = [
        join("[", stamps, ',"'),
        join("],[", stamps, ',"'),
        label_objects(labels, '{"metric":', "," + opening),
        texts([f"]{closing},"]),
        values,
    ]
    _, later, header, end, value, _ = np.cumsum([0, *map(len, pieces)]).tolist()

    number_of = np.arange(count)
    first = points.offsets[:-1]
    stamp = points.step + later
    stamp[first] -= later
    layout = np.empty(2 * size + 2 * count, dtype=np.int64)
    if size == count:  # a point each
        of_series = layout.reshape(count, 4)
        of_series[:, 0], of_series[:, 3] = header + number_of, end
        of_series[:, 1], of_series[:, 2] = stamp, value_codes + value
    else:
        place = 2 * (np.arange(size) + np.repeat(number_of, np.diff(points.offsets))) + 1
        layout[place] = stamp
        layout[place + 1] = value_codes + value
        layout[2 * first + 2 * number_of] = header + number_of
        layout[2 * points.offsets[1:] + 2 * number_of + 1] = end
    text = take(pa.concat_arrays(pieces), layout)
    budget.check()
    return b"".join((b"[", data(text)[:-1], b"]"))


def _values(values: Floats) -> tuple[Texts, Ints]:
    """Return texts that end in a quote, and which of them each value is."""
    codes = np.arange(values.size, dtype=np.int64)
    magnitude = np.abs(values)
    usual = (magnitude >= 1e-5) & (magnitude < 1e16) | (magnitude == 0)
    found = [_shortest(values)]
    if usual.all():
        return found[0], codes
    for unusual, written in (
        (np.isnan(values), 'NaN"'), (values == np.inf, '+Inf"'), (values == -np.inf, '-Inf"'),
    ):  # fmt: skip
        codes[unusual] = sum(map(len, found))
        found.append(texts([written]))
    for unusual, write in (
        ((magnitude < 1e-5) & (magnitude > 0), _small),
        ((magnitude >= 1e16) & (magnitude < 1e21), _large),
    ):
        if unusual.any():
            codes[unusual] = sum(map(len, found)) + np.arange(np.count_nonzero(unusual))
            found.append(write(values[unusual]))
    return pa.concat_arrays(found), codes


def _shortest(values: Floats) -> Texts:
    """Return what orjson writes, each with a quote behind it; those not finite are `null`."""
    numbers = _whole(values)
    parts = []
    for start in range(0, values.size, _VALUES_PER_DUMP):
        some = numbers[start : start + _VALUES_PER_DUMP]
        dump = orjson.dumps(some, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1] + b","
        if numbers is values and (some == np.floor(some)).any():
            dump = dump.replace(b".0,", b",")
        parts.append(dump.replace(b",", b'"'))
    body = b"".join(parts)
    ends = np.flatnonzero(np.frombuffer(body, np.uint8) == ord('"')) + 1
    return sliced(body, _offsets_from(ends))


def _whole(values: Floats) -> Floats | Ints:
    """Return *values* as integers if that is what they all are, for they are written faster."""
    if values[0] != np.floor(values[0]):
        return values
    with np.errstate(invalid="ignore"):  # NaN, and what is too large, are no integers
        whole = values.astype(np.int64)
    same = (whole == values).all() and not np.signbit(values[whole == 0]).any()
    return whole if same and np.abs(whole).max() < 1 << 53 else values


def _small(values: Floats) -> Texts:
    """Return values below 1e-5: decimal down to 1e-6, then with an exponent of two digits."""
    padded = pc.replace_substring_regex(cast(values), "e-([0-9])$", r"e-0\1")
    return join(padded, '"')


def _large(values: Floats) -> Texts:
    """Return values from 1e16 up to 1e21, rare enough for a loop, without an exponent."""
    return texts([f'{number(value)}"' for value in values.tolist()])


def _offsets(counts: Ints) -> Ints:
    return _offsets_from(np.cumsum(counts))


def _offsets_from(ends: Ints) -> Ints:
    return np.concatenate((np.zeros(1, np.int64), ends))
