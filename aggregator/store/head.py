"""The newest samples of every series in memory, so that steady writing reads no disk.

Row k belongs to one series (see `Lifetimes`). It holds the newest `depth` samples of the series;
every sample later than `floor[k]` is among them, what is not later may be on disk alone.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from aggregator.model.arrays import Bools, Ints
from aggregator.model.samples import SampleBlock
from aggregator.store.blocks import BLOCK_SIZE
from aggregator.store.conflicts import replaces, same_bits

EMPTY = np.iinfo(np.int64).min


class Verdict(IntEnum):
    """What a sample is to what is stored."""

    NEW = 0
    DUPLICATE = 1
    CONFLICT = 2
    REPLACES = 3  # a real value for a stored stale marker
    UNSURE = 4  # older than the head: the disk knows


Verdicts = NDArray[np.int8]


class Head:
    """Rings of `depth` samples; used by the writer alone, who serialises access."""

    def __init__(self, depth: int = 4) -> None:
        self._depth = depth
        self._times: Ints = np.empty((0, depth), np.int64)
        self._values = np.empty((0, depth), np.float64)
        self._floor: Ints = np.empty(0, np.int64)
        self._rows = 0

    def grow(self, rows: int) -> None:
        """Have at least *rows* rows; new ones are of series without samples."""
        if rows <= self._rows:
            return
        if rows > self._floor.size:
            room = max(rows, self._floor.size + (self._floor.size >> 1))
            self._times = _with_room(self._times, self._rows, room)
            self._values = _with_room(self._values, self._rows, room)
            self._floor = _with_room(self._floor, self._rows, room)
        self._times[self._rows : rows] = EMPTY
        self._floor[self._rows : rows] = EMPTY
        self._rows = rows

    def load(self, rows: Ints, last: Ints) -> None:
        """Say that series have samples on disk, none later than *last*."""
        self._floor[rows] = last

    def judge(self, rows: Ints, block: SampleBlock) -> Verdicts:
        """Compare each sample with what the head holds of its series, row by row."""
        hits = self._times[rows] == block.times[:, None]
        known = hits[:, 0].copy()
        for slot in range(1, self._depth):  # a reduction along so short an axis is slower
            known |= hits[:, slot]
        verdicts = np.where(block.times > self._floor[rows], Verdict.NEW, Verdict.UNSURE)
        verdicts = verdicts.astype(np.int8)
        at = np.flatnonzero(known)
        if at.size:
            stored = self._values[rows[at], hits[at].argmax(axis=1)]
            verdicts[at] = compared(block.values[at], stored)
        return verdicts

    def absorb(self, rows: Ints, block: SampleBlock, replacing: Bools) -> None:
        """Take stored samples, sorted by row and time, each once, in place of older ones.

        *replacing* marks those that took the place of a stale marker.
        """
        if replacing.any():
            self._replace(rows[replacing], block.take(replacing))
            rows, block = rows[~replacing], block.take(~replacing)
        ends = np.flatnonzero(np.diff(rows, append=-1))
        if ends.size == rows.size:
            self._enter(rows, block)
            return
        behind = np.repeat(ends, np.diff(ends, prepend=-1)) - np.arange(rows.size)
        left_out = behind == self._depth  # the newest of those that never enter the ring
        self._raise_floor(rows[left_out], block.times[left_out])
        for place in range(min(self._depth, int(behind.max(initial=-1)) + 1) - 1, -1, -1):
            self._enter(rows[behind == place], block.take(behind == place))

    def compact(self, kept: Ints) -> None:
        """Keep only blocks of rows, in the given order (see `Lifetimes.without`)."""
        rows = (kept[:, None] * BLOCK_SIZE + np.arange(BLOCK_SIZE)).ravel()
        rows = rows[rows < self._rows]
        self._times, self._values = self._times[rows], self._values[rows]
        self._floor = self._floor[rows]
        self._rows = rows.size

    def _replace(self, rows: Ints, block: SampleBlock) -> None:
        """Give samples that the ring holds another value."""
        hits = self._times[rows] == block.times[:, None]
        at = np.flatnonzero(hits.any(axis=1))  # the others are older than the ring
        self._values[rows[at], hits[at].argmax(axis=1)] = block.values[at]

    def _enter(self, rows: Ints, block: SampleBlock) -> None:
        """Put one sample into each of *rows*, in the place of the oldest if it is newer."""
        held = self._times[rows]
        slots, oldest = np.zeros(rows.size, np.int64), held[:, 0].copy()
        for slot in range(1, self._depth):
            older = held[:, slot] < oldest
            slots[older] = slot
            np.minimum(oldest, held[:, slot], out=oldest)
        newer = block.times > oldest
        self._raise_floor(rows, np.where(newer, oldest, block.times))
        if not newer.all():
            rows, slots, block = rows[newer], slots[newer], block.take(newer)
        self._times[rows, slots] = block.times
        self._values[rows, slots] = block.values

    def _raise_floor(self, rows: Ints, times: Ints) -> None:
        self._floor[rows] = np.maximum(self._floor[rows], times)


def compared(new: np.ndarray, stored: np.ndarray) -> Verdicts:
    """Return what each new value is to the stored one of the same series and time."""
    verdicts = np.where(same_bits(new, stored), Verdict.DUPLICATE, Verdict.CONFLICT)
    verdicts[replaces(new, stored)] = Verdict.REPLACES
    return verdicts.astype(np.int8)


def _with_room(array: np.ndarray, rows: int, room: int) -> np.ndarray:
    """Return a copy of the first *rows* rows with room for more."""
    roomy = np.empty((room, *array.shape[1:]), array.dtype)
    roomy[:rows] = array[:rows]
    return roomy
