"""When each series had its first and last sample, in dense rows that ids lead to."""

from dataclasses import dataclass

import numpy as np

from aggregator.model.arrays import Bools, Codes, Ids, Ints, some
from aggregator.store.blocks import BLOCK_BITS, BLOCK_SIZE

NEVER_FIRST = np.iinfo(np.int64).max
NEVER_LAST = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Span:
    """What some series all lived through, in ms: the latest `first` and the earliest `last`.

    Lifetimes only widen, so whoever knew this once need not look again.
    """

    first_ms: int
    last_ms: int

    @staticmethod
    def of(first: Ints, last: Ints) -> "Span":
        """Return what series lived through that have these first and last samples."""
        return Span(int(first.max(initial=NEVER_LAST)), int(last.min(initial=NEVER_FIRST)))

    def covers(self, start_ms: int, end_ms: int) -> bool:
        """Tell whether all of the series may have a sample in [start_ms, end_ms]."""
        return start_ms <= self.last_ms and end_ms >= self.first_ms


UNPROVEN = Span(NEVER_FIRST, NEVER_LAST)


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Per-series state in blocks of 1,024 rows; rows of one id block lie together.

    `dense[id >> 10]` is the block of rows of an id block, -1 if it has none; `known` tells which
    rows belong to a series; `first` and `last` are sample times in ms, `NEVER_FIRST` and
    `NEVER_LAST` before the first sample. Writers change rows in place, readers see old or new.
    `epoch` changes when rows are numbered anew.
    """

    dense: Codes
    blocks: int
    known: Bools
    first: Ints
    last: Ints
    epoch: int = 0

    @staticmethod
    def empty() -> "Lifetimes":
        """Return the state of no series."""
        return Lifetimes(
            np.full(1, -1, np.int32),
            0,
            np.zeros(0, np.bool_),
            np.empty(0, np.int64),
            np.empty(0, np.int64),
        )

    @property
    def rows_used(self) -> int:
        """How many rows belong to blocks."""
        return self.blocks << BLOCK_BITS

    def rows(self, ids: Ids) -> Ints:
        """Return the row of each id, -1 for an id without one (any shape)."""
        block = (ids >> np.uint32(BLOCK_BITS)).astype(np.int64)
        inside = block < self.dense.size
        dense = self.dense[np.where(inside, block, 0)].astype(np.int64)
        row = (dense << BLOCK_BITS) + (ids & np.uint32(BLOCK_SIZE - 1))
        found: Ints = np.where(inside & (dense >= 0), row, -1)
        return found

    def rows_of(self, ids: Ids) -> Ints:
        """Return what `rows` does, of ids that ascend; mostly their blocks have rows."""
        if not ids.size or int(ids[-1]) >> BLOCK_BITS >= self.dense.size:
            return self.rows(ids)
        first, last = int(ids[0]) >> BLOCK_BITS, int(ids[-1]) >> BLOCK_BITS
        wide = ids.astype(np.int64)
        if first == last:
            dense = int(self.dense[first])
            return self.rows(ids) if dense < 0 else wide + ((dense - first) << BLOCK_BITS)
        blocks = wide >> BLOCK_BITS
        denses = self.dense[blocks]
        return self.rows(ids) if some(denses < 0) else wide + ((denses - blocks) << BLOCK_BITS)

    def are_known(self, rows: Ints) -> Bools:
        """Tell which rows (-1 for none) belong to a series."""
        # a table may already hold series that this state was too early for
        there = (rows >= 0) & (rows < self.known.size)
        if not self.known.size:
            return there
        known: Bools = there & self.known[np.where(there, rows, 0)]
        return known

    def alive(self, ids: Ids, start_ms: int, end_ms: int) -> Bools:
        """Tell which series may have a sample in [start_ms, end_ms]."""
        rows = self.rows(ids)
        known = self.are_known(rows)
        if not self.known.size:
            return known
        rows = np.where(known, rows, 0)
        alive: Bools = known & (self.last[rows] >= start_ms) & (self.first[rows] <= end_ms)
        return alive

    def times(self, rows: Ints) -> tuple[Ints, Ints]:
        """Return the first and last sample's time at each of *rows*, never if it is not known."""
        known = self.are_known(rows)
        if known.all():
            return self.first[rows], self.last[rows]
        first, last = np.full(rows.size, NEVER_FIRST), np.full(rows.size, NEVER_LAST)
        first[known], last[known] = self.first[rows[known]], self.last[rows[known]]
        return first, last

    def span(self, ids: Ids) -> Span:
        """Return what all of *ids* lived through."""
        return Span.of(*self.times(self.rows(ids)))

    def within(self, ids: Ids, start_ms: int, end_ms: int) -> tuple[Ints, Ints]:
        """Return from when to when in [start_ms, end_ms] each of *ids* may have samples.

        Who has none ends before it begins.
        """
        first, last = self.times(self.rows_of(ids))
        return np.maximum(first, start_ms), np.minimum(last, end_ms)

    def with_ids(self, ids: Ids) -> "Lifetimes":
        """Return the state with rows for *ids*, marked as known and never written."""
        numbers = np.unique(ids >> np.uint32(BLOCK_BITS)).astype(np.int64)
        grown = self._with_blocks(numbers)
        rows = grown.rows(ids)
        grown.first[rows] = NEVER_FIRST
        grown.last[rows] = NEVER_LAST
        grown.known[rows] = True
        return grown

    def touch(self, rows: Ints, first: Ints, last: Ints) -> None:
        """Widen the lifetimes of series (rows, each once) to the given times."""
        self.first[rows] = np.minimum(self.first[rows], first)
        self.last[rows] = np.maximum(self.last[rows], last)

    def without(self, dead: Bools) -> tuple["Lifetimes", Ints]:
        """Return the state without the rows *dead*, and the blocks of rows that were kept.

        Block k of the new state was block `kept[k]` of this one.
        """
        used = self.rows_used
        known = self.known[:used] & ~dead[:used]
        kept = np.flatnonzero(known.reshape(-1, BLOCK_SIZE).any(axis=1))
        position = np.full(self.blocks + 1, -1, np.int32)
        position[kept] = np.arange(kept.size, dtype=np.int32)
        dense = position[self.dense]  # -1 picks the last entry, which is -1
        rows = (kept[:, None] * BLOCK_SIZE + np.arange(BLOCK_SIZE)).ravel()
        return (
            Lifetimes(
                dense, kept.size, known[rows], self.first[rows], self.last[rows], self.epoch + 1
            ),
            kept.astype(np.int64),
        )

    def _with_blocks(self, numbers: Ints) -> "Lifetimes":
        inside = numbers[numbers < self.dense.size]
        missing = np.setdiff1d(numbers, inside[self.dense[inside] >= 0])
        if not missing.size:
            return self
        dense = self.dense
        if int(missing[-1]) >= dense.size:
            dense = _grown(dense, max(int(missing[-1]) + 1, dense.size * 2), -1)
        blocks = self.blocks + missing.size
        known, first, last = self.known, self.first, self.last
        if blocks << BLOCK_BITS > known.size:
            rows = max(blocks, self.blocks + (self.blocks >> 1)) << BLOCK_BITS
            known = _grown(known, rows, fill=False)
            # pages that no series uses are never touched, so they cost nothing
            first, last = _grown(first, rows, None), _grown(last, rows, None)
        # in place if there was room: no reader can hold an id of these blocks yet
        dense[missing] = np.arange(self.blocks, blocks, dtype=np.int32)
        return Lifetimes(dense, blocks, known, first, last, self.epoch)


def _grown(array: np.ndarray, size: int, fill: int | None) -> np.ndarray:
    """Return a copy with room for *size* entries; *fill* None leaves the new ones undefined."""
    grown = np.empty(size, array.dtype) if fill is None else np.full(size, fill, array.dtype)
    grown[: array.size] = array
    return grown
