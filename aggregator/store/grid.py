"""Computes functions of windows in the engine, in runs that are small enough to hold."""

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from aggregator import telemetry
from aggregator.model.arrays import Ids, Ints
from aggregator.model.budget import Budget
from aggregator.model.samples import SeriesSamples
from aggregator.store import gridsql
from aggregator.store.columns import cells, numbers, texts
from aggregator.store.days import END_MS
from aggregator.store.interface import GridCall, GridCells, GridSamples, GridSums
from aggregator.store.lifetimes import Lifetimes
from aggregator.store.pool import Pool
from aggregator.store.reading import RunPlan, Spacing
from aggregator.store.sql import Statement

# The engine holds all samples of a statement, some 30 bytes each, and all cells.
_RUN_SAMPLES = 2_000_000
_RUN_CELLS = 1 << 21
_RUN_SERIES = 8_000
# Shorter spans are read as samples: most are in memory, and the others are few.
_SHORTEST_MS = 900_000
# How many steps a window has to be long if a function is not a quick one.
_OVERLAP = 10
# The years 1907 to 2149 fit the engine's type, with the windows before them.
_EARLIEST_MS = -2_000_000_000_000
# Windows are open to the left, and the newest sample is right where windows are shorter than
# steps, in every engine that has these functions, which came later.
_SINCE_WINDOWS, _SINCE_LAST = "Increase", "Avg"
_SERVED = telemetry.LEAF_READS.labels("pushdown")


class Grid:
    """What the engine computes of the samples in the table."""

    def __init__(self, pool: Pool, spacing: Spacing, lives: Callable[[], Lifetimes]) -> None:
        """Look which functions the engine has; may raise `StoreError` and `QueryError`."""
        self._pool, self._spacing, self._lives = pool, spacing, lives
        names = texts(pool.read(Statement(gridsql.FUNCTIONS, {}), Budget()).column("function"))
        needed = {"Last": _SINCE_LAST}
        self._known = frozenset(
            function
            for function, name in gridsql.ENGINE_NAMES.items()
            if {name, _SINCE_WINDOWS, needed.get(name, name)} <= set(names)
        )

    def computes(self, call: GridCall) -> bool:
        """Tell whether the engine has the function, and the windows are worth asking it."""
        start = call.start_ms - call.range_ms
        return (
            call.function in self._known
            and call.end_ms - start > _SHORTEST_MS
            and (call.function in gridsql.QUICK or call.range_ms >= _OVERLAP * call.step_ms)
            and start > _EARLIEST_MS
            and call.end_ms < END_MS
        )

    def cells(
        self,
        call: GridCall,
        ids: Ids,
        budget: Budget,
        samples: Callable[[Ids], Iterator[SeriesSamples]],
    ) -> Iterator[GridCells | GridSamples]:
        """Yield values and presence run after run, and the *samples* of series it gets wrong."""

        def ask(wanted: Ids, limit: int) -> Statement:
            return gridsql.cells_of(call, wanted, limit)

        for position, wanted, answer in self._answers(call, ids, budget, ask):
            found = np.searchsorted(wanted, numbers(answer.column("id")))
            odd = numbers(answer.column("odd")) != 0
            taken = numbers(answer.column("taken"))
            budget.spend_samples(int(taken[~odd].sum()))
            values, present = cells(answer.column("cells"), call.count)
            if odd.any():
                rows = np.sort(found[odd])
                for run in samples(wanted[rows]):
                    part = rows[run.first_row : run.first_row + run.count]
                    yield GridSamples(position + part, run)
                found, values, present = found[~odd], values[~odd], present[~odd]
            yield GridCells(position + found, values, present)

    def sums(
        self, call: GridCall, ids: Ids, groups: Ints, budget: Budget
    ) -> Iterator[GridSums | None]:
        """Yield sums run after run, None for a run that it gets wrong."""

        def ask(wanted: Ids, limit: int) -> Statement:
            first = int(np.searchsorted(ids, wanted[0]))
            return gridsql.sums_of(call, wanted, groups[first : first + wanted.size], limit)

        for _, _, answer in self._answers(call, ids, budget, ask):
            if numbers(answer.column("odd")).any():
                yield None
                continue
            budget.spend_samples(int(numbers(answer.column("taken")).sum()))
            totals, _ = cells(answer.column("totals"), call.count)
            counts, _ = cells(answer.column("counts"), call.count)
            yield GridSums(numbers(answer.column("number")).astype(np.int64), totals, counts)

    def _answers(
        self,
        call: GridCall,
        ids: Ids,
        budget: Budget,
        ask: Callable[[Ids, int], Statement],
    ) -> Iterator[tuple[int, Ids, pa.Table]]:
        """Yield (position, ids, answer to what *ask* asks of them) run after run."""
        lived = self._lives().within(ids, call.start_ms - call.range_ms, call.end_ms)
        most = max(1, min(_RUN_SERIES, _RUN_CELLS // call.count))
        plan = RunPlan(ids, *lived, self._spacing, target=_RUN_SAMPLES, most_series=most)
        while not plan.at_end:
            run = plan.begin()
            answer = self._pool.read(ask(run.wanted, run.limit), budget)
            taken = int(numbers(answer.column("taken")).sum())
            if taken >= run.limit:
                plan.begin_again(run)
                continue
            plan.complete(run, taken)
            _SERVED.inc()
            yield run.position, run.wanted, answer
