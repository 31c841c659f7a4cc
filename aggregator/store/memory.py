"""The reference backend: plain numpy columns, sorted by time; forgets everything at exit."""

import threading
from collections.abc import Iterator

import numpy as np

from aggregator.model.arrays import Ids
from aggregator.model.budget import Budget
from aggregator.model.samples import SampleBlock, SeriesSamples
from aggregator.store.conflicts import merged_rows, replaces, same_bits, series_bounds, settled
from aggregator.store.days import DAY_MS
from aggregator.store.head import SPAN_MS, Head
from aggregator.store.index import LabelIndex
from aggregator.store.indexed import IndexedStore
from aggregator.store.interface import WriteReport
from aggregator.store.stretches import of_block

_RUN_SERIES = 2_000


class MemoryStore(IndexedStore):
    """Keeps all samples in three arrays, ordered by time and then by series."""

    def __init__(self, *, head_ms: int = SPAN_MS) -> None:
        super().__init__(LabelIndex(), Head(head_ms))
        self._lock = threading.Lock()
        self._samples = SampleBlock.empty()
        self._used = 0
        self._cutoff_ms = np.iinfo(np.int64).min

    def warm(self, stopping: threading.Event) -> None:
        """Do nothing: what this store has is in memory."""

    def write(self, block: SampleBlock) -> WriteReport:
        """Store *block*; writing twice is once."""
        block, duplicates, conflicts = settled(block)
        with self._lock:
            lives = self._lives()  # an expiry numbers the rows anew
            rows = lives.rows(block.ids)
            storable = lives.are_known(rows) & (block.times >= self._cutoff_ms)
            refused = int((~storable).sum())
            block, rows = block.take(storable), rows[storable]
            if not len(block):
                return WriteReport(0, duplicates, conflicts, refused)
            low, high = self._between(int(block.times.min()) - 1, int(block.times.max()))
            stored = self._rows(low, high)
            old, new = merged_rows(stored, block)
            equal = same_bits(stored.values[old], block.values[new])
            better = replaces(block.values[new], stored.values[old])
            stored.values[old[better]] = block.values[new[better]]
            fresh = np.ones(len(block), np.bool_)
            fresh[new] = False
            self._insert(low, block.take(fresh))
            replacing = np.zeros(len(block), np.bool_)
            replacing[new[better]] = True
            taken = fresh | replacing
            self._head.grow(lives.rows_used)
            self._head.absorb(rows[taken], block.take(taken), replacing[taken])
            starts, ends = series_bounds(block)
            self._index.touch(rows[starts], block.times[starts], block.times[ends])
        duplicates += int(equal.sum())
        inserted = int(fresh.sum() + better.sum())
        conflicts += int((~equal & ~better).sum())
        return WriteReport(inserted, duplicates, conflicts, refused)

    def expire(self, before_ms: int) -> int:
        """Drop whole days that end before *before_ms* and the series without a sample since."""
        with self._lock:
            cutoff = self._cutoff_ms = max(before_ms // DAY_MS * DAY_MS, self._cutoff_ms)
            gone = int(np.searchsorted(self._samples.times[: self._used], cutoff))
            self._samples = self._rows(gone, self._used).take(np.arange(self._used - gone))
            self._used -= gone
            self._head.keep_from(cutoff)
            forgotten = self._index.forget(cutoff)
            self._head.compact(forgotten.kept, self._index.catalog.lives.epoch)
        self._generation += forgotten.ids.size > 0
        return int(forgotten.ids.size)

    def close(self) -> None:
        """Release everything."""
        self._samples, self._used = SampleBlock.empty(), 0

    def _stored(
        self, ids: Ids, start_ms: int, end_ms: int, budget: Budget
    ) -> Iterator[SeriesSamples]:
        """Yield samples of *ids*, run after run; see `IndexedStore`."""
        for first in range(0, ids.size, _RUN_SERIES):
            budget.check()
            wanted = ids[first : first + _RUN_SERIES]
            block = self._window(wanted, start_ms, end_ms)
            budget.spend_samples(len(block))
            yield of_block(first, wanted, block)

    def _rows(self, low: int, high: int) -> SampleBlock:
        """Return rows of the arrays, not a copy."""
        held = self._samples
        return SampleBlock(held.ids[low:high], held.times[low:high], held.values[low:high])

    def _between(self, start_ms: int, end_ms: int) -> tuple[int, int]:
        """Return where the samples in (start_ms, end_ms] begin and end."""
        times = self._samples.times[: self._used]
        low, high = np.searchsorted(times, [start_ms, end_ms], side="right")
        return int(low), max(int(low), int(high))

    def _window(self, ids: Ids, start_ms: int, end_ms: int) -> SampleBlock:
        """Return the samples of *ids* in (start_ms, end_ms], sorted by series and time."""
        wanted = np.zeros(int(ids.max()) + 1, np.bool_)
        wanted[ids] = True
        with self._lock:
            rows = self._rows(*self._between(start_ms, end_ms))
            there = rows.ids < wanted.size
            chosen = np.flatnonzero(there & wanted[np.where(there, rows.ids, 0)])
            order = np.argsort(rows.ids[chosen], kind="stable")  # times ascend already
            return rows.take(chosen[order])

    def _insert(self, low: int, block: SampleBlock) -> None:
        """Put *block* among the rows from *low* on; none of them is older than the oldest of it."""
        late = SampleBlock.concat([self._rows(low, self._used), block])
        late = late.take(np.lexsort((late.ids, late.times)))
        used = low + len(late)
        if used > len(self._samples):
            room = max(used, len(self._samples) + (len(self._samples) >> 1))
            head = self._rows(0, low)
            self._samples = SampleBlock(
                np.resize(head.ids, room), np.resize(head.times, room), np.resize(head.values, room)
            )
        held = self._samples
        held.ids[low:used], held.times[low:used] = late.ids, late.times
        held.values[low:used] = late.values
        self._used = used
