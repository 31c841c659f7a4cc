"""Reads samples from the embedded store in runs that are small enough to hold."""

from collections.abc import Iterator

import numpy as np

from aggregator.model.arrays import Ids
from aggregator.model.budget import Budget
from aggregator.model.samples import SampleBlock
from aggregator.store import sql
from aggregator.store.columns import sample_block
from aggregator.store.conflicts import settled
from aggregator.store.pool import Pool

_RUN_SERIES = 2_000
_RUN_SAMPLES = 700_000
_RUN_LIMIT = 1_400_000
_NO_LIMIT = 1 << 62
_END_OF_TIME_MS = 5_662_310_400_000  # 2149-06-07: the last day the tables can tell
# the first run assumes a sample each 10 s, the later ones what the run before had
_DENSEST_MS = 10_000


def sample_runs(
    pool: Pool, ids: Ids, start_ms: int, end_ms: int, budget: Budget
) -> Iterator[tuple[int, Ids, SampleBlock]]:
    """Yield (position, ids, their samples in (start_ms, end_ms], sorted) run after run."""
    start_ms, end_ms = max(start_ms, -1), max(min(end_ms, _END_OF_TIME_MS), -1)
    per_series = max(1.0, (end_ms - start_ms) / _DENSEST_MS)
    position = 0
    while position < ids.size:
        count = int(min(_RUN_SERIES, max(1, _RUN_SAMPLES / per_series)))
        wanted = ids[position : position + count]
        limit = _RUN_LIMIT if wanted.size > 1 else _NO_LIMIT
        block = _samples(pool, sql.samples_of(wanted, start_ms, end_ms, limit), budget)
        if len(block) == limit:  # denser than the run before: ask for fewer series
            per_series *= 4
            continue
        budget.spend_samples(len(block))
        yield position, wanted, block
        per_series = max(1.0, len(block) / wanted.size)
        position += wanted.size


def _samples(pool: Pool, statement: sql.Statement, budget: Budget) -> SampleBlock:
    block = sample_block(pool.read(statement, budget))
    # a sample is twice in the table when a real value replaced a stale marker, or when an insert
    # was repeated; merges of the table keep the later one, which is the same choice
    again = (block.ids[1:] == block.ids[:-1]) & (block.times[1:] == block.times[:-1])
    return settled(block)[0] if np.any(again) else block
