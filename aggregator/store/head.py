"""The newest minutes of every series in memory, for readers and for the check of conflicts.

Row k belongs to one series (see `Lifetimes`). Its *floor* is a time: every stored sample of the
series that is later is in the row's ring, what is not later may be on disk alone. A ring grows
until it spans `span_ms` at the rate at which samples come; where they come more densely than the
largest ring can hold, the floor stays closer to the present.

One thread at a time writes (the store's lock sees to it). It and every reader hold `_lock` while
they touch what is shared, and do no I/O meanwhile: so a reader sees all of a block or nothing of
it, and waits some ten milliseconds at most, which is what entering a block takes.
"""

import threading
from collections.abc import Callable, Iterator

import numpy as np

from aggregator import telemetry
from aggregator.model.arrays import Bools, Ids, Ints, highest, how_many, some
from aggregator.model.budget import Budget
from aggregator.model.kept import Kept
from aggregator.model.samples import Newest, SampleBlock, SeriesSamples
from aggregator.store.blocks import BLOCK_SIZE
from aggregator.store.conflicts import Verdict, Verdicts, compared
from aggregator.store.lifetimes import Lifetimes
from aggregator.store.rings import EMPTY, LARGEST, Rings, Run, with_room

SPAN_MS = 600_000
_SERVED = telemetry.LEAF_READS.labels("head")
_SWEEP_MS = 60_000
_RUN_SERIES = 1 << 14
_REMEMBERED = 1_000
_FAR_MS = 1 << 61  # no sample is so far from 1970, and differences of such times fit


class Head:
    """The rings of all series and their floors."""

    def __init__(self, span_ms: int = SPAN_MS) -> None:
        self._lock = threading.Lock()
        self.span_ms = span_ms
        self._rings = Rings(span_ms)
        self._floor: Ints = np.empty(0, np.int64)
        self._epoch = 0
        self._located: Kept[tuple[int, Ints]] = Kept(200)
        self._from_ms = -_FAR_MS
        self._swept_ms = 0

    @property
    def room(self) -> int:
        """How many samples the head has room for now."""
        return self._rings.cells

    # -- reading, by any thread

    def runs(
        self,
        lives: Callable[[], Lifetimes],
        ids: Ids,
        start_ms: int,
        end_ms: int,
        budget: Budget,
    ) -> Iterator[SeriesSamples]:
        """Yield the samples in (start_ms, end_ms] of *ids* (ascending), run after run.

        Ends early, at the first run of which not everything is in memory.
        """
        for first in range(0, ids.size, _RUN_SERIES):
            budget.check()
            run = self.all_of(lives, ids[first : first + _RUN_SERIES], start_ms, end_ms)
            if run is None:
                return
            budget.spend_samples(run.times.size)
            yield _series_samples(first, run)

    def all_of(
        self, lives: Callable[[], Lifetimes], ids: Ids, start_ms: int, end_ms: int
    ) -> Run | None:
        """Return the samples in (start_ms, end_ms] of *ids* (ascending), as one run.

        Returns None if not everything is in memory, or the series are too many to wait for.
        """
        if ids.size > _RUN_SERIES:
            return None
        with self._lock:
            rows, start = self._complete(lives(), ids, start_ms)
            if rows is None:
                return None
            run = self._rings.between(rows, start, max(start, min(end_ms, _FAR_MS)))
        _SERVED.inc()
        return run

    def newest(
        self,
        lives: Callable[[], Lifetimes],
        ids: Ids,
        start_ms: int,
        end_ms: int,
        budget: Budget,
    ) -> Newest | None:
        """Return the newest sample in (start_ms, end_ms] of each of *ids*.

        Returns None if not everything that could be it is in memory.
        """
        with self._lock:
            rows, start = self._complete(lives(), ids, start_ms)
            if rows is None:
                return None
            newest = self._rings.last(rows, start, max(start, min(end_ms, _FAR_MS)))
        budget.spend_samples(how_many(newest.present))
        _SERVED.inc()
        return newest

    # -- writing, by one thread at a time

    def grow(self, rows: int) -> None:
        """Have at least *rows* rows; new ones are of series without samples."""
        before = self._rings.rows
        if rows <= before:
            return
        with self._lock:
            self._rings.grow(rows)
            if rows > self._floor.size:
                self._floor = with_room(self._floor, before, self._rings.newest.size)
            self._floor[before:rows] = EMPTY

    def load(self, rows: Ints, last: Ints) -> None:
        """Say that series have samples on disk, none later than *last*."""
        with self._lock:
            self._floor[rows] = self._rings.newest[rows] = last

    def lacking(self, rows: Ints, floor_ms: int) -> Bools:
        """Tell which of *rows* may have samples later than *floor_ms* on disk alone."""
        lacking: Bools = self._floor[rows] > floor_ms
        return lacking

    def fill(self, rows: Ints, run: Run, floor_ms: int) -> None:
        """Take all that is stored of series later than *floor_ms*."""
        with self._lock:
            lost = self._rings.put(rows, run)
            self._rings.newest[rows[run.counts == 0]] = floor_ms
            self._floor[rows] = np.maximum(lost, floor_ms)

    def judge(self, rows: Ints, block: SampleBlock) -> Verdicts:
        """Compare each sample with what the head holds of its series, row by row."""
        verdicts = np.zeros(rows.size, np.int8)  # new
        late = np.flatnonzero(block.times <= self._rings.newest[rows])
        if late.size:
            verdicts[late] = self._judge_late(rows[late], block.take(late))
        return verdicts

    def absorb(self, rows: Ints, block: SampleBlock, replacing: Bools) -> None:
        """Take stored samples, sorted by row and time, each once.

        *replacing* marks those that took the place of a stale marker.
        """
        with self._lock:
            late = block.times <= self._rings.newest[rows]
            if late.any():
                self._insert(rows[late], block.take(late), replacing[late])
                rows, block = rows[~late], block.take(~late)
            self._append(rows, block)
        if rows.size:
            self._sweep(int(block.times.max()))

    def keep_from(self, from_ms: int) -> None:
        """Answer no more with samples older than *from_ms*: the disk dropped them."""
        with self._lock:
            self._from_ms = max(self._from_ms, from_ms)

    def compact(self, kept: Ints, epoch: int) -> None:
        """Keep only blocks of rows, in the given order, as `Lifetimes` of *epoch* have them."""
        rows = (kept[:, None] * BLOCK_SIZE + np.arange(BLOCK_SIZE)).ravel()
        rows = rows[rows < self._rings.rows]
        with self._lock:
            self._rings.keep(rows)
            self._floor = self._floor[rows]
            self._epoch = epoch
        self._rings.squeeze(self._lock)

    # -- inside

    def _complete(self, lives: Lifetimes, ids: Ids, start_ms: int) -> tuple[Ints | None, int]:
        """Return the rows of *ids*, None if the disk may know more later than the start.

        Also returns where the answer is to start.
        """
        start_ms = max(start_ms, self._from_ms - 1, -_FAR_MS)
        if lives.epoch != self._epoch or not ids.size:
            return None, start_ms
        rows = self._rows(lives, ids)
        if rows is None or highest(self._floor[rows]) > start_ms:
            return None, start_ms
        return rows, start_ms

    def _rows(self, lives: Lifetimes, ids: Ids) -> Ints | None:
        """Return the rows of *ids*, None if one is new or forgotten; few are remembered."""
        held = self._located.get(ids)
        if held is not None and held[0] == self._epoch:
            return held[1]
        rows = lives.rows_of(ids)
        if some(rows.view(np.uint64) >= self._rings.rows):  # -1 is more than any
            return None
        if ids.size <= _REMEMBERED:
            self._located.put(ids, (self._epoch, rows))
        return rows

    def _judge_late(self, rows: Ints, block: SampleBlock) -> Verdicts:
        """Judge samples that are not later than all of their series."""
        verdicts = np.where(block.times > self._floor[rows], Verdict.NEW, Verdict.UNSURE)
        verdicts = verdicts.astype(np.int8)
        cells = self._rings.find(rows, block.times)
        known = np.flatnonzero(cells >= 0)
        verdicts[known] = compared(block.values[known], self._rings.values(cells[known]))
        return verdicts

    def _append(self, rows: Ints, block: SampleBlock) -> None:
        """Take samples that are later than all the head has of their series."""
        ends = np.flatnonzero(np.diff(rows, append=-1))
        if ends.size == rows.size:
            self._raise_floor(rows, self._rings.enter(rows, block.times, block.values))
            return
        behind = np.repeat(ends, np.diff(ends, prepend=-1)) - np.arange(rows.size)
        left_out = behind == LARGEST  # the newest of those that no ring could hold
        self._raise_floor(rows[left_out], block.times[left_out])
        for place in range(min(LARGEST, int(behind.max(initial=-1)) + 1) - 1, -1, -1):
            at = np.flatnonzero(behind == place)
            lost = self._rings.enter(rows[at], block.times[at], block.values[at])
            self._raise_floor(rows[at], lost)

    def _insert(self, rows: Ints, block: SampleBlock, replacing: Bools) -> None:
        """Take late samples; those that are too late to be held only raise the floor."""
        self._rings.replace(rows[replacing], block.times[replacing], block.values[replacing])
        fresh = ~replacing & (block.times > self._floor[rows])
        rows, block = rows[fresh], block.take(fresh)
        near = block.times > self._rings.newest[rows] - self.span_ms
        self._raise_floor(rows[~near], block.times[~near])  # ascending: the last one stays
        if near.any():
            self._merge(rows[near], block.take(near))

    def _merge(self, rows: Ints, block: SampleBlock) -> None:
        """Put samples between those that the rings of *rows* hold."""
        different, counts = np.unique(rows, return_counts=True)
        run = self._rings.between(different, -_FAR_MS, _FAR_MS)
        all_rows = np.concatenate([np.repeat(different, run.counts), rows])
        times = np.concatenate([run.times, block.times])
        values = np.concatenate([run.values, block.values])
        order = np.lexsort((times, all_rows))
        merged = Run(run.counts + counts, times[order], values[order])
        self._raise_floor(different, self._rings.put(different, merged))

    def _raise_floor(self, rows: Ints, times: Ints) -> None:
        self._floor[rows] = np.maximum(self._floor[rows], times)

    def _sweep(self, now_ms: int) -> None:
        """Give up the rings of series that ended, once a minute of the samples' own time.

        The time is that of the newest sample of a block, not of all blocks: one false time in the
        future must not end every series.
        """
        if abs(now_ms - self._swept_ms) < _SWEEP_MS:
            return
        self._swept_ms = now_ms
        ended = self._rings.idle(now_ms - self.span_ms)
        with self._lock:
            self._raise_floor(ended, self._rings.newest[ended])
            self._rings.release(ended)
        self._rings.squeeze(self._lock)


def _series_samples(first_row: int, run: Run) -> SeriesSamples:
    offsets = np.zeros(run.counts.size + 1, np.int64)
    run.counts.cumsum(out=offsets[1:])
    return SeriesSamples(first_row, offsets, run.times, run.values)
