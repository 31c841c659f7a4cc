"""Windows of differing lengths, worked through in batches without a loop over windows.

Windows are ordered by length, longest first. A kernel then either takes the i-th sample of every
window at once, the windows that are used up falling off the end, or gathers a padded block. Very
long windows are cut into pieces, whose results are then walked through in the same way: thousands
of steps for a month of samples, not hundreds of thousands.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from aggregator.model.arrays import Bools, Floats, Ints

# A walk keeps a few columns of this many windows in the processor's cache: measured, twice as
# fast as with 16 times as many.
WALK_WINDOWS = 8_192
# A gathered block has at most this many values (2 MiB), unless one window alone has more.
BLOCK_VALUES = 2**18
# A piece of a long window has at most this many samples.
PIECE_SAMPLES = 1_024


@dataclass(frozen=True, slots=True)
class Pieces:
    """Windows cut into pieces: first position, length and window of each piece.

    Window w has the pieces `first[w]` to `first[w] + number[w]`, in order of time. If no window
    was cut, the pieces are the windows.
    """

    lo: Ints
    counts: Ints
    owner: Ints
    first: Ints
    number: Ints

    @property
    def are_windows(self) -> bool:
        """Whether no window was cut."""
        return bool((self.number == 1).all())


@dataclass(frozen=True, slots=True)
class Batch:
    """Some windows, longest first: their cells in the result, first positions and lengths."""

    cells: Ints
    lo: Ints
    counts: Ints

    def walk(self) -> Iterator[Ints]:
        """Yield the positions of the i-th samples, i = 0, 1, …, of the windows that have one.

        The m positions yielded belong to the first m windows of the batch.
        """
        longest = int(self.counts[0])
        alive = np.searchsorted(-self.counts, -np.arange(longest), side="left")
        for index, windows in enumerate(alive.tolist()):
            yield self.lo[:windows] + index

    def gather(self, values: Floats) -> Floats:
        """Return the windows' values, `[windows, longest]`, padded with NaN at the end."""
        index = np.arange(int(self.counts[0]))
        if self.counts[-1] == index.size:
            whole: Floats = values[self.lo[:, None] + index]
            return whole
        inside: Bools = index < self.counts[:, None]
        gathered: Floats = values[np.where(inside, self.lo[:, None] + index, 0)]
        gathered[~inside] = np.nan
        return gathered


def pieces(lo: Ints, counts: Ints) -> Pieces:
    """Cut the windows that are longer than `PIECE_SAMPLES`; empty ones stay as they are."""
    lo, counts = lo.ravel(), counts.ravel()
    number = np.maximum(-(-counts // PIECE_SAMPLES), 1)
    first = np.cumsum(number) - number
    owner = np.repeat(np.arange(lo.size), number)
    skipped = (np.arange(owner.size) - first[owner]) * PIECE_SAMPLES
    lengths = np.minimum(counts[owner] - skipped, PIECE_SAMPLES)
    return Pieces(lo[owner] + skipped, lengths, owner, first, number)


def walks(lo: Ints, counts: Ints, minimum: int = 1) -> Iterator[Batch]:
    """Yield the windows with at least *minimum* samples in batches for `Batch.walk`."""
    ordered = _longest_first(lo, counts, minimum)
    for start in range(0, ordered.cells.size, WALK_WINDOWS):
        yield _part(ordered, start, start + WALK_WINDOWS)


def blocks(lo: Ints, counts: Ints, minimum: int = 1) -> Iterator[Batch]:
    """Yield the windows with at least *minimum* samples in batches for `Batch.gather`."""
    ordered = _longest_first(lo, counts, minimum)
    start = 0
    while start < ordered.cells.size:
        stop = start + max(1, BLOCK_VALUES // int(ordered.counts[start]))
        yield _part(ordered, start, stop)
        start = stop


def _longest_first(lo: Ints, counts: Ints, minimum: int) -> Batch:
    cells = np.flatnonzero(counts >= minimum)
    lengths = counts.ravel()[cells]
    missing = lengths.max(initial=0) - lengths
    if not missing.any():
        return Batch(cells, lo.ravel()[cells], lengths)
    if int(missing.max()) < 2**16:
        missing = missing.astype(np.uint16)  # 16-bit keys are sorted by radix, in linear time
    order = np.argsort(missing, kind="stable")
    cells = cells[order]
    return Batch(cells, lo.ravel()[cells], lengths[order])


def _part(batch: Batch, start: int, stop: int) -> Batch:
    return Batch(batch.cells[start:stop], batch.lo[start:stop], batch.counts[start:stop])
