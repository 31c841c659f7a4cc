"""How many samples a query looks at, as Prometheus counts them."""

import numpy as np
import pytest

from aggregator.model.budget import Budget
from aggregator.model.samples import SampleBlock
from aggregator.model.stepmatrix import StepRange
from aggregator.promql.engine import Engine
from aggregator.store.memory import MemoryStore

MINUTE_MS = 60_000
STEPS = StepRange(600_000, MINUTE_MS, 3)


@pytest.fixture(scope="module")
def engine():
    """Return an engine over two series with a sample each 15 s for 20 minutes."""
    store = MemoryStore()
    ids = store.series_ids([{"__name__": "up", "inst": number} for number in "ab"])
    times = np.arange(0, 20 * MINUTE_MS + 1, 15_000)
    store.write(
        SampleBlock(np.repeat(ids, times.size), np.tile(times, 2), np.zeros(2 * times.size))
    )
    return Engine(store)


@pytest.mark.parametrize(
    ("query", "counts"),
    [
        ("1", [0, 0, 0]),
        ("up", [2, 2, 2]),
        ('up{inst="a"} + on () up{inst="b"}', [2, 2, 2]),
        ("up offset 1h", [0, 0, 0]),
        ("sum(rate(up[1m]))", [8, 8, 8]),
        ("rate(up[1m] @ 300)", [8, 8, 8]),
        # a window of two points for each series; the inner steps, all together, at the last one
        ("max_over_time(up[2m:1m])", [4, 4, 4 + 8]),
        ('"text"', [0, 0, 0]),
    ],
)
def test_samples_per_step(engine, query, counts):
    """A sample counts once for each step whose window or lookback holds it."""
    assert engine.samples_per_step(query, STEPS, Budget()).tolist() == counts


def test_an_instant_has_one_step(engine):
    """A range selector alone counts its samples."""
    counts = engine.samples_per_step("up[1m]", StepRange.instant(600_000), Budget())
    assert counts.tolist() == [8]
