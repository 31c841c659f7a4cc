"""Reads samples from the embedded store in runs that are small enough to hold."""

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from aggregator.model.arrays import Floats, Ids, Ints
from aggregator.model.budget import Budget
from aggregator.model.samples import SeriesSamples
from aggregator.store import sql
from aggregator.store.blocks import BLOCK_BITS
from aggregator.store.columns import sample_blocks
from aggregator.store.days import END_MS
from aggregator.store.lifetimes import Lifetimes
from aggregator.store.pool import CORES, Pool
from aggregator.store.process import release_memory
from aggregator.store.stretches import Stretches, assembled

# A statement costs as much as some 250,000 samples. Two are answered at a time, each on its share
# of the cores; what they gave, and the run in work, is held.
_FEWEST_SAMPLES = 200_000
_STATEMENT_SAMPLES = 700_000
_READERS = 2
_THREADS = max(1, CORES // _READERS)
# The guess for one series that lived for years would be thousands of statements.
_MOST_STATEMENTS = 16
# A statement reads from each stretch of the sort key one granule that mostly holds other series,
# so over many stretches a run is to have more samples, of some windows of time each.
_MOST_SAMPLES = 2_200_000
_RUN_SERIES = 8_000
_KEY_MS, _KEY_SAMPLES = 14_400_000, 3 * 8_192
_PORTION_SAMPLES = 500_000  # what is worked through at once should stay in the processor's cache
_MANY_SAMPLES = 2_800_000  # leave some hundred MB of free memory
_NO_LIMIT = 1 << 62
_SPACING_MS = (1_000.0, 600_000.0)
_SPACINGS = 4_096
_LEAST_LIVED_MS = 10_000.0

# how many rows each statement may give, and what they give
Begun: TypeAlias = tuple[int, list[Future[list[Stretches]]]]


class Spacing:
    """How far apart samples were in what was read last of a block of ids, to guess what comes next.

    A wrong guess, or two threads that guess at once, cost time only: runs have a limit.
    """

    def __init__(self) -> None:
        self._milliseconds: OrderedDict[int, float] = OrderedDict()
        self._last = 10_000.0

    def milliseconds(self, ids: Ids) -> float:
        """Return how far apart the samples of *ids* (not empty) may be."""
        return self._milliseconds.get(int(ids[0]) >> BLOCK_BITS, self._last)

    def learn(self, ids: Ids, milliseconds: float) -> float:
        """Take note of how far apart the samples of *ids* are; return what is made of it."""
        least, most = _SPACING_MS
        self._last = min(max(milliseconds, least), most)
        self._milliseconds[int(ids[0]) >> BLOCK_BITS] = self._last
        while len(self._milliseconds) > _SPACINGS:
            self._milliseconds.popitem(last=False)
        return self._last


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """Series to read: *wanted*, the first of which is at *position* among all.

    They may have samples from `first_ms` to `last_ms`, some `guess` of them, and are to be read
    in smaller runs if they have `limit`.
    """

    position: int
    wanted: Ids
    first_ms: int
    last_ms: int
    guess: int
    limit: int


class RunPlan:
    """Cuts *ids* into runs of about *target* samples, each of which is read within a limit.

    The guess is that they have samples all the time *first* to *last* (ms, one of each id).
    """

    def __init__(
        self,
        ids: Ids,
        first: Ints,
        last: Ints,
        spacing: Spacing,
        *,
        target: int,
        most_series: int,
    ) -> None:
        self._ids, self._first, self._last = ids, first, last
        self._spacing, self._target, self._most_series = spacing, target, most_series
        # how long all series lived that come before each one, and all together
        self._lived = np.concatenate([np.zeros(1), np.cumsum(_lived(first, last))])
        self._apart_ms = spacing.milliseconds(ids)
        self._position = 0

    @property
    def at_end(self) -> bool:
        """Whether the last run was begun."""
        return self._position >= self._ids.size

    def begin(self) -> PlannedRun:
        """Return the next run."""
        low, lived = self._position, self._lived
        full = lived[low] + self._target * self._apart_ms
        high = int(np.searchsorted(lived, full, side="right")) - 1
        high = min(max(high, low + 1), low + self._most_series, self._ids.size)
        self._position = high
        return PlannedRun(
            low,
            self._ids[low:high],
            int(self._first[low:high].min()),
            int(self._last[low:high].max()),
            int((lived[high] - lived[low]) / self._apart_ms),
            2 * self._target if high - low > 1 else _NO_LIMIT,
        )

    def begin_again(self, run: PlannedRun) -> None:
        """Take *run*, which has too many samples, and all after it back, to be made smaller."""
        self._position, self._apart_ms = run.position, self._apart_ms / 4

    def complete(self, run: PlannedRun, samples: int) -> None:
        """Take note that *run* has so many *samples*."""
        if samples:
            low, high = run.position, run.position + run.wanted.size
            apart_ms = float(self._lived[high] - self._lived[low]) / samples
            self._apart_ms = self._spacing.learn(run.wanted, apart_ms)


class SampleReader:
    """Reads samples from the table; safe to use from many threads at once."""

    def __init__(self, pool: Pool, spacing: Spacing, lives: Callable[[], Lifetimes]) -> None:
        self._pool, self._spacing, self._lives = pool, spacing, lives

    def runs(
        self, ids: Ids, start_ms: int, end_ms: int, budget: Budget, *, counted: bool = True
    ) -> Iterator[SeriesSamples]:
        """Yield the samples in (start_ms, end_ms] of *ids*, run after run.

        The next run is read while the caller works on one. Unless *counted* the samples are not
        those of the query.
        """
        if not ids.size:
            return
        start_ms, end_ms = max(start_ms, -1), max(min(end_ms, END_MS), -1)
        readers = ThreadPoolExecutor(_READERS)

        def read(window: tuple[int, int], run: PlannedRun, limit: int) -> list[Stretches]:
            statement = sql.samples_of(run.wanted, *window, limit)
            answer = self._pool.read(statement, budget, _THREADS)
            return [Stretches.of(block) for block in sample_blocks(answer)]

        def begin(run: PlannedRun, parts: int) -> Begun:
            if run.first_ms > run.last_ms:
                return run.limit, []
            count = min(-(-run.guess // _STATEMENT_SAMPLES), _MOST_STATEMENTS)
            windows = _windows(run.first_ms - 1, run.last_ms, max(parts, count))
            limit = run.limit // len(windows)
            return limit, [readers.submit(read, window, run, limit) for window in windows]

        done = 0
        try:
            plan, parts = self._plan(ids, *self._lives().within(ids, start_ms + 1, end_ms))
            for run, stretches in _in_turn(plan, partial(begin, parts=parts)):
                whole = assembled(run.position, run.wanted, stretches)
                stretches.clear()  # the engine's memory is needed for the next ones
                done += whole.times.size
                budget.spend_samples(whole.times.size if counted else 0)
                yield from _portions(whole)
        finally:
            readers.shutdown(cancel_futures=True)
            if done >= _MANY_SAMPLES:
                release_memory()

    def _plan(self, ids: Ids, first: Ints, last: Ints) -> tuple[RunPlan, int]:
        """Return the runs, and in how many parts each is to be read at least."""
        guess = float(_lived(first, last).sum()) / self._spacing.milliseconds(ids)
        span_ms = max(int(last.max()) - int(first.min()), 0)
        most = min(span_ms // _KEY_MS * _KEY_SAMPLES, _MOST_SAMPLES)
        alone = guess <= max(most, _READERS * _STATEMENT_SAMPLES)
        runs = 1 if alone else math.ceil(guess / max(most, _STATEMENT_SAMPLES))
        target = int(max(guess / runs, _FEWEST_SAMPLES)) + 1
        plan = RunPlan(ids, first, last, self._spacing, target=target, most_series=_RUN_SERIES)
        return plan, _READERS if alone and guess > 2 * _FEWEST_SAMPLES else 1


def _in_turn(
    plan: RunPlan, begin: Callable[[PlannedRun], Begun]
) -> Iterator[tuple[PlannedRun, list[Stretches]]]:
    """Yield the runs of *plan* in order; the next ones are being read meanwhile."""
    begun: deque[tuple[PlannedRun, Begun]] = deque()

    def read_ahead() -> None:
        while sum(len(reading) for _, (_, reading) in begun) < _READERS and not plan.at_end:
            run = plan.begin()
            begun.append((run, begin(run)))

    while begun or not plan.at_end:
        read_ahead()
        run, (limit, reading) = begun.popleft()
        stretches, largest = _collected(reading)
        if largest < limit:
            plan.complete(run, sum(len(part.block) for part in stretches))
            read_ahead()
            yield run, stretches
        else:
            plan.begin_again(run)
            for _, (_, unneeded) in begun:
                for part in unneeded:
                    part.cancel()
            begun.clear()


def _collected(reading: list[Future[list[Stretches]]]) -> tuple[list[Stretches], int]:
    """Return what all statements gave, and the most rows that one of them did; keep none."""
    answers = [answer.result() for answer in reading]
    reading.clear()
    largest = max((sum(len(part.block) for part in answer) for answer in answers), default=0)
    return [part for answer in answers for part in answer], largest


def _lived(first: Ints, last: Ints) -> Floats:
    """Return for how long each series may have samples, in ms; one sample lasts a little, too."""
    return np.maximum(last.astype(np.float64) - first + _LEAST_LIVED_MS, 0.0)


def _windows(start_ms: int, end_ms: int, count: int) -> list[tuple[int, int]]:
    """Cut (start_ms, end_ms] in about *count* alike windows, where the sort key changes."""
    cuts = [start_ms + (end_ms - start_ms) * place // count for place in range(1, count)]
    edges = sorted({(cut + _KEY_MS // 2) // _KEY_MS * _KEY_MS - 1 for cut in cuts})
    return list(pairwise([start_ms, *(e for e in edges if start_ms < e < end_ms), end_ms]))


def _portions(run: SeriesSamples) -> Iterator[SeriesSamples]:
    """Yield *run* in parts of which each step of the work fits the processor's cache."""
    count = min(run.count, run.times.size // _PORTION_SAMPLES + 1)
    edges = [run.count * place // count for place in range(count + 1)]
    for low, high in pairwise(edges):
        offsets = run.offsets[low : high + 1]
        samples = slice(int(offsets[0]), int(offsets[-1]))
        yield SeriesSamples(
            run.first_row + low, offsets - offsets[0], run.times[samples], run.values[samples]
        )
