"""Aggregations that look at the single values of a group: topk and its kin, quantile, count_values.

The present values of a step are sorted by group and value, all steps at once, so that no loop over
groups or steps is needed.
"""

import math
from dataclasses import replace

import numpy as np
import xxhash

from aggregator.errors import QueryExecutionError
from aggregator.model.arrays import Bools, Floats, Ints
from aggregator.model.budget import Budget
from aggregator.model.labels import LabelTable
from aggregator.model.stepmatrix import StepMatrix
from aggregator.promql.annotations import Annotations
from aggregator.promql.numbers import format_float, format_plain
from aggregator.promql.operators.aggregate import dropped, grouped, grouping_labels
from aggregator.promql.operators.rows import Groups, compact, step_blocks, take
from aggregator.promql.plan import StringLiteral
from aggregator.promql.strings import is_label_name

_INT64 = float(2**63)


def choose_k(
    op: str, matrix: StepMatrix, grouping: tuple[str, ...], k: Floats, *, without: bool
) -> StepMatrix:
    """Keep the *k* (`[T]`) largest, smallest or first series of each group: topk, bottomk, limitk.

    NaN comes last in any order; of equal values the first rows are kept. With a single step the
    rows come group by group, best first.
    """
    counts = _whole(k)
    if counts is None:
        return take(matrix, np.zeros(0, dtype=np.int64))
    groups, _ = grouped(grouping_labels(matrix.series, grouping, without=without))
    if op == "limitk":
        present = matrix.present & (groups.running(matrix.present) <= counts)
        return compact(replace(matrix, present=present))
    keys = -matrix.values if op == "topk" else matrix.values
    present = np.empty_like(matrix.present)
    for block in step_blocks(*keys.shape):
        present[:, block] = _smallest(
            keys[:, block], matrix.present[:, block], groups, counts[block]
        )
    kept = replace(matrix, present=present)
    if present.shape[1] > 1:
        return compact(kept)
    rows = np.flatnonzero(present)
    return take(kept, rows[np.lexsort((keys[rows, 0], groups.number[rows]))])


def _smallest(keys: Floats, present: Bools, groups: Groups, counts: Ints) -> Bools:
    """Tell which cells are among the *counts* (`[T]`) smallest of their group and step."""
    ordered, first, sizes = _sorted_segments(keys, present, groups)
    wanted = np.minimum(counts, sizes.T).T  # [T, groups]
    bound = groups.spread(_at(ordered, np.maximum(first + wanted - 1, 0)).T)
    wanted = wanted.T
    with np.errstate(invalid="ignore"):
        below, equal = keys < bound, keys == bound
    unknown = np.isnan(bound)
    if unknown.any():
        unordered = np.isnan(keys)
        below |= unknown & ~unordered
        equal |= unknown & unordered
    below &= present
    equal &= present
    remaining = wanted - groups.counts(below)
    if (groups.counts(equal) > remaining).any():  # of equal values not all are wanted
        equal &= groups.running(equal) <= groups.spread(remaining)
    chosen: Bools = (groups.spread(wanted) > 0) & (below | equal)
    return chosen


def _at(ordered: Floats, places: Ints) -> Floats:
    """Return the values at *places* (`[T, n]`) of each row of *ordered* (`[T, rows]`)."""
    found: Floats = ordered[np.arange(ordered.shape[0])[:, None], places]
    return found


def _sorted_segments(keys: Floats, present: Bools, groups: Groups) -> tuple[Floats, Ints, Ints]:
    """Sort the present cells of each step by group and key, NaN last.

    Returns the sorted keys `[T, rows]`, absent ones at the end, and where in them each group
    begins and how many cells it has, `[T, groups]` each.
    """
    sizes = groups.counts(present).T
    first = np.cumsum(sizes, axis=1) - sizes
    known = keys if present.all() else np.where(present, keys, np.nan)
    laid = np.array(known.T, order="C")
    if groups.count <= 1:
        laid.sort(axis=1)
        return laid, first, sizes
    order = np.argsort(laid, axis=1)
    # Sorting 16-bit numbers stably is done by radix, in linear time.
    kind = np.uint16 if groups.count < 2**16 else np.int64
    number = np.where(present.T, groups.number, groups.count).astype(kind)
    by_group = np.argsort(np.take_along_axis(number, order, axis=1), axis=1, kind="stable")
    order = np.take_along_axis(order, by_group, axis=1)
    return np.take_along_axis(laid, order, axis=1), first, sizes


def _whole(k: Floats) -> Ints | None:
    """Return *k* as whole numbers, or None if nothing can be chosen."""
    with np.errstate(invalid="ignore"):
        if k.max() < 1:
            return None
    if np.isnan(k).any():
        raise QueryExecutionError("Parameter value is NaN")
    if k.min() <= -_INT64:
        raise QueryExecutionError(f"Scalar value {format_float(float(k.min()))} underflows int64")
    if k.max() >= _INT64:
        raise QueryExecutionError(f"Scalar value {format_float(float(k.max()))} overflows int64")
    return k.astype(np.int64)


def choose_ratio(matrix: StepMatrix, ratio: Floats, annotations: Annotations) -> StepMatrix:
    """Keep the share *ratio* (`[T]`) of the series, or its complement if negative: limit_ratio.

    Membership depends on a hash of the labels alone, so `limit_ratio(r, x)` and
    `limit_ratio(-(1 - r), x)` never share a series and together have all.
    """
    if np.isnan(ratio).any():
        raise QueryExecutionError("Ratio value is NaN")
    for bound, worst in ((1.0, float(ratio.max())), (-1.0, float(ratio.min()))):
        if worst * bound > 1:
            annotations.warn(
                "ratio value should be between -1 and 1, got "
                f"{format_float(worst)}, capping to {bound:g}"
            )
    offsets = _offsets(matrix.series)[:, None]
    chosen = np.where(ratio >= 0, offsets < ratio, offsets >= 1 + ratio)
    return compact(replace(matrix, present=matrix.present & chosen))


def _offsets(series: LabelTable) -> Floats:
    """Return a number in [0, 1) for each label set; each distinct string is hashed once."""
    total = np.zeros(len(series), dtype=np.uint64)
    for column, name in enumerate(series.names):
        codes, inverse = np.unique(series.codes[:, column], return_inverse=True)
        hashes = [
            xxhash.xxh64_intdigest(f"{name}\xff{text}".encode()) if text else 0
            for text in series.strings.texts(codes)
        ]
        total += np.array(hashes, dtype=np.uint64)[inverse]
    total ^= total >> np.uint64(33)  # a sum of hashes is as even as one of them; mix it once more
    total *= np.uint64(0xFF51AFD7ED558CCD)
    return (total >> np.uint64(11)).astype(np.float64) / 2.0**53


def quantile(
    matrix: StepMatrix,
    grouping: tuple[str, ...],
    q: Floats,
    annotations: Annotations,
    *,
    without: bool,
) -> StepMatrix:
    """Return the *q*-quantile (`[T]`) of each group, interpolated between neighbours."""
    warn_quantile(q, annotations)
    groups, series = grouped(grouping_labels(matrix.series, grouping, without=without))
    result = np.empty((groups.count, q.size))
    for block in step_blocks(*matrix.values.shape):
        result[:, block] = _between(
            matrix.values[:, block], matrix.present[:, block], groups, q[block]
        )
    if not ((q >= 0) & (q <= 1)).all():
        result = np.where(q < 0, -np.inf, np.where(q > 1, np.inf, result))
        result = np.where(np.isnan(q), np.nan, result)
    return StepMatrix(series, result, groups.any(matrix.present), dropped(matrix, groups))


def _between(values: Floats, present: Bools, groups: Groups, q: Floats) -> Floats:
    """Return the value at share *q* (`[T]`) of each group's sorted values, `[groups, T]`."""
    ordered, first, sizes = _sorted_segments(values, present, groups)
    most = np.maximum(sizes - 1, 0)
    rank = np.clip(np.nan_to_num(q), 0, 1)[:, None] * most
    lower = np.floor(rank).astype(np.int64)
    upper = np.minimum(lower + 1, most)
    weight = rank - lower
    # NaN was sorted to the end of its group, but counts as smaller than any number.
    shift = groups.counts(present & np.isnan(values)).T
    sizes = np.maximum(sizes, 1)
    edge = max(ordered.shape[1] - 1, 0)
    places = [np.minimum(first + (rank - shift) % sizes, edge) for rank in (lower, upper)]
    below, above = (_at(ordered, place) for place in places)
    with np.errstate(invalid="ignore"):
        between: Floats = (below * (1 - weight) + above * weight).T
    return between


def warn_quantile(q: Floats, annotations: Annotations) -> None:
    """Annotate quantiles outside 0 to 1, worst first as Prometheus does."""
    if ((q >= 0) & (q <= 1)).all():
        return
    wrong = [math.nan] if np.isnan(q).any() else []
    wrong += [worst for worst in (float(np.nanmax(q, initial=0)),) if worst > 1]
    wrong += [worst for worst in (float(np.nanmin(q, initial=0)),) if worst < 0]
    for value in wrong:
        text = format_float(value)
        annotations.warn(f"quantile value should be between 0 and 1, got {text}")


def count_values(
    matrix: StepMatrix,
    grouping: tuple[str, ...],
    name: StringLiteral,
    budget: Budget,
    *,
    without: bool,
) -> StepMatrix:
    """Count the series of each group by value; the value becomes the label *name*."""
    label = name.value
    if not is_label_name(label):
        raise QueryExecutionError(f"invalid label name {name}")
    base = grouping_labels(matrix.series.drop((label,)), grouping, without=without)
    groups, series = grouped(base)
    rows, steps = np.nonzero(matrix.present)
    bits = np.where(np.isnan(matrix.values), np.nan, matrix.values).view(np.uint64)
    distinct, value = np.unique(bits[rows, steps], return_inverse=True)
    if without and label in grouping:
        value = np.zeros_like(value)
    pairs, pair = np.unique(groups.number[rows] * distinct.size + value, return_inverse=True)
    shape = (pairs.size, matrix.values.shape[1])
    budget.spend_bytes(pairs.size * shape[1] * 17)
    counts = np.bincount(pair * shape[1] + steps, minlength=shape[0] * shape[1]).reshape(shape)
    series = series.take(pairs // max(distinct.size, 1))
    if not (without and label in grouping):
        texts = [format_plain(number) for number in distinct.view(np.float64).tolist()]
        codes = series.strings.intern_all(texts)
        series = series.with_column(label, codes[pairs % max(distinct.size, 1)])
    no_drop = np.zeros(pairs.size, dtype=np.bool_)
    return StepMatrix(series, counts.astype(np.float64), counts > 0, no_drop)
