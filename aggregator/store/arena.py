"""Room for short rings of samples: two flat columns that grow and shrink without a copy."""

import numpy as np
from numpy.typing import NDArray

from aggregator.model.arrays import Floats, Ints

_GROWTH_SHIFT = 5
_LEAST_CELLS = 1 << 12


class Arena:
    """Cell k is `times[k]` (the low 32 bits of a time in ms) and `values[k]`.

    A large allocation is moved by the system page by page, so growing by a thirty-second touches
    hardly more memory than is used. Nothing may keep a view of the columns.
    """

    def __init__(self) -> None:
        self.times: NDArray[np.uint32] = np.zeros(_LEAST_CELLS, np.uint32)
        self.values: Floats = np.zeros(_LEAST_CELLS, np.float64)
        self.used = 0
        self.free = 0
        self._spare: dict[int, list[Ints]] = {}

    def take(self, sizes: Ints) -> Ints:
        """Return the first cell of a free stretch of each size."""
        starts = np.empty(sizes.size, np.int64)
        for size in np.unique(sizes).tolist():
            wanted = np.flatnonzero(sizes == size)
            spare = self._reused(size, wanted.size)
            fresh = self.used + np.arange(wanted.size - spare.size, dtype=np.int64) * size
            self.used += fresh.size * size
            starts[wanted] = np.concatenate([spare, fresh])
        if self.used > self.times.size:
            self._resize(max(self.used, self.times.size + (self.times.size >> _GROWTH_SHIFT)))
        return starts

    def give(self, starts: Ints, sizes: Ints) -> None:
        """Take stretches back."""
        for size in np.unique(sizes).tolist():
            given = starts[sizes == size]
            self._spare.setdefault(size, []).append(given)
            self.free += given.size * size

    def shrink(self, used: int) -> None:
        """Give up the cells from *used* on; all cells before it are in use."""
        self.used, self.free = used, 0
        self._spare.clear()
        self._resize(max(used, _LEAST_CELLS))

    def _reused(self, size: int, count: int) -> Ints:
        """Return the starts of at most *count* stretches that were given back."""
        spare = np.concatenate([*self._spare.pop(size, ()), np.empty(0, np.int64)])
        if spare.size > count:
            self._spare[size] = [spare[count:]]
            spare = spare[:count]
        self.free -= spare.size * size
        return spare

    def _resize(self, cells: int) -> None:
        self.times.resize(cells, refcheck=False)
        self.values.resize(cells, refcheck=False)
