"""Samples come from the table in runs: all of them, in order, each once, whatever was guessed."""

import numpy as np
import pyarrow as pa
import pytest

from aggregator.errors import QueryExecutionError
from aggregator.model.budget import Budget
from aggregator.model.samples import SampleBlock
from aggregator.store import reading
from aggregator.store.reading import Spacing
from aggregator.store.sql import Statement
from aggregator.store.stretches import as_block
from tests.store.model import labels, write

T0 = 20_000 * 86_400_000
HOUR = 3_600_000


@pytest.fixture
def ids(chdb_store) -> np.ndarray:
    """Write six hours of twelve series, in blocks that follow no order, and return their ids."""
    series = [labels(name="m", k=f"{k:03}") for k in range(12)]
    random = np.random.default_rng(4)
    times = random.permutation(np.arange(0, 6 * HOUR, 10_000))
    for part in np.array_split(times, 7):
        write(
            chdb_store, [(s, T0 + int(t), float(t + k)) for k, s in enumerate(series) for t in part]
        )
    return np.sort(chdb_store.series_ids([dict(s) for s in series]))


def read(store, ids: np.ndarray, budget: Budget) -> tuple[SampleBlock, int]:
    """Return what all runs have together, and how many they were."""
    runs = list(store._samples.runs(ids, T0 - 1, T0 + 6 * HOUR, budget))
    at = 0
    for run in runs:
        assert run.first_row == at
        at += run.count
    assert at == ids.size
    return SampleBlock.concat([as_block(ids, run) for run in runs]), len(runs)


def assert_complete(block: SampleBlock, ids: np.ndarray) -> None:
    """Compare with what was written."""
    times = np.arange(0, 6 * HOUR, 10_000)
    np.testing.assert_array_equal(block.ids, np.repeat(ids, times.size))
    np.testing.assert_array_equal(block.times, np.tile(T0 + times, ids.size))
    np.testing.assert_array_equal(block.values, (times + np.arange(ids.size)[:, None]).ravel())


@pytest.mark.parametrize("guessed_ms", [100, 10_000, 1_000_000_000])
def test_runs_are_complete_and_in_order(chdb_store, ids, monkeypatch, guessed_ms):
    """Also where samples are denser or sparser than they were in what was read before."""
    monkeypatch.setattr(reading, "_STATEMENT_SAMPLES", 5_000)
    monkeypatch.setattr(reading, "_FEWEST_SAMPLES", 5_000)
    monkeypatch.setattr(reading, "_KEY_SAMPLES", 0)
    spacing = Spacing()
    spacing.learn(ids, guessed_ms)
    monkeypatch.setattr(chdb_store._samples, "_spacing", spacing)
    budget = Budget()
    block, count = read(chdb_store, ids, budget)
    assert_complete(block, ids)
    assert count > 3
    assert budget.samples == len(block)


def test_rows_that_are_twice_in_the_table_are_read_once(chdb_store, ids, monkeypatch):
    """A repeated insert changes nothing, also where it fills the runs' limit."""
    monkeypatch.setattr(reading, "_STATEMENT_SAMPLES", 5_000)
    chdb_store._pool.execute("system stop merges samples", {})
    chdb_store._pool.execute("insert into samples select * from samples", {})
    assert_complete(read(chdb_store, ids, Budget())[0], ids)


def test_a_query_that_stops_leaves_nothing_running(chdb_store, ids, monkeypatch):
    """The runs that are being read ahead end before the error goes on."""
    monkeypatch.setattr(reading, "_STATEMENT_SAMPLES", 2_500)
    monkeypatch.setattr(reading, "_FEWEST_SAMPLES", 2_500)
    with pytest.raises(QueryExecutionError, match="more than 3000 samples"):
        read(chdb_store, ids, Budget(max_samples=3_000))
    free = chdb_store._pool._free
    assert free._value == free._initial_value
    assert_complete(read(chdb_store, ids, Budget())[0], ids)


def test_all_time_takes_few_statements(chdb_store, ids, monkeypatch):
    """However many samples a series might have from 1970 to 2149, were they a second apart."""
    spacing, answers = Spacing(), counted(chdb_store, monkeypatch)
    spacing.learn(ids, 1_000)
    monkeypatch.setattr(chdb_store._samples, "_spacing", spacing)
    runs = chdb_store._samples.runs(ids, -1, 1 << 53, Budget())
    assert_complete(SampleBlock.concat([as_block(ids, run) for run in runs]), ids)
    assert len(answers) < 50


def test_nothing_is_read_twice_where_series_followed_each_other(chdb_store, monkeypatch):
    """A run of them has all its samples in a part of the window, which is where it is read."""
    monkeypatch.setattr(reading, "_STATEMENT_SAMPLES", 1_000)
    monkeypatch.setattr(reading, "_FEWEST_SAMPLES", 1_000)
    monkeypatch.setattr(reading, "_KEY_SAMPLES", 0)
    rows = [
        (labels(name="m", k=f"{day:02}-{k}"), T0 + day * 24 * HOUR + second * 10_000, 1.0)
        for day in range(20)
        for k in range(4)
        for second in range(100)
    ]
    write(chdb_store, rows)
    ids = np.sort(chdb_store.series_ids([dict(series) for series, _, _ in rows[::100]]))
    answers = counted(chdb_store, monkeypatch)
    runs = list(chdb_store._samples.runs(ids, T0 - 100 * HOUR, T0 + 1_000 * HOUR, Budget()))
    assert sum(run.times.size for run in runs) == sum(answers) == len(rows)


def test_series_that_do_not_live_in_the_window_have_no_samples(chdb_store, ids, monkeypatch):
    """Nor have unknown ones; nobody has to ask the table, and every series has its place."""
    answers = counted(chdb_store, monkeypatch)
    for wanted, start in ((ids, T0 + 7 * HOUR), (ids + np.uint32(1 << 20), T0 - 1)):
        runs = list(chdb_store._samples.runs(wanted, start, T0 + 9 * HOUR, Budget()))
        assert [(run.first_row, run.count, run.times.size) for run in runs] == [(0, ids.size, 0)]
    assert answers == []


def counted(store, monkeypatch) -> list[int]:
    """Return where the number of rows of every answer from the table will be put."""
    rows, read = [], store._pool.read

    def reading_on(statement: Statement, budget: Budget, threads: int) -> pa.Table:
        answer = read(statement, budget, threads)
        rows.append(answer.num_rows)
        return answer

    monkeypatch.setattr(store._pool, "read", reading_on)
    return rows
