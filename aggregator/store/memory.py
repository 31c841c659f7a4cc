"""The reference backend: plain numpy columns, sorted by time; forgets everything at exit."""

import threading
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from aggregator.model.arrays import Ids
from aggregator.model.budget import Budget
from aggregator.model.labels import Matcher, Strings
from aggregator.model.samples import SampleBlock, SeriesSamples
from aggregator.store.cardinality import Cardinality
from aggregator.store.conflicts import merged_rows, replaces, same_bits, series_bounds, settled
from aggregator.store.head import SPAN_MS, Head
from aggregator.store.index import LabelIndex
from aggregator.store.interface import SeriesSelection, WriteReport
from aggregator.store.lifetimes import Lifetimes

DAY_MS = 86_400_000
_RUN_SERIES = 2_000


class MemoryStore:
    """Keeps all samples in three arrays, ordered by time and then by series."""

    def __init__(self, *, head_ms: int = SPAN_MS) -> None:
        self._lock = threading.Lock()
        self._head = Head(head_ms)
        self._index = LabelIndex()
        self._samples = SampleBlock.empty()
        self._used = 0
        self._cutoff_ms = np.iinfo(np.int64).min
        self._generation = 0

    @property
    def series_count(self) -> int:
        """How many series the store knows."""
        return self._index.series_count

    @property
    def generation(self) -> int:
        """Changes whenever ids were forgotten."""
        return self._generation

    def strings(self) -> Strings:
        """Return a dictionary for one query."""
        return self._index.strings()

    def select(
        self,
        matchers: Sequence[Matcher],
        start_ms: int,
        end_ms: int,
        strings: Strings,
        budget: Budget | None = None,
    ) -> SeriesSelection:
        """Return the series that match and may have a sample in [start_ms, end_ms]."""
        return self._index.select(matchers, start_ms, end_ms, strings, budget)

    def label_names(
        self,
        selectors: Sequence[Sequence[Matcher]],
        start_ms: int,
        end_ms: int,
        budget: Budget | None = None,
    ) -> Sequence[str]:
        """Return the label names of the series that match any selector, sorted."""
        return self._index.label_names(selectors, start_ms, end_ms, budget)

    def label_values(
        self,
        name: str,
        selectors: Sequence[Sequence[Matcher]],
        start_ms: int,
        end_ms: int,
        budget: Budget | None = None,
    ) -> Sequence[str]:
        """Return the values of the label *name* among them, sorted."""
        return self._index.label_values(name, selectors, start_ms, end_ms, budget)

    def cardinality(
        self, matchers: Sequence[Matcher], limit: int, budget: Budget | None = None
    ) -> Cardinality:
        """Return how many series match, and the *limit* names and values that most of them have."""
        return self._index.cardinality(matchers, limit, budget)

    def series_ids(self, series: Sequence[Mapping[str, str]]) -> Ids:
        """Return the id of each label set, giving new ones an id."""
        return self._index.ids(series)

    def read(self, ids: Ids, start_ms: int, end_ms: int, budget: Budget) -> Iterator[SeriesSamples]:
        """Yield the samples in (start_ms, end_ms] of *ids* (ascending), run after run."""
        done = 0
        for run in self._head.runs(self._lives, ids, start_ms, end_ms, budget):
            yield run
            done += run.count
        for first in range(done, ids.size, _RUN_SERIES):
            budget.check()
            wanted = ids[first : first + _RUN_SERIES]
            block = self._window(wanted, start_ms, end_ms)
            budget.spend_samples(len(block))
            offsets = np.append(np.searchsorted(block.ids, wanted), len(block))
            yield SeriesSamples(first, offsets.astype(np.int64), block.times, block.values)

    def newest(
        self, ids: Ids, start_ms: int, end_ms: int, budget: Budget
    ) -> Iterator[SeriesSamples]:
        """Yield the newest sample in (start_ms, end_ms] of each of *ids*, run after run."""
        held = self._head.newest(self._lives, ids, start_ms, end_ms, budget)
        if held is not None:
            yield held
            return
        for run in self.read(ids, start_ms, end_ms, budget):
            yield run.newest()

    def warm(self, stopping: threading.Event) -> None:
        """Do nothing: what this store has is in memory."""

    def write(self, block: SampleBlock) -> WriteReport:
        """Store *block*; writing twice is once."""
        block, duplicates, conflicts = settled(block)
        lives = self._index.lives
        rows = lives.rows(block.ids)
        storable = lives.are_known(rows) & (block.times >= self._cutoff_ms)
        refused = int((~storable).sum())
        block, rows = block.take(storable), rows[storable]
        if not len(block):
            return WriteReport(0, duplicates, conflicts, refused)
        with self._lock:
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
        cutoff = self._cutoff_ms = max(before_ms // DAY_MS * DAY_MS, self._cutoff_ms)
        with self._lock:
            gone = int(np.searchsorted(self._samples.times[: self._used], cutoff))
            self._samples = self._rows(gone, self._used).take(np.arange(self._used - gone))
            self._used -= gone
            self._head.keep_from(cutoff)
            forgotten = self._index.forget(cutoff)
            self._head.compact(forgotten.kept, self._index.lives.epoch)
        self._generation += forgotten.ids.size > 0
        return int(forgotten.ids.size)

    def close(self) -> None:
        """Release everything."""
        self._samples, self._used = SampleBlock.empty(), 0

    def _lives(self) -> Lifetimes:
        return self._index.lives

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
