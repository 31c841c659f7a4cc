"""What the engine computes of windows: which functions it is asked for, in runs, and duplicates."""

import math

import numpy as np
import pytest

from aggregator.model.budget import Budget
from aggregator.model.samples import STALE, SampleBlock
from aggregator.store import gridsql, sql
from aggregator.store.columns import sample_table
from aggregator.store.grid import Grid
from aggregator.store.interface import INSTANT, GridCall, GridCells, GridReader, GridSamples
from aggregator.store.lifetimes import Lifetimes
from aggregator.store.memory import MemoryStore
from aggregator.store.pool import Pool
from aggregator.store.reading import Spacing
from tests.store.model import labels, write

T0 = 20_000 * 86_400_000
HOUR = 3_600_000
NAN = math.nan


def call(function: str) -> GridCall:
    """Return a call for a hundred windows in an hour."""
    return GridCall(function, T0 + 600_000, 36_000, 100, 600_000)


def written(store, count: int = 9) -> np.ndarray:
    """Write an hour of *count* series at 30 s, value k × time, and return their ids."""
    series = [labels(name="m", k=f"{k:03}") for k in range(count)]
    write(
        store,
        [(s, T0 + t, k * t / 1e5) for k, s in enumerate(series) for t in range(0, HOUR, 30_000)],
    )
    return np.sort(store.series_ids([dict(s) for s in series]))


def cells(store, asked: GridCall, ids: np.ndarray) -> np.ndarray:
    """Return what the store computes, NaN where nothing is present."""
    found = np.full((ids.size, asked.count), NAN)
    for answer in store.cells(asked, ids, Budget()):
        assert isinstance(answer, GridCells)
        found[answer.rows] = np.where(answer.present, answer.values, NAN)
    return found


def test_only_the_embedded_store_computes(chdb_store):
    """The reference backend leaves it to the kernels."""
    assert isinstance(chdb_store, GridReader)
    assert not isinstance(MemoryStore(), GridReader)


@pytest.mark.parametrize(
    ("names", "known"),
    [
        ((), set()),
        (("Rate", "Last", "Changes"), set()),
        (("Increase", "Last", "Changes", "Sum"), {"changes", "sum_over_time"}),
        (("Increase", "Avg", "Last"), {INSTANT, "avg_over_time", "last_over_time"}),
    ],
)
def test_an_older_engine_is_asked_for_what_it_has(tmp_path, monkeypatch, names, known):
    """Without the functions that came with the right windows, or at all, nothing is asked for."""
    had = " union all ".join(f"select '{name}' as function" for name in ("", *names))
    monkeypatch.setattr(gridsql, "FUNCTIONS", had)
    pool = Pool(tmp_path / "chdb")
    grid = Grid(pool, Spacing(), Lifetimes.empty)
    pool.close()
    assert {name for name in gridsql.ENGINE_NAMES if grid.computes(call(name))} == known


def test_windows_outside_the_engine_s_time_are_not_asked_for(chdb_store):
    """Neither are spans that are read faster as samples."""
    for start, step, computed in (
        (0, 1 << 20, True),
        (-(1 << 41), 1 << 20, False),
        (0, 10, False),
        (1 << 43, 1 << 20, False),
    ):
        assert chdb_store.computes(GridCall("irate", start, step, 5, 60_000)) == computed


def test_windows_that_overlap_little_are_read_as_samples(chdb_store):
    """Unless the function is quick."""
    for function, range_ms, computed in (
        ("sum_over_time", HOUR, True),
        ("sum_over_time", HOUR - 1, False),
        ("max_over_time", 1_000, True),
    ):
        asked = GridCall(function, T0, 360_000, 10, range_ms)
        assert chdb_store.computes(asked) == computed


def test_runs_cover_all_series_in_order(chdb_store, monkeypatch):
    """A run that is denser than thought is asked for again with fewer series."""
    ids = written(chdb_store)
    wanted = cells(chdb_store, call("sum_over_time"), ids)
    monkeypatch.setattr("aggregator.store.grid._RUN_SAMPLES", 130)
    found = list(chdb_store.cells(call("sum_over_time"), ids, Budget()))
    assert len(found) >= ids.size
    np.testing.assert_array_equal(cells(chdb_store, call("sum_over_time"), ids), wanted)
    np.testing.assert_array_equal(np.concatenate([run.rows for run in found]), np.arange(ids.size))


def test_sums_add_up_the_cells(chdb_store, monkeypatch):
    """The sums of all runs are those of the rows, by group."""
    ids = written(chdb_store)
    groups = np.arange(ids.size) % 2
    rows = cells(chdb_store, call("max_over_time"), ids)
    monkeypatch.setattr("aggregator.store.grid._RUN_SAMPLES", 400)
    totals, counts = np.zeros((2, 2, 100))
    for part in chdb_store.sums(call("max_over_time"), ids, groups, Budget()):
        totals[part.groups] += part.totals
        counts[part.groups] += part.counts
    np.testing.assert_allclose(totals, [rows[::2].sum(axis=0), rows[1::2].sum(axis=0)], 1e-12)
    np.testing.assert_array_equal(counts, [[5] * 100, [4] * 100])


def bits(value: float) -> np.uint64:
    """Return the bits of *value*."""
    return np.float64(value).view(np.uint64)


def again(store, ids, times, values) -> None:
    """Put rows into the table beside what is there."""
    block = SampleBlock(
        np.asarray(ids, np.uint32), np.asarray(times, np.int64), np.asarray(values, float)
    )
    store._pool.insert(sql.INSERT_SAMPLES, sample_table(block))


@pytest.mark.parametrize("function", sorted(set(gridsql.ENGINE_NAMES) - {"predict_linear"}))
def test_rows_that_are_twice_in_the_table_count_once(chdb_store, function):
    """A repeated insert changes nothing."""
    ids = written(chdb_store)
    wanted = cells(chdb_store, call(function), ids)
    chdb_store._pool.execute("system stop merges samples", {})
    chdb_store._pool.execute("insert into samples select * from samples where id % 2 = 0", {})
    assert int(chdb_store._pool.execute("select count() from samples", {})) > 9 * 120
    np.testing.assert_array_equal(cells(chdb_store, call(function), ids), wanted)


@pytest.mark.parametrize("value", [5.0, -math.inf, NAN])
@pytest.mark.parametrize("marker_first", [True, False])
@pytest.mark.parametrize("function", [INSTANT, "last_over_time", "count_over_time"])
def test_a_real_value_beside_a_stale_marker_counts(chdb_store, value, marker_first, function):
    """In whatever order the table has them, and also if it is not a number."""
    ids = written(chdb_store, 1)
    chdb_store._pool.execute("system stop merges samples", {})
    time = T0 + 15_000
    for one in (STALE, value) if marker_first else (value, STALE):
        again(chdb_store, ids, [time], [one])
    asked = GridCall(function, time, HOUR, 2, 10_000)
    (answer,) = [a for a in chdb_store.cells(asked, ids, Budget()) if a.rows.size]
    if isinstance(answer, GridSamples):  # the kernels see the settled samples
        assert function == INSTANT
        assert math.isnan(value)
        assert answer.samples.times[:2].tolist() == [time, T0 + 30_000]
        np.testing.assert_array_equal(answer.samples.values.view(np.uint64)[0], bits(value))
        return
    assert answer.present[0].tolist() == [True, False]
    np.testing.assert_array_equal(
        answer.values[0][0], 1.0 if function == "count_over_time" else value
    )


def test_series_it_would_get_wrong_come_as_samples(chdb_store):
    """Only those: infinities, values whose sum may overflow, and slopes of next to nothing."""
    ids = written(chdb_store, 4)
    again(chdb_store, ids[[1, 3]], [T0 + 15_000, T0 + 15_000], [math.inf, -1e301])
    rows = {GridCells: [], GridSamples: []}
    for answer in chdb_store.cells(call("sum_over_time"), ids, Budget()):
        rows[type(answer)] += answer.rows.tolist()
    assert {kind.__name__: sorted(found) for kind, found in rows.items()} == {
        "GridCells": [0, 2],
        "GridSamples": [1, 3],
    }
    assert None in list(chdb_store.sums(call("max_over_time"), ids, np.zeros(4, int), Budget()))


def test_what_is_read_is_spent(chdb_store):
    """Every sample in a window counts once against the budget, also of series that are read."""
    ids = written(chdb_store, 4)
    again(chdb_store, ids[:1], [T0 + 15_000], [math.inf])
    budget = Budget()
    assert len(list(chdb_store.cells(call("sum_over_time"), ids, budget))) == 2
    assert budget.samples == 4 * 119 + 1
