"""Aggregations that make one series of each group."""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import numpy as np

from aggregator.model.arrays import Bools, Floats, Ints, how_many, some
from aggregator.model.labels import METRIC_NAME, LabelTable
from aggregator.model.stepmatrix import StepMatrix
from aggregator.promql.functions.kahan import corrected
from aggregator.promql.operators.rows import Groups
from aggregator.promql.operators.sums import group_sums

Reducer: TypeAlias = Callable[[Floats, Bools, Groups], Floats]


def grouping_labels(series: LabelTable, grouping: tuple[str, ...], *, without: bool) -> LabelTable:
    """Return the labels that tell the groups of *series* apart."""
    if not grouping and not without:
        return LabelTable.empty(series.strings, rows=len(series))
    return series.drop((*grouping, METRIC_NAME)) if without else series.keep(grouping)


def grouped(labels: LabelTable) -> tuple[Groups, LabelTable]:
    """Return the groups of the rows with equal *labels*, and the labels of each group."""
    if not labels.names and len(labels):
        return Groups.whole(len(labels)), LabelTable.empty(labels.strings, rows=1)
    number, first = labels.groups()
    return Groups.of(number, first.size), labels.take(first)


def aggregate(
    op: str, matrix: StepMatrix, grouping: tuple[str, ...], *, without: bool
) -> StepMatrix:
    """Reduce each group of series to one; *op* is a key of `REDUCERS`."""
    if op == "count" and not grouping and not without:
        return _count_of_all(matrix)
    groups, series = grouped(grouping_labels(matrix.series, grouping, without=without))
    values = REDUCERS[op](matrix.values, matrix.present, groups)
    return StepMatrix(series, values, groups.any(matrix.present), dropped(matrix, groups))


def _count_of_all(matrix: StepMatrix) -> StepMatrix:
    """Return how many series there are at each step, which takes no groups."""
    rows, steps = min(matrix.drop_name.size, 1), matrix.present.shape[1]
    counts, present = np.zeros((rows, steps)), np.zeros((rows, steps), np.bool_)
    drop_name = np.zeros(rows, np.bool_)
    if steps == 1:  # `fill` takes a fifth of what an assignment does
        count = how_many(matrix.present)
        counts.fill(count)
        present.fill(count > 0)
    else:
        counts[:] = np.count_nonzero(matrix.present, axis=0)
        present[:] = counts > 0
    drop_name.fill(some(matrix.drop_name))
    return StepMatrix(LabelTable.empty(matrix.series.strings, rows), counts, present, drop_name)


def dropped(matrix: StepMatrix, groups: Groups) -> Bools:
    """Tell which groups have a member whose metric name is to be dropped, `[groups]`."""
    if not some(matrix.drop_name):
        return np.zeros(groups.count, dtype=np.bool_)
    return groups.any(matrix.drop_name[:, None])[:, 0]


def _sum(values: Floats, present: Bools, groups: Groups) -> Floats:
    """Add up; where a partial sum overflows, the whole need not."""
    totals, lost = group_sums(values, present, groups)
    result = corrected(totals, lost)
    if np.isfinite(totals).all():
        return result
    overflown = _overflown(totals, values, present, groups)
    if overflown.any():
        counts = np.maximum(groups.counts(present), 1)
        with np.errstate(over="ignore"):
            shares = _shares(values, present, groups, counts) * counts
        result = np.where(overflown, shares, result)
    return result


def _mean(values: Floats, present: Bools, groups: Groups) -> Floats:
    """Divide the sum by the count; where it overflows, add up shares of the count instead."""
    counts = np.maximum(groups.counts(present), 1)
    totals, lost = group_sums(values, present, groups)
    with np.errstate(invalid="ignore", over="ignore"):
        means = corrected(totals / counts, lost / counts)
    if np.isfinite(totals).all():
        return means
    overflown = _overflown(totals, values, present, groups)
    if overflown.any():
        means = np.where(overflown, _shares(values, present, groups, counts), means)
    return means


def _shares(values: Floats, present: Bools, groups: Groups, counts: Ints) -> Floats:
    """Return the sums of the values divided by their group's count, which do not overflow."""
    with np.errstate(invalid="ignore"):  # absent values may be anything
        shares = values / counts[groups.number]
    return corrected(*group_sums(shares, present, groups))


def _overflown(totals: Floats, values: Floats, present: Bools, groups: Groups) -> Bools:
    """Tell which totals are not finite although no value is NaN, `[groups, T]`."""
    overflown = np.isinf(totals)
    unknown = np.isnan(totals)
    if unknown.any():
        overflown |= unknown & ~groups.any(present & np.isnan(values))
    return overflown


def _variance(values: Floats, present: Bools, groups: Groups) -> Floats:
    """Two passes, on distances from the smallest value: equal values have variance 0 exactly."""
    smallest = _smallest(values, present, groups)[groups.number]
    with np.errstate(invalid="ignore", over="ignore"):
        distances = values - smallest
        distances -= _mean(distances, present, groups)[groups.number]
        return _mean(distances * distances, present, groups)


def _deviation(values: Floats, present: Bools, groups: Groups) -> Floats:
    return np.sqrt(_variance(values, present, groups))


def _smallest(values: Floats, present: Bools, groups: Groups) -> Floats:
    """NaN only where all values are NaN: `fmin` prefers any number."""
    known = values if present.all() else np.where(present, values, np.nan)
    ordered = known[groups.order]
    smallest: Floats = np.fmin.reduceat(ordered, groups.first, axis=0)
    return smallest


def _largest(values: Floats, present: Bools, groups: Groups) -> Floats:
    return -_smallest(-values, present, groups)


def _count(values: Floats, present: Bools, groups: Groups) -> Floats:  # noqa: ARG001 - a Reducer
    return groups.counts(present).astype(np.float64)


def _one(values: Floats, present: Bools, groups: Groups) -> Floats:  # noqa: ARG001 - a Reducer
    return np.ones((groups.count, values.shape[1]))


REDUCERS: Final[Mapping[str, Reducer]] = {
    "avg": _mean,
    "count": _count,
    "group": _one,
    "max": _largest,
    "min": _smallest,
    "stddev": _deviation,
    "stdvar": _variance,
    "sum": _sum,
}
