"""Compensated sums over groups of rows, as a tree: log2 of the largest group vector steps.

Prometheus adds one sample after the other with Neumaier's compensation. Here neighbours are added
pairwise by TwoSum, which loses no more: what rounding takes is carried beside each partial sum.
"""

from collections.abc import Iterator

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
    whole = present.all()
    with np.errstate(invalid="ignore", over="ignore"):
        for numbers, rows in _tables(groups):
            for block in step_blocks(rows.size, shape[1]):
                part = values[:, block][rows]
                if not whole:
                    part[~present[:, block][rows]] = 0.0
                if not isinstance(numbers, slice):
                    part[rows < 0] = -0.0  # to which adding makes no difference
                totals[numbers, block], lost[numbers, block] = _tree(part)
    return totals, lost


def _tables(groups: Groups) -> Iterator[tuple[slice | Ints, Ints]]:
    """Yield groups of similar sizes, and their rows, `[n, largest]`, -1 after the last.

    At least half of the places are rows. If all groups have the same size, all places are, and the
    groups are a slice.
    """
    first, sizes = groups.first, groups.sizes
    if not sizes.size:
        return
    places = sizes.size * int(sizes.max())
    if places == groups.order.size:
        yield slice(None), groups.order.reshape(sizes.size, -1)
        return
    if places <= 2 * groups.order.size:
        classes = [np.arange(sizes.size)]
    else:
        exponents = np.frexp(sizes)[1]
        classes = [np.flatnonzero(exponents == one) for one in np.unique(exponents)]
    for numbers in classes:
        place = np.arange(int(sizes[numbers].max()))
        inside = place < sizes[numbers, None]
        rows = groups.order.take(first[numbers, None] + place, mode="clip")
        yield numbers, np.where(inside, rows, -1)


def _tree(part: Floats) -> tuple[Floats, Floats]:
    """Return total and lost part of each `[n, rows, T]`, neighbours added pair by pair."""
    carry = np.zeros_like(part)
    while part.shape[1] > 1:
        pairs = part.shape[1] // 2
        left, right = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
        total, taken = two_sum(part[:, left], carry[:, left], part[:, right])
        taken += carry[:, right]
        if part.shape[1] % 2:
            total = np.concatenate([total, part[:, -1:]], axis=1)
            taken = np.concatenate([taken, carry[:, -1:]], axis=1)
        part, carry = total, taken
    return part[:, 0], carry[:, 0]
