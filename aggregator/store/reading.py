"""Reads samples from the embedded store in runs that are small enough to hold."""

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TypeAlias

from aggregator.model.arrays import Ids
from aggregator.model.budget import Budget
from aggregator.model.samples import SeriesSamples
from aggregator.store import sql
from aggregator.store.blocks import BLOCK_BITS
from aggregator.store.columns import sample_blocks
from aggregator.store.days import END_MS
from aggregator.store.pool import CORES, Pool
from aggregator.store.process import release_memory
from aggregator.store.stretches import Stretches, assembled

# A statement costs as much as some 250,000 samples. Two are answered at a time, each on its share
# of the cores; what they gave, and the run in work, is held.
_FEWEST_SAMPLES = 200_000
_STATEMENT_SAMPLES = 700_000
_READERS = 2
_THREADS = max(1, CORES // _READERS)
# The guess for one series over all time would be thousands of statements, most of empty years.
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

# how many rows each statement may give, and what they give
Begun: TypeAlias = tuple[int, list[Future[list[Stretches]]]]


class Spacing:
    """How far apart samples were in what was read last of a block of ids, to guess what comes next.

    A wrong guess, or two threads that guess at once, cost time only: runs have a limit.
    """

    def __init__(self) -> None:
        self._milliseconds: OrderedDict[int, float] = OrderedDict()
        self._last = 10_000.0

    def samples(self, ids: Ids, span_ms: int) -> float:
        """Return how many samples each of *ids* (not empty) may have in *span_ms*."""
        block = int(ids[0]) >> BLOCK_BITS
        return max(1.0, span_ms / self._milliseconds.get(block, self._last))

    def learn(self, ids: Ids, span_ms: int, per_series: float) -> None:
        """Take note that each of *ids* had *per_series* samples in *span_ms*."""
        least, most = _SPACING_MS
        self._last = min(max(span_ms / max(per_series, 1.0), least), most)
        block = int(ids[0]) >> BLOCK_BITS
        self._milliseconds[block] = self._last
        while len(self._milliseconds) > _SPACINGS:
            self._milliseconds.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Run:
    """Some series to read: the first one's place among all, their ids, samples thought and most."""

    position: int
    wanted: Ids
    thought: int
    limit: int


class RunPlan:
    """Cuts *ids* into runs of about *target* samples, each of which is read within a limit."""

    def __init__(
        self, ids: Ids, span_ms: int, spacing: Spacing, *, target: int, most_series: int
    ) -> None:
        self._ids, self._span_ms, self._spacing = ids, span_ms, spacing
        self._target, self._most_series = target, most_series
        self._per_series = spacing.samples(ids, span_ms)
        self._position = 0

    @property
    def at_end(self) -> bool:
        """Whether the last run was begun."""
        return self._position >= self._ids.size

    def begin(self) -> Run:
        """Return the next run."""
        count = int(min(self._most_series, max(1, self._target / self._per_series)))
        wanted = self._ids[self._position : self._position + count]
        run = Run(
            self._position,
            wanted,
            int(wanted.size * self._per_series),
            2 * self._target if wanted.size > 1 else _NO_LIMIT,
        )
        self._position += wanted.size
        return run

    def begin_again(self, run: Run) -> None:
        """Take *run*, which has too many samples, and all after it back, to be made smaller."""
        self._position, self._per_series = run.position, self._per_series * 4

    def complete(self, run: Run, samples: int) -> None:
        """Take note that *run* has so many *samples*."""
        self._per_series = max(1.0, samples / run.wanted.size)
        self._spacing.learn(run.wanted, self._span_ms, self._per_series)


class SampleReader:
    """Reads samples from the table; safe to use from many threads at once."""

    def __init__(self, pool: Pool, spacing: Spacing) -> None:
        self._pool, self._spacing = pool, spacing

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

        def read(window: tuple[int, int], run: Run, limit: int) -> list[Stretches]:
            statement = sql.samples_of(run.wanted, *window, limit)
            answer = self._pool.read(statement, budget, _THREADS)
            return [Stretches.of(block) for block in sample_blocks(answer)]

        def begin(run: Run, parts: int) -> Begun:
            count = min(-(-run.thought // _STATEMENT_SAMPLES), _MOST_STATEMENTS)
            windows = _windows(start_ms, end_ms, max(parts, count))
            limit = run.limit // len(windows)
            return limit, [readers.submit(read, window, run, limit) for window in windows]

        done = 0
        try:
            plan, parts = self._plan(ids, end_ms - start_ms)
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

    def _plan(self, ids: Ids, span_ms: int) -> tuple[RunPlan, int]:
        """Return the runs, and in how many parts each is to be read at least."""
        thought = self._spacing.samples(ids, span_ms) * ids.size
        most = min(span_ms // _KEY_MS * _KEY_SAMPLES, _MOST_SAMPLES)
        alone = thought <= max(most, _READERS * _STATEMENT_SAMPLES)
        runs = 1 if alone else math.ceil(thought / max(most, _STATEMENT_SAMPLES))
        target = int(max(thought / runs, _FEWEST_SAMPLES)) + 1
        plan = RunPlan(ids, span_ms, self._spacing, target=target, most_series=_RUN_SERIES)
        return plan, _READERS if alone and thought > 2 * _FEWEST_SAMPLES else 1


def _in_turn(plan: RunPlan, begin: Callable[[Run], Begun]) -> Iterator[tuple[Run, list[Stretches]]]:
    """Yield the runs of *plan* in order; the next ones are being read meanwhile."""
    begun: deque[tuple[Run, Begun]] = deque()

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
    largest = max(sum(len(part.block) for part in answer) for answer in answers)
    return [part for answer in answers for part in answer], largest


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
