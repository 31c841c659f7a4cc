"""Reads samples from the embedded store in runs that are small enough to hold."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from aggregator.model.arrays import Ids, Ints
from aggregator.model.budget import Budget
from aggregator.model.samples import SampleBlock
from aggregator.store import sql
from aggregator.store.columns import sample_block
from aggregator.store.conflicts import settled
from aggregator.store.pool import Pool
from aggregator.store.process import release_memory

# A statement costs as much as 100,000 samples; the run in work and the next ones are all held.
_FEWEST_SAMPLES = 200_000
_RUN_SAMPLES = 700_000
_READERS = 2
_RUN_SERIES = 8_000
_MANY_RUNS = 4  # leave some hundred MB of free memory
_NO_LIMIT = 1 << 62
_END_OF_TIME_MS = 5_662_310_400_000  # 2149-06-07: the last day the tables can tell
_SPACING_MS = (1_000.0, 60_000.0)

# how many rows were read, and what is left of them when each sample is there once
Rows: TypeAlias = tuple[int, SampleBlock]
SampleRun: TypeAlias = tuple[int, Ids, SampleBlock]


class Spacing:
    """How far apart a series' samples were in what was read last, to guess what comes next.

    A wrong guess, or two threads that guess at once, cost time only: runs have a limit.
    """

    def __init__(self) -> None:
        self._milliseconds = 10_000.0

    def samples(self, span_ms: int) -> float:
        """Return how many samples a series may have in *span_ms*."""
        return max(1.0, span_ms / self._milliseconds)

    def learn(self, span_ms: int, per_series: float) -> None:
        """Take note that a series had *per_series* samples in *span_ms*."""
        least, most = _SPACING_MS
        self._milliseconds = min(max(span_ms / max(per_series, 1.0), least), most)


@dataclass(frozen=True, slots=True)
class Run:
    """Some series to read: where the first stands among all, their ids, samples at most."""

    position: int
    wanted: Ids
    limit: int


class RunPlan:
    """Cuts *ids* into runs of about *target* samples, each of which is read within a limit."""

    def __init__(
        self, ids: Ids, span_ms: int, spacing: Spacing, *, target: int, most_series: int
    ) -> None:
        self._ids, self._span_ms, self._spacing = ids, span_ms, spacing
        self._target, self._most_series = target, most_series
        self._per_series = spacing.samples(span_ms)
        self._position = 0

    @property
    def at_end(self) -> bool:
        """Whether the last run was begun."""
        return self._position >= self._ids.size

    def begin(self) -> Run:
        """Return the next run."""
        count = int(min(self._most_series, max(1, self._target / self._per_series)))
        wanted = self._ids[self._position : self._position + count]
        run = Run(self._position, wanted, 2 * self._target if wanted.size > 1 else _NO_LIMIT)
        self._position += wanted.size
        return run

    def complete(self, run: Run, samples: int) -> bool:
        """Tell whether *run*, of which *samples* were read, is complete.

        If not, it and all after it are begun again, smaller.
        """
        if samples >= run.limit:
            self._position, self._per_series = run.position, self._per_series * 4
            return False
        self._per_series = max(1.0, samples / run.wanted.size)
        self._spacing.learn(self._span_ms, self._per_series)
        return True


class SampleReader:
    """Reads samples from the table; safe to use from many threads at once."""

    def __init__(self, pool: Pool, spacing: Spacing) -> None:
        self._pool, self._spacing = pool, spacing

    def runs(
        self, ids: Ids, start_ms: int, end_ms: int, budget: Budget, *, counted: bool = True
    ) -> Iterator[SampleRun]:
        """Yield (position, ids, their samples in (start_ms, end_ms], sorted) run after run.

        The next runs are read while the caller works on one. Unless *counted* the samples are not
        those of the query.
        """
        start_ms, end_ms = max(start_ms, -1), max(min(end_ms, _END_OF_TIME_MS), -1)
        span_ms = end_ms - start_ms
        share = int(self._spacing.samples(span_ms) * ids.size / _READERS) + 1
        target = min(max(share, _FEWEST_SAMPLES), _RUN_SAMPLES)
        plan = RunPlan(ids, span_ms, self._spacing, target=target, most_series=_RUN_SERIES)

        def read(run: Run) -> Rows:
            statement = sql.samples_of(run.wanted, start_ms, end_ms, run.limit)
            block = sample_block(self._pool.read(statement, budget))
            return len(block), in_order(block)

        done = 0
        try:
            with ThreadPoolExecutor(_READERS) as readers:
                for run, block in _in_turn(plan, readers, read):
                    done += 1
                    budget.spend_samples(len(block) if counted else 0)
                    yield run.position, run.wanted, block
        finally:
            if done >= _MANY_RUNS:
                release_memory()


def _in_turn(
    plan: RunPlan, readers: Executor, read: Callable[[Run], Rows]
) -> Iterator[tuple[Run, SampleBlock]]:
    """Yield the runs of *plan* in order; the next ones are being read meanwhile."""
    begun: deque[tuple[Run, Future[Rows]]] = deque()
    while begun or not plan.at_end:
        while len(begun) < _READERS and not plan.at_end:
            run = plan.begin()
            begun.append((run, readers.submit(read, run)))
        run, reading = begun.popleft()
        count, block = reading.result()
        if plan.complete(run, count):
            yield run, block
        else:
            begun.clear()


def in_order(block: SampleBlock) -> SampleBlock:
    """Sort *block* by series and time, and leave one sample of those that it has twice.

    A sample is twice in the table when a real value replaced a stale marker, or when an insert was
    repeated; merges of the table keep the later one, which is the same choice.
    """
    breaks = _breaks(block)
    if not (block.ids[breaks] > block.ids[breaks - 1]).all():
        block = _stretches_sorted(block, np.concatenate([np.zeros(1, np.int64), breaks]))
        breaks = _breaks(block)
    together = (block.ids[breaks] > block.ids[breaks - 1]).all()
    return block if together else settled(block)[0]


def _breaks(block: SampleBlock) -> Ints:
    """Return the rows that are of another series than the row before, or not later than it."""
    apart = block.ids[1:] != block.ids[:-1]
    apart |= block.times[1:] <= block.times[:-1]
    return np.flatnonzero(apart) + 1


def _stretches_sorted(block: SampleBlock, starts: Ints) -> SampleBlock:
    """Bring the stretches of *block* that begin at *starts* in order of series and first time."""
    order = np.lexsort((block.times[starts], block.ids[starts]))
    lengths = np.diff(starts, append=len(block))[order]
    ends = np.cumsum(lengths)
    rows = np.repeat(starts[order] - (ends - lengths), lengths) + np.arange(len(block))
    ids = np.repeat(block.ids[starts[order]], lengths)
    return SampleBlock(ids, block.times[rows], block.values[rows])
