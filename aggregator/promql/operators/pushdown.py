"""Aggregates a leaf where its samples are, so that its series are never held together."""

from typing import Final

import numpy as np

from aggregator.model.arrays import Floats
from aggregator.model.stepmatrix import StepMatrix
from aggregator.promql.context import Context
from aggregator.promql.functions.kahan import corrected, two_sum
from aggregator.promql.operators.aggregate import grouped, grouping_labels
from aggregator.promql.operators.leaf import Leaf, StoreCall
from aggregator.promql.operators.rows import Groups, compact

_PUSHED: Final = frozenset({"avg", "count", "group", "sum"})
# With fewer series to a group than this, sums would be as large as what is added up.
_FEWEST_MEMBERS = 2


def aggregate_leaf(
    op: str, leaf: Leaf, grouping: tuple[str, ...], context: Context, *, without: bool
) -> StepMatrix | None:
    """Return the aggregation *op* of *leaf*, None where its values have to be looked at one by one.

    Then nothing was taken from the leaf's runs.
    """
    if leaf.pushed is None or leaf.note is not None or op not in _PUSHED:
        return None
    groups, series = grouped(grouping_labels(leaf.series, grouping, without=without))
    if groups.count * _FEWEST_MEMBERS > len(leaf.series):
        return None
    sums = _sums(leaf.pushed, groups, context)
    if sums is None:
        return None
    totals, counts = sums
    drop_name = np.full(groups.count, bool(leaf.drop_name.any()))
    return compact(StepMatrix(series, _values(op, totals, counts), counts > 0, drop_name))


def _sums(pushed: StoreCall, groups: Groups, context: Context) -> tuple[Floats, Floats] | None:
    """Return sum and number of the values of each group at each step, `[groups, T]`."""
    context.spend_matrix(3 * groups.count)
    totals, lost, counts = np.zeros((3, groups.count, context.steps.count))
    for part in pushed.reader.sums(pushed.call, pushed.ids, groups.number, context.budget):
        if part is None:
            return None
        context.budget.check()
        rows = part.groups
        totals[rows], lost[rows] = two_sum(totals[rows], lost[rows], part.totals)
        counts[rows] += part.counts
    return corrected(totals, lost), counts


def _values(op: str, totals: Floats, counts: Floats) -> Floats:
    match op:
        case "sum":
            return totals
        case "count":
            return counts
        case "avg":
            return totals / np.maximum(counts, 1)
        case _:
            return np.ones(counts.shape)
