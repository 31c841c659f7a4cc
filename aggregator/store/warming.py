"""Fills the head from the disk after a store was opened, while it is in use."""

import threading

import numpy as np

from aggregator.model.arrays import Ids, Ints
from aggregator.model.budget import Budget
from aggregator.store.blocks import BLOCK_BITS
from aggregator.store.head import Head
from aggregator.store.index import LabelIndex
from aggregator.store.lifetimes import Lifetimes
from aggregator.store.reading import SampleReader
from aggregator.store.rings import Run

_SERIES_AT_ONCE = 1 << 13
_PAUSE_SECONDS = 0.002


class Warming:
    """Reads what series have later than `from_ms`, some thousand series at a time.

    The writer waits for each such read, so that what is read is all there is; in between it gets
    its turn. Until a series was filled, queries read it from the disk.
    """

    def __init__(
        self,
        samples: SampleReader,
        index: LabelIndex,
        head: Head,
        writing: threading.Lock,
        from_ms: int,
    ) -> None:
        self._samples, self._index, self._head = samples, index, head
        self._writing = writing
        self._from_ms = from_ms

    def fill(self, stopping: threading.Event) -> None:
        """Fill the head, or end early when *stopping* is set.

        Raises `StoreError`, and `QueryError` when the engine is too busy.
        """
        for ids in _chunks(self._index.catalog.lives):
            with self._writing:
                self._fill(ids)
            if stopping.wait(_PAUSE_SECONDS):
                return

    def _fill(self, ids: Ids) -> None:
        lives = self._index.catalog.lives  # may have shrunk meanwhile
        rows = lives.rows(ids)
        known = lives.are_known(rows)
        ids, rows = ids[known], rows[known]
        lacking = self._head.lacking(rows, self._from_ms)
        ids, rows = ids[lacking], rows[lacking]
        budget = Budget(max_samples=1 << 62)
        end_ms = int(lives.last[rows].max(initial=self._from_ms))
        for read in self._samples.runs(ids, self._from_ms, end_ms, budget):
            run = Run(np.diff(read.offsets), read.times, read.values)
            self._head.fill(rows[read.first_row : read.first_row + read.count], run, self._from_ms)


def _chunks(lives: Lifetimes) -> list[Ids]:
    """Return all ids that have a row, ascending, in stretches."""
    blocks = np.flatnonzero(lives.dense >= 0)
    ids: Ints = (blocks[:, None] << BLOCK_BITS) + np.arange(1 << BLOCK_BITS)
    every = ids.ravel().astype(np.uint32)
    starts = range(0, every.size, _SERIES_AT_ONCE)
    return [every[first : first + _SERIES_AT_ONCE] for first in starts]
