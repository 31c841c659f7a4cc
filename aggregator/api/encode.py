"""Query results as JSON bytes, without a Python loop over samples or series.

The answer is a row of text pieces (label objects, timestamps, values, punctuation). Each distinct
piece is written once, then one Arrow `take` lays them out; its data buffer is the JSON. That costs
0.7 ms however little there is to write, so an answer of a few points is written plainly.
"""

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from aggregator.model.arrays import Bools, Floats, Ints
from aggregator.model.budget import Budget
from aggregator.model.labels import LabelTable
from aggregator.model.samples import SeriesSamples
from aggregator.model.stepmatrix import StepMatrix

# Quoted: the generic forms exist in pyarrow's stubs only.
Texts: TypeAlias = "pa.Array[pa.Scalar[pa.lib.LargeStringType]]"
Part: TypeAlias = "Texts | str"

# `[1795305600.123,"11.123999999999999"],` and its two indices, while they are laid out.
_BYTES_PER_POINT = 60
_VALUES_PER_DUMP = 1 << 16  # orjson holds the interpreter lock for a whole call: about 3 ms
_FEW = 100
_SPECIAL = ('NaN"', '+Inf"', '-Inf"')


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
    rows = np.flatnonzero(steps.present.any(axis=1))
    present = steps.present[rows]
    counts = np.count_nonzero(present, axis=1)
    budget.spend_bytes(int(counts.sum()) * _BYTES_PER_POINT)
    points = _Points(_offsets(counts), times, np.nonzero(present)[1], steps.values[rows][present])
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


def label_sets(table: LabelTable, limit: int) -> bytes:
    """Return the first *limit* label sets as an array of JSON objects, sorted by their text."""
    texts = label_objects(table)
    first = _take(texts, np.asarray(pc.sort_indices(texts))[:limit].astype(np.int64))
    return b"".join((b"[", _data(_join(first, ","))[:-1], b"]"))


def label_objects(table: LabelTable) -> Texts:
    """Return each label set as the text of a JSON object, names in the table's order."""
    columns = []
    for column, name in enumerate(table.names):
        distinct, inverse = np.unique(table.codes[:, column], return_inverse=True)
        key = f",{orjson.dumps(name).decode()}:"
        pairs = [
            key + orjson.dumps(text).decode() if code else ""
            for code, text in zip(distinct.tolist(), table.strings.texts(distinct), strict=True)
        ]
        columns.append(_take(pa.array(pairs, pa.large_string()), inverse))
    if not columns:
        return pa.array(["{}"] * len(table), pa.large_string())
    # The comma before a label set's first pair goes; an empty set has none.
    pairs_of = pc.utf8_replace_slice(_join(*columns), 0, 1, "")
    return _join("{", pairs_of, "}")


def seconds(times: Ints) -> Texts:
    """Return times in ms as Prometheus writes them: seconds, three decimals if there are any."""
    size = np.abs(times)
    whole = _cast(size // 1000)
    decimals = pc.utf8_slice_codeunits(_cast(size % 1000 + 1000), 1, 4)
    tail = _choose(size % 1000 == 0, "", _join(".", decimals))
    return _join(_choose(times < 0, "-", ""), whole, tail)


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
        _join("[", stamps, ',"'),
        _join("],[", stamps, ',"'),
        _join('{"metric":', label_objects(labels), "," + opening),
        pa.array([f"]{closing},"], pa.large_string()),
        values,
    ]
    _, later, header, end, value, _ = np.cumsum([0, *map(len, pieces)]).tolist()

    number_of = np.arange(count)
    is_later = np.ones(size, dtype=np.int64)
    is_later[points.offsets[:-1]] = 0
    place = 2 * np.arange(size) + 2 * np.repeat(number_of, np.diff(points.offsets)) + 1
    layout = np.empty(2 * size + 2 * count, dtype=np.int64)
    layout[place] = points.step + later * is_later
    layout[place + 1] = value_codes + value
    layout[2 * points.offsets[:-1] + 2 * number_of] = header + number_of
    layout[2 * points.offsets[1:] + 2 * number_of + 1] = end
    text = _take(pa.concat_arrays(pieces), layout)
    budget.check()
    return b"".join((b"[", _data(text)[:-1], b"]"))


def _values(values: Floats) -> tuple[Texts, Ints]:
    """Return texts that end in a quote, and which of them each value is."""
    magnitude = np.abs(values)
    small = (magnitude < 1e-5) & (magnitude > 0)
    large = (magnitude >= 1e16) & (magnitude < 1e21)
    codes = np.arange(values.size, dtype=np.int64) + len(_SPECIAL)
    codes[np.isnan(values)] = 0
    codes[values == np.inf] = 1
    codes[values == -np.inf] = 2
    texts = [pa.array(_SPECIAL, pa.large_string()), _shortest(values)]
    for unusual, written in ((small, _small), (large, _large)):
        if unusual.any():
            codes[unusual] = sum(map(len, texts)) + np.arange(np.count_nonzero(unusual))
            texts.append(written(values[unusual]))
    return pa.concat_arrays(texts), codes


def _shortest(values: Floats) -> Texts:
    """Return what orjson writes, each with a quote behind it; those not finite are `null`."""
    parts = []
    for start in range(0, values.size, _VALUES_PER_DUMP):
        some = values[start : start + _VALUES_PER_DUMP]
        dump = orjson.dumps(some, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1] + b","
        parts.append(dump.replace(b".0,", b",").replace(b",", b'"'))
    body = b"".join(parts)
    ends = np.flatnonzero(np.frombuffer(body, np.uint8) == ord('"')) + 1
    buffers = [None, pa.py_buffer(_offsets_from(ends).tobytes()), pa.py_buffer(body)]
    return pa.Array.from_buffers(pa.large_string(), values.size, buffers)


def _small(values: Floats) -> Texts:
    """Return values below 1e-5: decimal down to 1e-6, then with an exponent of two digits."""
    padded = pc.replace_substring_regex(_cast(values), "e-([0-9])$", r"e-0\1")
    return _join(padded, '"')


def _large(values: Floats) -> Texts:
    """Return values from 1e16 up to 1e21, rare enough for a loop, without an exponent."""
    return pa.array([f'{number(value)}"' for value in values.tolist()], pa.large_string())


def _offsets(counts: Ints) -> Ints:
    return _offsets_from(np.cumsum(counts))


def _offsets_from(ends: Ints) -> Ints:
    return np.concatenate((np.zeros(1, np.int64), ends))


def _cast(values: Floats | Ints) -> Texts:
    return pa.array(values).cast(pa.large_string())


def _take(texts: Texts, rows: Ints) -> Texts:
    return texts.take(pa.array(rows, pa.int64()))


def _choose(condition: Bools, yes: Part, no: Part) -> Texts:
    chosen: Texts = pc.if_else(pa.array(condition), _operand(yes), _operand(no))
    return chosen


def _join(*parts: Part) -> Texts:
    """Join the parts element by element."""
    operands = [_operand(part) for part in (*parts, "")]
    joined: Texts = pc.call_function("binary_join_element_wise", operands)
    return joined


def _operand(part: Part) -> "Texts | pa.LargeStringScalar":
    return pa.scalar(part, pa.large_string()) if isinstance(part, str) else part


def _data(texts: Texts) -> memoryview:
    """Return the concatenation of *texts*: the data buffer of an array that starts at 0."""
    _, offsets, data = texts.buffers()
    if offsets is None or data is None:
        return memoryview(b"")
    return memoryview(data)[: int(np.frombuffer(memoryview(offsets), np.int64)[len(texts)])]
