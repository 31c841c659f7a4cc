"""The engine as its callers use it: results, limits, scope, and many threads at once."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from aggregator.errors import QueryExecutionError, QuerySyntaxError, QueryTimeoutError
from aggregator.model.budget import Budget
from aggregator.model.labels import Matcher, MatchOp
from aggregator.model.samples import SampleBlock
from aggregator.model.stepmatrix import StepRange
from aggregator.promql.engine import Engine
from aggregator.promql.parse import parse
from aggregator.promql.result import ResultKind
from aggregator.promql.rewrites import rewrite
from aggregator.store.memory import MemoryStore
from tests.promql.scripts.run import points

MINUTE = 60_000
HOUR = StepRange.between(0, 60 * MINUTE, MINUTE)


@pytest.fixture(scope="module")
def store():
    """Return an hour of a counter and a gauge in two clusters, twelve series."""
    store = MemoryStore()
    rows = [
        {"__name__": name, "cluster": cluster, "host": str(host)}
        for name in ("hits_total", "load")
        for cluster in ("eu", "us")
        for host in range(3)
    ]
    times = np.arange(0, 61 * MINUTE, 15_000)
    ids = store.series_ids(rows)
    values = np.arange(times.size, dtype=float) * np.arange(1, ids.size + 1)[:, None]
    store.write(
        SampleBlock(np.repeat(ids, times.size), np.tile(times, ids.size), values.reshape(-1))
    )
    return store


@pytest.fixture
def engine(store):
    """Return an engine over those series."""
    return Engine(store)


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("load", ResultKind.VECTOR),
        ("load[5m]", ResultKind.MATRIX),
        ("load[5m:1m]", ResultKind.MATRIX),
        ("(1 + 1)", ResultKind.SCALAR),
        ('("text")', ResultKind.STRING),
    ],
)
def test_instant_results_have_the_kind_of_the_expression(engine, query, kind):
    """The kind of an instant query's result follows from its type."""
    result = engine.instant(query, 30 * MINUTE, Budget())
    assert result.kind is kind
    assert (result.matrix is not None) == (kind in {ResultKind.VECTOR, ResultKind.SCALAR})
    assert (result.ranges is not None) == (kind is ResultKind.MATRIX)
    assert result.text == ("text" if kind is ResultKind.STRING else "")


def test_samples_of_a_range_selector_are_in_the_order_of_their_labels():
    """Series stored late in another order come by their labels, each with its own samples."""
    store = MemoryStore()
    ids = store.series_ids([{"__name__": "x", "n": n} for n in "cab"])
    times = np.array([1, 1, 2, 1, 2, 3], np.int64)
    store.write(SampleBlock(np.repeat(ids, [1, 2, 3]), times, np.arange(6.0)))
    ranges = Engine(store).instant("x[1s]", 500, Budget()).ranges
    assert ranges is not None
    assert [labels["n"] for labels in ranges.labels.dicts()] == ["a", "b", "c"]
    assert ranges.samples.offsets.tolist() == [0, 2, 5, 6]
    assert ranges.samples.values.tolist() == [1, 2, 3, 4, 5, 0]
    assert ranges.samples.times.tolist() == [1, 2, 1, 2, 3, 1]


def test_range_results_are_sorted_by_labels(engine):
    """Rows of a range query come in the order of their labels, whatever the operator's order."""
    result = engine.range("sort_desc({__name__=~'.+'})", HOUR, Budget())
    assert result.matrix is not None
    rows = [sorted(labels.items()) for labels in result.matrix.series.dicts()]
    assert rows == sorted(rows)
    assert len(rows) == 12


def test_scope_limits_every_selector(engine):
    """Matchers of the scope hold for every selector, also in subqueries and on both sides."""
    scope = (Matcher("cluster", MatchOp.EQUAL, "eu"),)
    for query in (
        "count(load)",
        "count(load + load)",
        'count({__name__=~".+",cluster="us"} or load)',
        "count(max_over_time(load[10m:1m]))",
        "count(rate(load[5m]))",
        "count(timestamp(load))",
        "count(load @ 600)",
        'count(info(load, {zone=~".*"}))',
    ):
        result = engine.instant(query, 30 * MINUTE, Budget(), scope=scope)
        assert result.matrix is not None
        assert result.matrix.values.tolist() == [[3.0]], query
        assert all(scope[0] in read.matchers for read in result.reads)


def test_reads_say_which_window_each_selector_read(engine):
    """A read is left-open: the lookback or range before the first step, up to the last."""
    result = engine.range("load + rate(hits_total[10m] offset 5m)", HOUR, Budget())
    windows = [(read.start_ms, read.end_ms) for read in result.reads]
    assert windows == [(-5 * MINUTE, 60 * MINUTE), (-15 * MINUTE, 55 * MINUTE)]
    assert str(result.reads[1].matchers[0]) == '__name__="hits_total"'


def test_lookback_can_be_set_for_a_query(engine):
    """The lookback of the query counts instead of the engine's."""
    late = 62 * MINUTE
    usual = engine.instant("count(load)", late, Budget())
    short = engine.instant("count(load)", late, Budget(), lookback_ms=MINUTE)
    assert usual.matrix is not None
    assert short.matrix is not None
    assert (len(usual.matrix.series), len(short.matrix.series)) == (1, 0)


def test_points_of_a_range_query_are_bounded(store):
    """More points than allowed are refused in Prometheus's words; the bound itself passes."""
    engine = Engine(store, max_points=10)
    engine.range("load", StepRange(0, MINUTE, 11), Budget())
    with pytest.raises(QuerySyntaxError, match="exceeded maximum resolution of 10 points"):
        engine.range("load", StepRange(0, MINUTE, 12), Budget())


@pytest.mark.parametrize(
    ("limits", "query", "message"),
    [
        ({"max_samples": 100}, "rate(load[30m])", "reads more than 100 samples"),
        ({"max_series": 5}, "load", "matches 6 series, more than the 5 allowed"),
        ({"max_bytes": 1000}, "load", "for one result"),
        ({"max_bytes": 100_000}, "max_over_time(vector(1)[10y:1s])", "for one result"),
        ({"max_bytes": 100_000}, 'count_values("v", load)', "for one result"),
    ],
)
def test_costly_queries_are_stopped_by_their_budget(engine, limits, query, message):
    """Samples, series and bytes are counted before they are spent."""
    with pytest.raises(QueryExecutionError, match=message):
        engine.range(query, HOUR, Budget(**limits))


def test_range_selectors_answer_within_the_budget(engine):
    """Samples given back as they are count as bytes of the result."""
    with pytest.raises(QueryExecutionError, match="for one result"):
        engine.instant("load[30m]", 30 * MINUTE, Budget(max_bytes=10_000))


def test_cancelled_queries_stop(engine):
    """A cancelled budget ends the query with its reason."""
    budget = Budget()
    budget.cancel("the client has gone")
    with pytest.raises(QueryTimeoutError, match="the client has gone"):
        engine.instant("load", 0, budget)


def test_queries_out_of_time_stop(engine):
    """A passed deadline ends the query."""
    with pytest.raises(QueryTimeoutError, match="timed out"):
        engine.instant("load", 0, Budget(timeout_seconds=-1))


def test_made_up_strings_do_not_reach_the_store(store, engine):
    """Labels a query makes up live in its own dictionary."""
    before = len(store.strings())
    engine.instant('label_replace(load, "new", "made-up", "", "")', 0, Budget())
    assert store.strings().find("made-up") is None
    assert len(store.strings()) == before


def test_one_engine_serves_many_threads(engine):
    """Queries at the same time give what they give alone."""
    queries = [f"sum by (cluster) (rate(hits_total[{m}m])) * {m}" for m in range(2, 8)]
    alone = [engine.range(query, HOUR, Budget()).matrix.values for query in queries]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda q: engine.range(q, HOUR, Budget()), queries * 8))
    for number, result in enumerate(together):
        assert np.array_equal(result.matrix.values, alone[number % len(queries)], equal_nan=True)


@pytest.mark.parametrize(
    ("query", "reads"),
    [("load @ 600", 1), ("sum(load @ 600) + 1", 1), ("load + load @ end()", 2)],
)
def test_step_invariant_parts_are_read_once(engine, query, reads):
    """What `@` fixes reads one window however many steps there are."""
    result = engine.range(query, HOUR, Budget())
    assert len(result.reads) == reads
    assert result.reads[-1].end_ms - result.reads[-1].start_ms == 5 * MINUTE


@pytest.mark.parametrize(
    "query",
    [
        "sum(load @ 600) + 1",
        "rate(hits_total[5m] @ end())",
        "max_over_time(load[5m:1m] @ start())",
        "time() + scalar(load{host='1',cluster='eu'} @ 600)",
        "timestamp(load @ 600)",
        "predict_linear(load[5m] @ 600, 60)",
        "topk(1, load @ 600)",
        "max_over_time((load @ 600)[5m:1m])",
    ],
)
def test_rewrites_do_not_change_results(engine, query):
    """Each step of a range query has what an instant query there has."""
    ranged = engine.range(query, StepRange(10 * MINUTE, 7 * MINUTE, 4), Budget())
    fixed = query.replace("start()", "600").replace("end()", "1860")
    for time_ms in ranged.steps.times().tolist():
        instant = engine.instant(fixed, time_ms, Budget())
        expected = {labels: found[time_ms] for labels, found in points(instant)}
        got = {labels: found[time_ms] for labels, found in points(ranged)}
        assert got == expected


def test_rewritten_plans_print_as_before():
    """Marks of the rewrites do not show."""
    query = "sum(load @ 600) / 2 + max_over_time((load @ 1)[5m:1m])"
    assert str(rewrite(parse(query))) == str(parse(query))


def test_range_selector_results_have_no_stale_markers_and_no_empty_series(engine):
    """An instant query of a range gives samples as they were stored."""
    result = engine.instant("load[1m]", 30 * MINUTE, Budget())
    assert result.ranges is not None
    samples = result.ranges.samples
    assert np.diff(samples.offsets).tolist() == [4] * 6
    assert samples.times[:4].tolist() == [1_755_000, 1_770_000, 1_785_000, 1_800_000]
    empty = engine.instant("nothing[1m]", 30 * MINUTE, Budget())
    assert empty.ranges is not None
    assert len(empty.ranges.labels) == 0


def test_samples_count_once_for_each_window():
    """Windows that overlap cost more than the samples they hold."""
    query = "sum_over_time(vector(1)[100s:1s])"

    def evaluated(visits: int) -> None:
        Engine(MemoryStore()).instant(query, 1_000_000, Budget(max_visits=visits))

    evaluated(100)
    with pytest.raises(QueryExecutionError, match="windows hold more than 99 samples"):
        evaluated(99)
