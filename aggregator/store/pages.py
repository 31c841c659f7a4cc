"""Samples that were read lately, kept in memory: dashboards ask for the same hours again and again.

A page holds what is stored of one block of ids in one hour, `(start, start + 1 h]`. It is made only
of *settled* time, that is up to five minutes before the newest sample or a little less: what is
newer the head holds, and what is written later than that drops the pages it falls into. So a page
in the cache is always what the disk would answer.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from aggregator import telemetry
from aggregator.model.arrays import Floats, Ids, Ints
from aggregator.model.budget import Budget
from aggregator.model.samples import SampleBlock
from aggregator.store.blocks import BLOCK_BITS, BLOCK_SIZE
from aggregator.store.reading import SampleReader, Spacing
from aggregator.store.rings import Run
from aggregator.store.stretches import as_block

PAGE_MS = 3_600_000
_SETTLED_AFTER_MS = 300_000
# Settled time goes on in steps, so that the page of the present hour serves until the next one. The
# head, which holds ten minutes, has what lies between.
_SETTLED_STEP_MS = 150_000
LIMIT_BYTES = 96 << 20
# Of the pages of one read, were they full: some hours of a metric. Days of it would push out what
# dashboards ask for, and are made into pages in more time than they are read.
_MOST_SAMPLES = 1_200_000
# A page of a block of which this few series are wanted is made when it is asked for again.
_FEW_SERIES = 16
_REMEMBERED = 4_096
_SERVED = telemetry.LEAF_READS.labels("pages")

Key: TypeAlias = tuple[int, int]  # block of ids, hour
Milliseconds: TypeAlias = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Page:
    """Samples of one block of ids: those of its k-th id are `[offsets[k]:offsets[k + 1]]`.

    `after` are times in ms (uint32) after the start of the page; all up to `until_ms` are there.
    """

    offsets: Ints
    after: Milliseconds
    values: Floats
    until_ms: int

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return self.offsets.nbytes + self.after.nbytes + self.values.nbytes


class Pages:
    """The cache of a store; safe to use from many threads at once."""

    def __init__(self, samples: SampleReader, spacing: Spacing, newest_ms: int, limit: int) -> None:
        self._samples, self._spacing, self._limit = samples, spacing, limit
        self._newest_ms = newest_ms
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, Page] = OrderedDict()
        self._asked: OrderedDict[Key, None] = OrderedDict()
        self._size = 0
        self._late_writes = 0

    @property
    def settled_ms(self) -> int:
        """Samples up to this time come late, if any still come."""
        settled = self._newest_ms - _SETTLED_AFTER_MS
        return settled - settled % _SETTLED_STEP_MS

    def suits(self, ids: Ids, start_ms: int, end_ms: int) -> bool:
        """Tell whether the samples in (start_ms, end_ms] of *ids* are few enough to be kept."""
        if not self._limit or start_ms < 0:
            return False
        pages = len(_blocks(ids)) * len(_hours(start_ms, end_ms))
        samples = BLOCK_SIZE * max(1.0, PAGE_MS / self._spacing.milliseconds(ids))
        return pages * samples <= _MOST_SAMPLES

    def read(self, ids: Ids, start_ms: int, end_ms: int, budget: Budget) -> list[Run] | None:
        """Return the samples in (start_ms, end_ms] of *ids* (ascending), hour after hour.

        *end_ms* is settled, and they suit. Returns None where the disk is the better place to ask.
        """
        blocks, hours = _blocks(ids), _hours(start_ms, end_ms)
        found = self._pages([block for block, _ in blocks], hours, end_ms, ids.size, budget)
        if found is None:
            return None
        places = [(block, _places(ids[rows])) for block, rows in blocks]
        _SERVED.inc()
        return [
            _of_series(found[block, hour], hour * PAGE_MS, rows, start_ms, end_ms)
            for hour in hours
            for block, rows in places
        ]

    def wrote(self, block: SampleBlock) -> None:
        """Drop what *block*, which has just been stored, makes incomplete."""
        settled = self.settled_ms
        self._newest_ms = max(self._newest_ms, int(block.times.max()))
        late = block.times <= settled
        if not late.any():
            return
        numbers = (block.ids[late] >> np.uint32(BLOCK_BITS)).astype(np.int64)
        hours = (block.times[late] - 1) // PAGE_MS
        keys = np.unique(np.stack([numbers, hours]), axis=1)
        with self._lock:
            self._late_writes += 1
            for key in zip(*keys.tolist(), strict=True):
                self._drop(key)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._late_writes += 1
            self._kept.clear()
            self._size = 0

    def _pages(
        self, blocks: Sequence[int], hours: range, end_ms: int, series: int, budget: Budget
    ) -> dict[Key, Page] | None:
        """Return every page, None if it is not worth it to make those that are missing."""
        keys = [(block, hour) for block in blocks for hour in hours]
        found: dict[Key, Page] = {}
        with self._lock:
            for key in keys:
                page = self._kept.get(key)
                if page is not None and page.until_ms >= min((key[1] + 1) * PAGE_MS, end_ms):
                    self._kept.move_to_end(key)
                    found[key] = page
            missing = [key for key in keys if key not in found]
            again = all(key in self._asked for key in missing)
            if missing and not again and series < _FEW_SERIES * len(blocks):
                self._remember(missing)
                return None
        return found | self._made(missing, end_ms, budget) if missing else found

    def _made(self, missing: Sequence[Key], end_ms: int, budget: Budget) -> dict[Key, Page]:
        """Read the pages *missing* from the disk, and keep them unless late samples came."""
        late_writes = self._late_writes
        wanted: dict[tuple[int, int], list[int]] = {}
        by_block: dict[int, list[int]] = {}
        for block, hour in missing:
            by_block.setdefault(block, []).append(hour)
        for block, hours in by_block.items():
            wanted.setdefault((hours[0], hours[-1]), []).append(block)
        made: dict[Key, Page] = {}
        for (first, last), blocks in wanted.items():
            made |= self._read_pages(blocks, range(first, last + 1), end_ms, budget)
        with self._lock:
            if self._late_writes == late_writes:
                for key, page in made.items():
                    self._drop(key)
                    self._kept[key] = page
                    self._size += page.size
                while self._size > self._limit:
                    self._drop(next(iter(self._kept)))
        return made

    def _read_pages(
        self, blocks: Sequence[int], hours: range, end_ms: int, budget: Budget
    ) -> dict[Key, Page]:
        ids = (np.array(blocks)[:, None] << BLOCK_BITS) + np.arange(BLOCK_SIZE)
        start_ms, until_ms = hours.start * PAGE_MS, min(hours.stop * PAGE_MS, end_ms)
        wanted = ids.ravel().astype(np.uint32)
        runs = self._samples.runs(wanted, start_ms, until_ms, budget, counted=False)
        read = SampleBlock.concat([as_block(wanted, run) for run in runs])
        hour_of = (read.times - 1) // PAGE_MS - hours.start
        order = np.argsort(hour_of, kind="stable")  # the hours one after the other, each sorted
        read, hour_of = read.take(order), hour_of[order]
        made = {}
        for place, hour in enumerate(hours):
            low, high = np.searchsorted(hour_of, [place, place + 1]).tolist()
            for block in blocks:
                first = block << BLOCK_BITS
                bounds = np.arange(first, first + BLOCK_SIZE + 1)
                offsets = low + np.searchsorted(read.ids[low:high], bounds)
                inside = slice(int(offsets[0]), int(offsets[-1]))
                made[block, hour] = Page(
                    offsets - offsets[0],
                    (read.times[inside] - hour * PAGE_MS).astype(np.uint32),
                    read.values[inside].copy(),
                    min((hour + 1) * PAGE_MS, end_ms),
                )
        return made

    def _remember(self, keys: Sequence[Key]) -> None:
        for key in keys:
            self._asked[key] = None
        while len(self._asked) > _REMEMBERED:
            self._asked.popitem(last=False)

    def _drop(self, key: Key) -> None:
        page = self._kept.pop(key, None)
        if page is not None:
            self._size -= page.size


def _blocks(ids: Ids) -> list[tuple[int, slice]]:
    """Return the blocks of *ids* (ascending, not empty), and which of the ids are of each."""
    first, last = int(ids[0]) >> BLOCK_BITS, int(ids[-1]) >> BLOCK_BITS
    if first == last:
        return [(first, slice(0, ids.size))]
    blocks, firsts = np.unique(ids >> np.uint32(BLOCK_BITS), return_index=True)
    rows = map(slice, firsts.tolist(), [*firsts.tolist()[1:], ids.size])
    return list(zip(blocks.tolist(), rows, strict=True))


def _hours(start_ms: int, end_ms: int) -> range:
    """Return the hours that have a part of (start_ms, end_ms]."""
    return range(start_ms // PAGE_MS, (end_ms - 1) // PAGE_MS + 1)


def _places(ids: Ids) -> Ints:
    """Return between which of a page's offsets the samples of each id are, `[2, n]`."""
    first = ids.astype(np.int64) & (BLOCK_SIZE - 1)
    return np.stack([first, first + 1])


def _of_series(page: Page, first_ms: int, places: Ints, start_ms: int, end_ms: int) -> Run:
    """Return what *page*, which begins at *first_ms*, has at *places* in (start_ms, end_ms]."""
    lows, highs = page.offsets[places]
    counts = highs - lows
    ends = np.cumsum(counts)
    rows = np.repeat(highs - ends, counts)
    rows += np.arange(rows.size)
    times = page.after[rows] + np.int64(first_ms)
    if start_ms > first_ms or end_ms < page.until_ms:
        inside = np.flatnonzero((times > start_ms) & (times <= end_ms))
        counts = np.searchsorted(inside, ends)
        counts[1:] -= counts[:-1].copy()
        times, rows = times[inside], rows[inside]
    return Run(counts, times, page.values[rows])
