"""Instant selectors: what memory tells at once is what is read and looked through."""

import numpy as np
import pytest

from aggregator.api import encode
from aggregator.errors import QueryExecutionError
from aggregator.model.budget import Budget
from aggregator.model.labels import Matcher, MatchOp
from aggregator.model.samples import STALE, SampleBlock
from aggregator.promql.engine import Engine
from aggregator.promql.windows import PROMETHEUS_2, PROMETHEUS_3
from aggregator.store.memory import MemoryStore

NOW = 1_700_000_000_000
MINUTE = 60_000
SERIES = 40
QUERIES = (
    "x",
    "x offset 1m",
    "x offset -1m",
    f"x @ {(NOW - 90_000) / 1000}",
    f"x @ {(NOW - 90_000) / 1000} offset 15s",
    "x @ end() offset -30s",
    "timestamp(x)",
    "timestamp(x offset 1m)",
    "timestamp(-x)",
    "count(x)",
    "count(x > 3)",
    "count(x > 1e9)",
    "count(nothing)",
    "count(timestamp(x))",
    "sum by (part) (x)",
    "x and on (host) timestamp(x) > 0",
    "topk(3, x)",
    "absent(x{host='h-1'})",
    "max_over_time(x[1m:15s])",
)


def history() -> SampleBlock:
    """Return eight minutes of series that are late, end, or are marked as stale."""
    random = np.random.default_rng(11)
    ids, times, values = [], [], []
    for number in range(SERIES):
        at = NOW - 8 * MINUTE + 15_000 * np.arange(34) + random.integers(-3, 4) * 5_000
        last = at.size if number % 5 else random.integers(1, at.size)
        value = np.arange(at.size) * float(number)
        value[random.random(at.size) < 0.1] = STALE
        value[random.random(at.size) < 0.1] = np.nan
        ids += [number] * last
        times += at[:last].tolist()
        values += value[:last].tolist()
    return SampleBlock(np.array(ids), np.array(times), np.array(values))


@pytest.fixture(scope="module")
def stores() -> tuple[MemoryStore, MemoryStore]:
    """Return a store with the samples in its head, and one that holds hardly any there."""
    block, found = history(), []
    for head_ms in (10 * MINUTE, 0):
        store = MemoryStore(head_ms=head_ms)
        ids = store.series_ids(
            [{"__name__": "x", "host": f"h-{row}", "part": str(row % 3)} for row in range(SERIES)]
        )
        store.write(SampleBlock(ids[block.ids], block.times, block.values))
        found.append(store)
    return found[0], found[1]


@pytest.mark.parametrize("rules", [PROMETHEUS_3, PROMETHEUS_2], ids=["3", "2"])
@pytest.mark.parametrize("query", QUERIES)
def test_memory_tells_what_the_store_holds(stores, query, rules):
    """Whatever the time, the offset, the lookback and the rules: the answers are the same text."""
    scope = (Matcher("part", MatchOp.NOT_EQUAL, "1"),)
    for time in range(NOW - 7 * MINUTE, NOW + 6 * MINUTE, 47_500):
        for lookback, within in ((None, ()), (MINUTE, scope), (15_000, ())):
            texts = []
            for store in stores:
                engine, budget = Engine(store, rules=rules), Budget()
                result = engine.instant(query, time, budget, lookback_ms=lookback, scope=within)
                assert result.matrix is not None
                texts.append(b"".join(encode.vector(result.matrix, time, budget)))
            assert texts[0] == texts[1]


def test_one_store_is_asked_in_memory_and_the_other_is_not(stores):
    """The comparison compares two ways."""
    told = []
    for store in stores:
        found = store.select((), NOW - 300_000, NOW, store.strings(), Budget())
        told.append(store.newest(found.ids, NOW - 300_000, NOW, Budget()) is not None)
    assert told == [True, False]


def test_the_newest_samples_are_counted_one_by_one(stores):
    """Stale markers are samples too; one more than allowed is refused, and so is a byte."""
    budget, engine = Budget(), Engine(stores[0])
    found = engine.instant("count(x)", NOW, budget).matrix
    assert found is not None
    assert budget.samples > found.values[0, 0] > 10
    engine.instant("x", NOW, Budget(max_samples=budget.samples))
    with pytest.raises(QueryExecutionError, match="samples"):
        engine.instant("x", NOW, Budget(max_samples=budget.samples - 1))
    with pytest.raises(QueryExecutionError, match="for one result"):
        engine.instant("x", NOW, Budget(max_bytes=100))
