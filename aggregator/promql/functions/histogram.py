"""histogram_quantile and histogram_fraction on classic buckets; the rest knows only native ones.

`BucketQuantile`, `BucketFraction` and `ensureMonotonicAndIgnoreSmallDeltas` of Prometheus 3's
promql/quantile.go, for all histograms and steps at once: the only loop goes over the buckets of
the largest histogram.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from aggregator.errors import QueryExecutionError
from aggregator.model.arrays import Bools, Floats, Ints
from aggregator.model.labels import METRIC_NAME, LabelTable
from aggregator.model.stepmatrix import StepMatrix
from aggregator.promql.annotations import Annotations
from aggregator.promql.functions.function import Call
from aggregator.promql.functions.label import label_name
from aggregator.promql.functions.quantile import check_quantile
from aggregator.promql.numbers import format_openmetrics
from aggregator.promql.operators.rows import concat, merge_equal, step_blocks
from aggregator.promql.strings import quoted

MAX_QUANTILES = 10
MAX_DIFFERENT_QUANTILES = 100
_BUCKET = "le"
# Differences between neighbouring counts below this share of their sum are rounding errors.
_TOLERANCE = 1e-12
_MIN_NORMAL = float(np.finfo(np.float64).smallest_normal)
_UNSUPPORTED_SPELLING = frozenset("_ \t\n\r\f\v")


@dataclass(frozen=True, slots=True)
class _Histograms:
    """Buckets by histogram, most buckets first, and within one by upper bound.

    Histogram h has the rows `starts[h]` to `starts[h] + sizes[h]` of `bounds` (`[rows]`) and of
    `counts` and `present` (`[rows, T]`); `series` holds its labels without `le`.
    """

    series: LabelTable
    starts: Ints
    sizes: Ints
    bounds: Floats
    counts: Floats
    present: Bools

    def walk(self) -> Iterator[Ints]:
        """Yield the rows of the i-th buckets, i = 0, 1, …, of the histograms that have one."""
        longest = int(self.sizes.max(initial=0))
        alive = np.searchsorted(-self.sizes, -np.arange(longest), side="left")
        for index, histograms in enumerate(alive.tolist()):
            yield self.starts[:histograms] + index


def histogram_quantile(call: Call) -> StepMatrix:
    """Return the φ-quantile (first argument) of each histogram (`BucketQuantile`)."""
    q = call.scalar(0)
    check_quantile([q], call.annotations[0])
    histograms = _histograms(call.matrix(1), call.annotations[1])
    with np.errstate(all="ignore"):
        forced = _make_monotonic(histograms)
        values = _quantiles(histograms, q)
    _note_forced(histograms.series, forced & (q >= 0) & (q <= 1), call.annotations[1])
    return _result(histograms, values)


def histogram_quantiles(call: Call) -> StepMatrix:
    """Return several quantiles of each histogram, with each quantile in a label.

    Arguments: vector, label, 1 to `MAX_QUANTILES` quantiles. Raises `QueryExecutionError` if two
    elements get the same labels, or if the quantiles change too much from step to step.
    """
    quantiles = [call.scalar(position) for position in range(2, len(call.args))]
    for q, annotations in zip(quantiles, call.annotations[2:], strict=True):
        check_quantile([q], annotations)
    label = label_name(call.text(1), "histogram_quantiles()")
    histograms = _histograms(call.matrix(0), call.annotations[0])
    with np.errstate(all="ignore"):
        forced = _make_monotonic(histograms)
    results: list[StepMatrix] = []
    for q in quantiles:
        distinct = np.unique(q)
        if len(results) + distinct.size > MAX_DIFFERENT_QUANTILES:
            raise QueryExecutionError(
                f"more than {MAX_DIFFERENT_QUANTILES} different quantiles in histogram_quantiles()"
            )
        call.spend_rows(len(histograms.series) * 2 * distinct.size)  # each, and all together
        _note_forced(histograms.series, forced & (q >= 0) & (q <= 1), call.annotations[0])
        with np.errstate(all="ignore"):
            result = _result(histograms, _quantiles(histograms, q))
        for value in distinct.tolist():
            there = (q == value) | (np.isnan(q) & np.isnan(value))
            code = call.strings.intern(format_openmetrics(value))
            codes = np.full(len(result.series), code, dtype=np.int32)
            series = result.series.with_column(label, codes)
            results.append(replace(result, series=series, present=result.present & there))
    return merge_equal(concat(results))


def histogram_fraction(call: Call) -> StepMatrix:
    """Return the share of observations between the first two arguments (`BucketFraction`)."""
    histograms = _histograms(call.matrix(2), call.annotations[2])
    with np.errstate(all="ignore"):
        values = _fractions(histograms, call.scalar(0), call.scalar(1))
    return _result(histograms, values)


def nothing(call: Call) -> StepMatrix:
    """Return an empty vector: the function is of native histograms, which are not stored."""
    steps = call.steps.count
    return StepMatrix(
        LabelTable.empty(call.strings),
        np.zeros((0, steps)),
        np.zeros((0, steps), dtype=np.bool_),
        np.zeros(0, dtype=np.bool_),
    )


def _result(histograms: _Histograms, values: Floats) -> StepMatrix:
    present = np.zeros(values.shape, dtype=np.bool_)
    for rows in histograms.walk():
        present[: rows.size] |= histograms.present[rows]
    dropped = np.ones(values.shape[0], dtype=np.bool_)
    return StepMatrix(histograms.series, values, present, dropped)


def _histograms(matrix: StepMatrix, annotations: Annotations) -> _Histograms:
    rows, bounds = _bucket_rows(matrix, annotations)
    series = matrix.series.take(rows).drop((_BUCKET,))
    group, first = series.groups()
    sizes = np.bincount(group, minlength=first.size).astype(np.int64)
    largest_first = np.argsort(-sizes, kind="stable")
    place = np.empty_like(largest_first)
    place[largest_first] = np.arange(largest_first.size)
    order = np.lexsort((bounds, place[group]))
    sizes = sizes[largest_first]
    return _coalesced(
        _Histograms(
            series=series.take(first[largest_first]),
            starts=np.cumsum(sizes) - sizes,
            sizes=sizes,
            bounds=bounds[order],
            counts=matrix.values[rows[order]],
            present=matrix.present[rows[order]],
        )
    )


def _bucket_rows(matrix: StepMatrix, annotations: Annotations) -> tuple[Ints, Floats]:
    """Return the rows that are buckets and their upper bounds; warn about the others."""
    codes, inverse = np.unique(matrix.series.column(_BUCKET), return_inverse=True)
    texts = matrix.series.strings.texts(codes)
    parsed = np.array([_bound(text) for text in texts], dtype=np.float64)
    malformed = np.array([_is_malformed(text) for text in texts], dtype=np.bool_)
    bad = malformed[inverse] & matrix.present.any(axis=1)
    for row in np.flatnonzero(bad)[:50].tolist():
        labels = matrix.series.labels(row)
        name = labels.get(METRIC_NAME, "")
        annotations.warn(
            'bucket label "le" is missing or has a malformed value of '
            f"{quoted(labels.get(_BUCKET, ''))}{_for_metric(name)}"
        )
    rows = np.flatnonzero(~malformed[inverse])
    return rows, parsed[inverse][rows]


def _bound(text: str) -> float:
    return np.nan if _is_malformed(text) else float(text)


def _is_malformed(text: str) -> bool:
    """Tell whether Go's `strconv.ParseFloat` refuses *text*."""
    if not _UNSUPPORTED_SPELLING.isdisjoint(text):
        return True
    try:
        float(text)
    except ValueError:
        return True
    return False


def _coalesced(histograms: _Histograms) -> _Histograms:
    """Return *histograms* with buckets of equal bounds, as `1` and `1.0`, added up."""
    bounds = histograms.bounds
    repeated = np.zeros(bounds.size, dtype=np.bool_)
    repeated[1:] = bounds[1:] == bounds[:-1]
    repeated[histograms.starts] = False
    if not repeated.any():
        return histograms
    first = np.flatnonzero(~repeated)
    counts = np.where(histograms.present, histograms.counts, 0.0)
    owner = np.repeat(np.arange(histograms.sizes.size), histograms.sizes)[first]
    sizes = np.bincount(owner, minlength=histograms.sizes.size).astype(np.int64)
    order = np.argsort(-sizes, kind="stable")
    starts = np.cumsum(sizes) - sizes
    return _Histograms(
        series=histograms.series.take(order),
        starts=starts[order],
        sizes=sizes[order],
        bounds=bounds[first],
        counts=np.add.reduceat(counts, first, axis=0),
        present=np.logical_or.reduceat(histograms.present, first, axis=0),
    )


def _make_monotonic(histograms: _Histograms) -> Bools:
    """Raise falling counts to the one before, in place; tell where more than rounding did it."""
    shape = (histograms.sizes.size, histograms.counts.shape[1])
    before = np.zeros(shape)
    seen = np.zeros(shape, dtype=np.bool_)
    forced = np.zeros(shape, dtype=np.bool_)
    if _clearly_rising(histograms):
        return forced
    for rows in histograms.walk():
        alive = slice(rows.size)
        count, present = histograms.counts[rows], histograms.present[rows]
        previous = before[alive]
        compared = present & seen[alive]
        close = compared & _almost_equal(previous, count)
        falls = compared & ~close & (count < previous)
        count = np.where(close | falls, previous, count)
        histograms.counts[rows] = count
        before[alive] = np.where(present, count, previous)
        seen[alive] |= present
        forced[alive] |= falls
    return forced


def _almost_equal(left: Floats, right: Floats) -> Bools:
    size = np.abs(left) + np.abs(right)
    difference = np.abs(left - right)
    tiny = (left == 0) | (right == 0) | (size < _MIN_NORMAL)
    limited = np.minimum(size, np.finfo(np.float64).max)
    near = np.where(tiny, difference < _TOLERANCE * _MIN_NORMAL, difference / limited < _TOLERANCE)
    equal: Bools = (left == right) | near
    return equal


def _clearly_rising(histograms: _Histograms) -> bool:
    """Tell whether each bucket is there, and as large as the one before or larger by far.

    Then none is almost equal to the one before, ten times the tolerance being far.
    """
    if not histograms.present.all():
        return False
    counts, starts = histograms.counts, histograms.starts
    others = np.ones(max(counts.shape[0] - 1, 0), dtype=np.bool_)
    others[starts[starts > 0] - 1] = False  # from one histogram to the next
    for block in step_blocks(*counts.shape):
        left, right = counts[:-1, block], counts[1:, block]
        rising = right - left > 10 * _TOLERANCE * (np.abs(left) + np.abs(right)) + _MIN_NORMAL
        rising |= left == right
        if not rising[others].all():
            return False
    return True


def _quantiles(histograms: _Histograms, q: Floats) -> Floats:
    """Return the *q*-quantile (`[T]`) of each histogram and step."""
    if histograms.present.all():
        result = _quantiles_of_whole(histograms, q)
    else:
        result = _quantiles_of_some(histograms, q)
    if ((q >= 0) & (q <= 1)).all():
        return result
    return np.select([np.isnan(q), q < 0, q > 1], [np.nan, -np.inf, np.inf], result)


def _quantiles_of_whole(histograms: _Histograms, q: Floats) -> Floats:
    """Return the quantiles of histograms that have all their buckets at all steps."""
    sizes, bounds, counts = histograms.sizes[:, None], histograms.bounds, histograms.counts
    last = histograms.starts + histograms.sizes - 1
    total = counts[last]
    rank = q * total
    bucket = np.zeros(rank.shape, dtype=np.int64)  # the first one that reaches the rank
    short = np.ones(rank.shape, dtype=np.bool_)
    for rows in histograms.walk():
        alive = slice(rows.size)
        short[alive] &= ~(counts[rows] >= rank[alive])
        bucket[alive] += short[alive]
    np.minimum(bucket, sizes - 1, out=bucket)
    row, steps, lowest = histograms.starts[:, None] + bucket, np.arange(q.size), bucket == 0
    before = np.maximum(row - 1, 0)
    below = np.where(lowest, 0.0, counts[before, steps])
    start, bound = np.where(lowest, 0.0, bounds[before]), bounds[row]
    share = (rank - below) / (counts[row, steps] - below)
    inside = np.where(lowest & (bound <= 0), bound, start + (bound - start) * share)
    result = np.where(bucket == sizes - 1, start, inside)
    result[~np.isposinf(bounds[last])[:, None] | (sizes < 2) | (total == 0)] = np.nan
    return result


def _quantiles_of_some(histograms: _Histograms, q: Floats) -> Floats:
    """Return the quantiles of histograms of which some buckets are absent at some steps."""
    shape = (histograms.sizes.size, histograms.counts.shape[1])
    number = np.zeros(shape, dtype=np.int64)
    total, top = np.zeros(shape), np.full(shape, np.nan)
    for rows in histograms.walk():
        alive, present = slice(rows.size), histograms.present[rows]
        number[alive] += present
        total[alive] = np.where(present, histograms.counts[rows], total[alive])
        top[alive] = np.where(present, histograms.bounds[rows, None], top[alive])
    rank = q * total
    index = np.zeros(shape, dtype=np.int64)
    count_before, bound_before = np.zeros(shape), np.zeros(shape)
    result, found = np.zeros(shape), np.zeros(shape, dtype=np.bool_)
    for rows in histograms.walk():
        alive, present = slice(rows.size), histograms.present[rows]
        count, bound = histograms.counts[rows], histograms.bounds[rows, None]
        highest = index[alive] == number[alive] - 1
        lowest = index[alive] == 0
        hit = present & ~found[alive] & (highest | (count >= rank[alive]))
        below = count_before[alive]
        share = (rank[alive] - below) / (count - below)
        start = bound_before[alive]
        inside = np.where(lowest & (bound <= 0), bound, start + (bound - start) * share)
        result[alive] = np.where(hit, np.where(highest, start, inside), result[alive])
        found[alive] |= hit
        count_before[alive] = np.where(present, count, below)
        bound_before[alive] = np.where(present, bound, start)
        index[alive] += present
    undefined = ~np.isposinf(top) | (number < 2) | (total == 0)
    result[undefined] = np.nan
    return result


def _fractions(histograms: _Histograms, lower: Floats, upper: Floats) -> Floats:
    shape = (histograms.sizes.size, histograms.counts.shape[1])
    total, top = np.zeros(shape), np.full(shape, np.nan)
    for rows in histograms.walk():
        alive, present = slice(rows.size), histograms.present[rows]
        total[alive] = np.where(present, histograms.counts[rows], total[alive])
        top[alive] = np.where(present, histograms.bounds[rows, None], top[alive])
    below = np.minimum(_rank_of(histograms, lower, total), total)
    above = np.minimum(_rank_of(histograms, upper, total), total)
    result = np.where(lower >= upper, 0.0, (above - below) / total)
    undefined = ~np.isposinf(top) | (total == 0) | np.isnan(lower) | np.isnan(upper)
    return np.where(undefined, np.nan, result)


def _rank_of(histograms: _Histograms, value: Floats, total: Floats) -> Floats:
    """Return how many observations lie below *value* (`[T]`), interpolated in its bucket.

    A histogram whose lowest bound is above 0 has no observations below 0; a bucket without a
    lower end cannot be interpolated and counts whole.
    """
    rank, start = np.zeros(total.shape), np.zeros(total.shape)
    seen, found = np.zeros((2, *total.shape), dtype=np.bool_)
    result = total.copy()
    for rows in histograms.walk():
        alive, present = slice(rows.size), histograms.present[rows]
        count, bound = histograms.counts[rows], histograms.bounds[rows, None]
        low = np.where(seen[alive], start[alive], np.where(bound <= 0, -np.inf, 0.0))
        before = rank[alive]
        inside = before + (count - before) * (value - low) / (bound - low)
        inside = np.where(np.isneginf(low), count, inside)
        at_edge = low >= value
        hit = present & ~found[alive] & (at_edge | (bound > value))
        result[alive] = np.where(hit, np.where(at_edge, before, inside), result[alive])
        found[alive] |= hit
        seen[alive] |= present
        rank[alive] = np.where(present, count, before)
        start[alive] = np.where(present, bound, start[alive])
    return result


def _note_forced(series: LabelTable, forced: Bools, annotations: Annotations) -> None:
    rows = np.flatnonzero(forced.any(axis=1))
    names = np.unique(series.column(METRIC_NAME)[rows])
    for name in series.strings.texts(names):
        annotations.info(
            "input to histogram_quantile needed to be fixed for monotonicity (see "
            "https://prometheus.io/docs/prometheus/latest/querying/functions/"
            f"#histogram_quantile){_for_metric(name)}"
        )


def _for_metric(name: str) -> str:
    return f" for metric name {quoted(name)}" if name else ""
