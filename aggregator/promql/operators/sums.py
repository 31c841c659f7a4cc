"""Compensated sums over groups of rows, as a tree: log2 of the largest group vector steps.

Prometheus adds one sample after the other with Neumaier's compensation. Here neighbours are added
pairwise by TwoSum, which loses no more: what rounding takes is carried beside each partial sum.
"""

import numpy as np

from aggregator.model.arrays import Bools, Floats, Ints
from aggregator.promql.functions.kahan import two_sum
from aggregator.promql.operators.rows import Groups, step_blocks


def group_sums(values: Floats, present: Bools, groups: Groups) -> tuple[Floats, Floats]:
    """Return total and what rounding took from it for each group and step, `[count, T]` each.

    Absent values do not count. Every group must have a row. Where the total is not finite, the
    second part means nothing.
    """
    shape = (groups.count, values.shape[1])
    totals, lost = np.empty(shape), np.empty(shape)
    levels = _levels(groups)
    with np.errstate(invalid="ignore", over="ignore"):
        for block in step_blocks(values.shape[0], values.shape[1]):
            part = np.where(present[:, block], values[:, block], 0.0)[groups.order]
            carry = np.zeros_like(part)
            for keep, left, right, target in levels:
                total, taken = two_sum(part[left], carry[left], part[right])
                taken += carry[right]
                part, carry = part[keep], carry[keep]
                part[target], carry[target] = total, taken
            totals[:, block], lost[:, block] = part, carry
    return totals, lost


def _levels(groups: Groups) -> list[tuple[Ints, Ints, Ints, Ints]]:
    """Return for each level which rows stay, and which pairs are added into which of those."""
    ranks = groups.ranks
    levels = []
    while ranks.any():
        odd = ranks % 2 == 1
        keep, right = np.flatnonzero(~odd), np.flatnonzero(odd)
        left = right - 1
        levels.append((keep, left, right, np.searchsorted(keep, left)))
        ranks = ranks[keep] // 2
    return levels
