"""Compensated sums over windows, in Prometheus's order within 1,024 samples."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from aggregator.model.arrays import Floats, Ints
from aggregator.promql.functions.kahan import two_sum
from aggregator.promql.functions.ragged import pieces, walks

# Up to here every integer is a float64, so that running sums of integers are exact.
EXACT_INTEGERS = 2.0**53

# The terms that samples add to each sum, from the samples' positions and their windows' cells.
Terms: TypeAlias = Callable[[Ints, Ints], Sequence[Floats]]


def window_sums(lo: Ints, counts: Ints, terms: Terms, number: int = 1) -> Floats:
    """Return *number* sums over each window as `[number, 2, windows]`: total and what it lost.

    Totals of empty windows are 0. Use what was lost only where the total is finite.
    """
    cut = pieces(lo, counts)
    partial = np.zeros((number, 2, cut.lo.size))
    for batch in walks(cut.lo, cut.counts):
        sums = np.zeros((number, 2, batch.cells.size))
        owners = cut.owner[batch.cells]
        for positions in batch.walk():
            alive = sums[:, :, : positions.size]
            for pair, term in zip(alive, terms(positions, owners[: positions.size]), strict=True):
                pair[0], pair[1] = two_sum(pair[0], pair[1], term)
        partial[:, :, batch.cells] = sums
    if cut.are_windows:
        return partial
    whole = np.zeros((number, 2, cut.first.size))
    for batch in walks(cut.first, cut.number):
        sums = np.zeros((number, 2, batch.cells.size))
        for positions in batch.walk():
            alive = sums[:, :, : positions.size]
            for pair, part in zip(alive, partial[:, :, positions], strict=True):
                pair[0], pair[1] = two_sum(pair[0], pair[1] + part[1], part[0])
        whole[:, :, batch.cells] = sums
    return whole
