"""The newest samples of each row in a ring of its own, as large as its rate asks for."""

import threading

import numpy as np
from numpy.typing import NDArray

from aggregator.model.arrays import Floats, Ints, highest
from aggregator.model.record import record
from aggregator.model.samples import Newest
from aggregator.store.arena import Arena

EMPTY = np.iinfo(np.int64).min
# ten minutes at 60, 30, 20, 15, 10 and 5 s are 11, 21, 31, 41, 61 and 121 samples
_SIZES = np.array([4, 12, 22, 32, 42, 62, 122], np.int64)
LARGEST = int(_SIZES[-1])
_MOVED_AT_ONCE = 1 << 14
_WORTH_MOVING = 1 << 18  # cells
_LOOKED_THROUGH = 1 << 12  # cells; of more the first and last wanted are searched

Bytes = NDArray[np.uint8]


@record
class Run:
    """Samples of n rows: `counts[k]` of the k-th, times ascending within each."""

    counts: Ints
    times: Ints
    values: Floats


class Rings:
    """Rings of rows. The samples of a row lie within some hours, so 32 bits tell their times.

    `newest` is the time of a row's newest sample, held or not, `EMPTY` before the first, and
    `value` what it is if it is held. A ring begins at cell `start`, has `size` cells, of which
    `held` are in use, and is written at `at`.
    """

    def __init__(self, span_ms: int) -> None:
        self._span = span_ms
        self._arena = Arena()
        self.rows = 0
        self.newest: Ints = np.empty(0, np.int64)
        self._value: Floats = np.empty(0)
        self.held: Bytes = np.empty(0, np.uint8)
        self._start: Ints = np.empty(0, np.int64)
        self._size: Bytes = np.empty(0, np.uint8)
        self._at: Bytes = np.empty(0, np.uint8)

    @property
    def cells(self) -> int:
        """How many samples there is room for."""
        return self._arena.used

    def grow(self, rows: int) -> None:
        """Have *rows* rows; new ones are empty."""
        room = rows if rows <= self.newest.size else max(rows, self.rows + (self.rows >> 1))
        if room > self.newest.size:
            self.newest = with_room(self.newest, self.rows, room)
            self._value = with_room(self._value, self.rows, room)
            self.held = with_room(self.held, self.rows, room)
            self._start = with_room(self._start, self.rows, room)
            self._size = with_room(self._size, self.rows, room)
            self._at = with_room(self._at, self.rows, room)
        fresh = slice(self.rows, rows)
        self.newest[fresh] = EMPTY
        self.held[fresh] = self._start[fresh] = self._size[fresh] = self._at[fresh] = 0
        self.rows = rows

    def keep(self, rows: Ints) -> None:
        """Keep only *rows* (ascending), numbered from zero."""
        gone = self._size[: self.rows] > 0
        gone[rows] = False
        self.release(np.flatnonzero(gone))
        self.newest, self.held, self._start = self.newest[rows], self.held[rows], self._start[rows]
        self._size, self._at = self._size[rows], self._at[rows]
        self._value = self._value[rows]
        self.rows = rows.size

    def release(self, rows: Ints) -> None:
        """Give up the rings of *rows*; `newest` stays."""
        rows = rows[self._size[rows] > 0]
        self._arena.give(self._start[rows], self._size[rows].astype(np.int64))
        self.held[rows] = self._start[rows] = self._size[rows] = self._at[rows] = 0

    def idle(self, before_ms: int) -> Ints:
        """Return the rows with a ring whose newest sample is older than *before_ms*."""
        old = self.newest[: self.rows] < before_ms
        return np.flatnonzero(old & (self._size[: self.rows] > 0))

    def later(self, rows: Ints, limit_ms: Ints | int) -> Ints:
        """Return how many of each row's samples are later than *limit_ms*."""
        newest, held = self.newest[rows], self.held[rows].astype(np.int64)
        low, high = np.zeros(rows.size, np.int64), held
        limit = newest - limit_ms  # in how many ms before the newest one
        if not ((limit > 0) & (held > 0)).any():
            return low
        start, size, at = self._geometry(rows)
        bits = newest.astype(np.uint32)
        for _ in range(int(held.max()).bit_length()):
            middle = (low + high) >> 1
            age = bits - self._arena.times[_back(start, size, at, middle)]
            newer = (age < limit) & (low < high)
            low = np.where(newer, middle + 1, low)
            high = np.where(newer, high, middle)
        return low

    def find(self, rows: Ints, times: Ints) -> Ints:
        """Return the cell of the sample of each row at each time, -1 if it is not held."""
        back = np.zeros(rows.size, np.int64)
        older = np.flatnonzero(times != self.newest[rows])  # mostly the newest is asked for
        if older.size:
            back[older] = self.later(rows[older], times[older])
        cells = _back(*self._geometry(rows), back)
        there = back < self.held[rows]
        there &= self._arena.times[cells] == times.astype(np.uint32)
        return np.where(there, cells, -1)

    def values(self, cells: Ints) -> Floats:
        """Return the values of cells."""
        return self._arena.values[cells]

    def replace(self, rows: Ints, times: Ints, values: Floats) -> None:
        """Give the samples of rows at some times other values, where they are held."""
        cells = self.find(rows, times)
        held = cells >= 0
        self._arena.values[cells[held]] = values[held]
        newest = held & (times == self.newest[rows])
        self._value[rows[newest]] = values[newest]

    def between(self, rows: Ints, start_ms: int, end_ms: int) -> Run:
        """Return the held samples in (start_ms, end_ms] of each row."""
        width = int(self.held[rows].max(initial=0))
        if rows.size * width <= _LOOKED_THROUGH:
            return self._among_all(rows, start_ms, end_ms, width)
        after = self.later(rows, end_ms)
        counts = self.later(rows, start_ms) - after
        there = np.flatnonzero(counts)
        count = counts[there]
        start, size, at = self._geometry(rows[there])
        first = _back(start, size, at, after[there] + count - 1)
        cells = _ring_cells(start, size, first, count)
        base: Ints | int = start_ms
        if end_ms - start_ms >> 32:
            base = np.repeat(self.newest[rows[there]] - (1 << 31), count)
        bits = self._arena.times[cells] - np.asarray(base).astype(np.uint32)
        return Run(counts, base + bits.astype(np.int64), self._arena.values[cells])

    def _among_all(self, rows: Ints, start_ms: int, end_ms: int, width: int) -> Run:
        """Return the same by a look at every sample of the rows, which have *width* at most."""
        start, size, at = self._geometry(rows)
        back = np.arange(width - 1, -1, -1)
        place = (at - 1)[:, None] - back
        place += np.where(place < 0, size[:, None], 0)
        place += start[:, None]  # of a row that has fewer: any cells, which do not count
        newest = self.newest[rows][:, None]
        times = newest - (newest.astype(np.uint32) - self._arena.times[place])
        inside = back < self.held[rows][:, None]
        inside &= times > start_ms
        inside &= times <= end_ms
        counts = np.count_nonzero(inside, axis=1)
        return Run(counts, times[inside], self._arena.values[place[inside]])

    def last(self, rows: Ints, start_ms: int, end_ms: int) -> Newest:
        """Return the newest sample in (start_ms, end_ms] of each of some rows.

        The rings must hold everything that was stored later than *start_ms*.
        """
        newest = self.newest[rows]
        if highest(newest) <= end_ms:  # mostly the newest of all is wanted
            return Newest(newest, self._value[rows], newest > start_ms)
        back = self.later(rows, end_ms)
        there = back < self.held[rows]
        cells = np.where(there, _back(*self._geometry(rows), back), 0)
        times = newest - (newest.astype(np.uint32) - self._arena.times[cells])
        return Newest(times, self._arena.values[cells], there & (times > start_ms))

    def enter(self, rows: Ints, times: Ints, values: Floats) -> Ints:
        """Put one sample, later than all it had, into each of *rows*.

        Returns the time of the newest sample that each row lost by it, `EMPTY` if none.
        """
        lost = np.full(rows.size, EMPTY, np.int64)
        newest, held = self.newest[rows], self.held[rows]
        ended = np.flatnonzero((newest < times - self._span) & (held > 0))
        if ended.size:
            lost[ended] = newest[ended]
            self.held[rows[ended]] = self._at[rows[ended]] = held[ended] = 0
        full = np.flatnonzero(held == self._size[rows])
        if full.size:
            lost[full] = self._make_room(rows[full], times[full])
        at = self._at[rows]
        cells = self._start[rows] + at
        self._arena.times[cells] = times.astype(np.uint32)
        self._arena.values[cells] = values
        size = self._size[rows]
        self._at[rows] = np.where(at + 1 == size, 0, at + 1)
        self.held[rows] = np.minimum(self.held[rows] + 1, size)
        self.newest[rows], self._value[rows] = times, values
        return lost

    def put(self, rows: Ints, run: Run) -> Ints:
        """Let *rows* have the newest samples of *run* and no others.

        Returns the time of the newest sample of each that found no room, `EMPTY` if none.
        """
        run, lost = _bounded(run)
        ends = np.cumsum(run.counts)
        there = np.flatnonzero(run.counts)
        self.release(rows[run.counts == 0])
        rows, counts, ends = rows[there], run.counts[there], ends[there]
        newest = run.times[ends - 1]
        spread = np.maximum(newest - run.times[ends - counts], 1)
        sizes = np.maximum(self._fitting(spread, counts - 1), _fitting_size(counts))
        small = self._size[rows] < sizes
        self.release(rows[small])
        self._start[rows[small]] = self._arena.take(sizes[small])
        self._size[rows[small]] = sizes[small]
        start, size, _ = self._geometry(rows)
        cells = _ring_cells(start, size, start, counts)
        self._arena.times[cells] = run.times.astype(np.uint32)
        self._arena.values[cells] = run.values
        self._at[rows] = np.where(counts == size, 0, counts)
        self.held[rows] = counts
        self.newest[rows], self._value[rows] = newest, run.values[ends - 1]
        return lost

    def squeeze(self, lock: threading.Lock) -> None:
        """Move the rings together and give back what is between them, if that is worth it.

        Readers get the lock in between: each sees its rings where they are at that moment. Moving
        800,000 rings takes 0.15 s, and no reader waits for more than 5 ms of it.
        """
        if self._arena.free < max(self._arena.used >> 4, _WORTH_MOVING):
            return
        rows = np.flatnonzero(self._size[: self.rows])
        rows = rows[np.argsort(self._start[rows])]
        ends = np.cumsum(self._size[rows], dtype=np.int64)
        for first in range(0, rows.size, _MOVED_AT_ONCE):
            part = rows[first : first + _MOVED_AT_ONCE]
            with lock:
                start, size, _ = self._geometry(part)
                target = ends[first : first + part.size] - size
                cells = _ring_cells(start, size, start, size)
                moved = slice(int(target[0]), int(target[0]) + cells.size)
                self._arena.times[moved] = self._arena.times[cells]
                self._arena.values[moved] = self._arena.values[cells]
                self._start[part] = target
        with lock:
            self._arena.shrink(int(ends[-1]) if rows.size else 0)

    def _make_room(self, rows: Ints, times: Ints) -> Ints:
        """Grow the full rings that do not span enough; return what the others are to lose."""
        start, size, at = self._geometry(rows)
        newest = self.newest[rows]
        age = newest.astype(np.uint32) - self._arena.times[start + at]
        oldest: Ints = newest - age
        crowded = (oldest > times - self._span) & (size < LARGEST) | (size == 0)
        if crowded.any():
            spread = np.where(size == 0, 1, times - oldest)[crowded]
            self._widen(rows[crowded], self._fitting(spread, size[crowded]))
            oldest[crowded] = EMPTY
        return oldest

    def _widen(self, rows: Ints, sizes: Ints) -> None:
        """Move rings to new ones of *sizes*, which are larger."""
        start, size, at = self._geometry(rows)
        held = self.held[rows].astype(np.int64)
        full = np.flatnonzero(held)
        cells = _ring_cells(start[full], size[full], (start + at)[full], held[full])
        times, values = self._arena.times[cells], self._arena.values[cells]
        self._arena.give(start[full], size[full])
        start = self._start[rows] = self._arena.take(sizes)
        cells = _ring_cells(start[full], sizes[full], start[full], held[full])
        self._arena.times[cells], self._arena.values[cells] = times, values
        self._size[rows], self._at[rows] = sizes, held

    def _fitting(self, spread_ms: Ints, intervals: Ints) -> Ints:
        """Return the size that spans enough where so many *intervals* take *spread_ms*."""
        return _fitting_size(-(-self._span * intervals // spread_ms) + 1)

    def _geometry(self, rows: Ints) -> tuple[Ints, Ints, Ints]:
        """Return the first cell, the size and the place to be written of each row's ring."""
        return self._start[rows], self._size[rows].astype(np.int64), self._at[rows].astype(np.int64)


def with_room(array: np.ndarray, used: int, room: int) -> np.ndarray:
    """Return a copy of the first *used* entries with room for more."""
    roomy = np.empty(room, array.dtype)
    roomy[:used] = array[:used]
    return roomy


def _fitting_size(counts: Ints) -> Ints:
    return _SIZES[np.minimum(np.searchsorted(_SIZES, counts), _SIZES.size - 1)]


def _bounded(run: Run) -> tuple[Run, Ints]:
    """Return the newest samples that rings can have, and the times of the newest left out."""
    lost = np.full(run.counts.size, EMPTY, np.int64)
    over = np.flatnonzero(run.counts > LARGEST)
    if not over.size:
        return run, lost
    ends, counts = np.cumsum(run.counts), np.minimum(run.counts, LARGEST)
    lost[over] = run.times[ends[over] - LARGEST - 1]
    there = np.flatnonzero(counts)
    kept = _ring_cells(ends[there], counts[there], (ends - counts)[there], counts[there])
    return Run(counts, run.times[kept], run.values[kept]), lost


def _back(start: Ints, size: Ints, at: Ints, back: Ints) -> Ints:
    """Return the cell of the sample *back* places before the newest."""
    place = at - 1 - back
    return start + np.where(place < 0, place + size, place)


def _ring_cells(start: Ints, size: Ints, first: Ints, counts: Ints) -> Ints:
    """Return *counts* (not zero) cells of each ring from the cell *first* on, one after the other.

    Built from the steps between neighbours, one of which leads back to the start of its ring.
    """
    ends = np.cumsum(counts)
    steps = np.ones(int(ends[-1]) if ends.size else 0, np.int64)
    until = start + size - first
    wraps = until < counts
    last = first + counts - 1 - np.where(wraps, size, 0)
    begins = ends - counts
    steps[begins[:1]] = first[:1]
    steps[begins[1:]] = first[1:] - last[:-1]
    steps[(begins + until)[wraps]] -= size[wraps]
    return np.cumsum(steps)
