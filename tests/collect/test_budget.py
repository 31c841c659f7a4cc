"""Budgets: what is let in, what is left out, and what is said of that."""

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.collect.budget import NewSeries, admit, blamed, fair_places, sampled
from aggregator.collect.cycle import ClusterCollector
from aggregator.fleet.freshness import Freshness
from aggregator.promql.context import Read
from aggregator.promql.parse import parse_selector
from tests.collect.stage import T0, Stage, profile, raw_series

STEP = 15_000
HOUR = 3_600_000


def run(stage: Stage, collecting: ClusterCollector, cycles: int = 1) -> None:
    """Run cycles, one interval apart."""
    for _ in range(cycles):
        collecting.cycle()
        stage.clock[0] += STEP


def churning(stage: Stage, count: int, **collect: object) -> ClusterCollector:
    """Return a collector of `fleet:m`, of which *count* series are new in every answer."""

    def rows(at: int):
        own = [({"x": f"{at}-{n}"}, 1.0) for n in range(count)]
        return [({"x": "there"}, 1.0), *own] if at > T0 else [({"x": "there"}, 1.0)]

    stage.prometheus.vectors["m"] = rows
    return ClusterCollector(stage.cluster(**collect), profile("m"), stage.context)


@given(
    known=st.lists(st.booleans(), max_size=30),
    room=st.integers(-2, 30),
    limit=st.integers(0, 30),
)
def test_admission(known: list[bool], room: int, limit: int):
    """No more than there is room for, what is known first, new ones within theirs, in order."""
    now = np.array(known, np.bool_)
    new = NewSeries(limit, lambda: 0)
    admitted = admit(now, lambda: np.arange(now.size), room, new)
    kept = admitted.kept
    assert kept.sum() <= max(room, 0)
    assert (kept & ~now).sum() == limit - new.left() <= limit
    if (now & ~kept).any():
        assert not (kept & ~now).any()
    for rows in (np.flatnonzero(now), np.flatnonzero(~now)):
        assert sorted(kept[rows].tolist(), reverse=True) == kept[rows].tolist()
    assert admitted.cut == (~kept).sum()
    assert admitted.over == max(0, now.size - max(room, 0))
    assert admitted.churned >= 0


def test_metrics_take_turns():
    """A metric with few series is let in whole before one with many gets its second half."""
    series = [b"a1", b"a2", b"a3", b"a4", b"z1", b"z2"]
    places = fair_places([one[:1] for one in series], series)
    assert [series[row] for row in np.argsort(places)] == [b"a1", b"z1", b"a2", b"z2", b"a3", b"a4"]


def test_new_series_come_back_with_time():
    """As many new series as the limit are allowed at once, and as many again in an hour."""
    clock = [T0]
    new = NewSeries(100, lambda: clock[0])
    new.take(100)
    assert new.left() == 0
    clock[0] += HOUR // 2
    assert new.left() == 50
    clock[0] -= HOUR
    assert new.left() == 50
    clock[0] += 5 * HOUR
    assert new.left() == 100


def test_a_sample_is_enough_to_blame():
    """Of many rows some are looked at, from all over."""
    rows = sampled(np.arange(1_000_000))
    assert len(rows) == 1_000
    assert (rows[0], rows[-1]) == (0, 999_999)


def test_who_is_blamed():
    """The metric with most series, and the label in which they differ most."""
    labels = [{"__name__": "http", "path": f"/{n}", "code": str(n % 3)} for n in range(9)]
    labels += [{"__name__": "up", "job": str(n)} for n in range(5)]
    admitted = admit(np.zeros(14, np.bool_), lambda: np.arange(14), 0, NewSeries(10, lambda: 0))
    dropped = blamed(labels, admitted, 10)
    assert dropped is not None
    assert (dropped.metric, dropped.label, dropped.values) == ("http", "path", 9)
    assert dropped.text == (
        "14 series above the limit of 10 are not stored; most are http, told apart by path "
        "(9 values or more); raise limits.series or ask less"
    )


def test_churn_is_bounded(stage: Stage):
    """Of new names in every answer few are let in, and what was there before goes on."""
    collecting = churning(stage, 8, limits={"series": 10})
    run(stage, collecting, 20)
    assert len(stage.samples("fleet:m")["x=there"]) == 20
    assert stage.store.series_count <= 11
    health = stage.context.health.get("a")
    assert health.rejected["new_series_limit"] > 100
    dropped = health.dropped["fleet:things"]
    assert (dropped.new, dropped.metric, dropped.label) == (True, "fleet:m", "x")
    assert "new series are not stored" in health.notes["fleet:things"]


def test_new_series_get_in_later(stage: Stage):
    """What had to wait comes in once there is room again, without a change of the answer."""
    stage.prometheus.raw = {raw_series("up", job="0"): [(T0 - 1_000, 1.0)]}
    collecting = ClusterCollector(
        stage.cluster(raw=[{"match": "up"}], limits={"series": 4}), profile(), stage.context
    )
    run(stage, collecting)
    for number in range(3):
        stage.prometheus.raw[raw_series("up", job=f"{number}x")] = [(T0 + 5_000, 1.0)]
    stage.prometheus.raw[raw_series("up", job="9")] = [(T0 + 5_000, 1.0)]
    del stage.prometheus.raw[raw_series("up", job="0")]
    run(stage, collecting)
    assert "job=9" not in stage.samples("up")
    for samples in stage.prometheus.raw.values():
        samples.append((T0 + HOUR, 1.0))
    stage.clock[0] += HOUR
    run(stage, collecting)
    assert "job=9" in stage.samples("up")
    assert stage.context.health.get("a").dropped == {}


def test_recorded_and_raw_apart(stage: Stage):
    """Each kind of series has the limit for itself."""
    stage.prometheus.vectors["m"] = lambda _: [({"x": str(n)}, 1.0) for n in range(4)]
    stage.prometheus.raw = {
        raw_series("up", job=str(number)): [(T0 - 1_000, 1.0)] for number in range(4)
    }
    cluster = stage.cluster(raw=[{"match": "up"}], limits={"series": 4})
    run(stage, ClusterCollector(cluster, profile("m"), stage.context))
    assert len(stage.samples("fleet:m")) == len(stage.samples("up")) == 4
    assert stage.context.health.get("a").series == {"recorded": 4, "raw": 4}
    assert stage.context.health.get("a").dropped == {}


def test_batches_share_a_limit(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    """The limit is that of the cluster, however many requests its metrics take."""
    monkeypatch.setattr("aggregator.profile.batch.MAX_QUERY_BYTES", 1)
    for name in ("m1", "m2"):
        stage.prometheus.vectors[name] = lambda _: [({"x": str(n)}, 1.0) for n in range(4)]
    collecting = ClusterCollector(
        stage.cluster(limits={"series": 6}), profile("m1", "m2"), stage.context
    )
    run(stage, collecting, 2)
    assert len(collecting._requests.batches) == 2
    assert stage.context.health.get("a").series["recorded"] == 6
    assert len(stage.samples("fleet:m1")) == 4


def test_queries_are_told(stage: Stage):
    """A query of something that the budget cuts is told so, with what is to blame."""
    run(stage, churning(stage, 20, limits={"series": 5}), 3)
    context = stage.context
    freshness = Freshness(
        stage.registry(), {"fleet:m": "things"}, context.watermarks, context.gaps, context.health
    )
    now_ms = stage.clock[0]

    def warnings(selector: str, end_ms: int) -> tuple[str, ...]:
        matchers = parse_selector(selector)
        return freshness.warnings([Read(matchers, end_ms - 60_000, end_ms)], now_ms)

    [line] = warnings("fleet:m", now_ms)
    assert line.startswith("cluster a (europe): fleet:things: 20 series above the limit of 5")
    assert "most are fleet:m, told apart by x" in line
    assert warnings("fleet:other", now_ms) == ()
    assert warnings("fleet:m", T0 - HOUR) == ()


def test_names_of_culprits_are_cleaned(stage: Stage):
    """What a cluster calls its metrics is cut short and cleaned before it is shown."""
    hostile = f"<script>\n{'x' * 1_000}"
    body = orjson.dumps({"__name__": hostile, f"{hostile}label": "1"})
    stage.prometheus.raw = {body.decode(): [(T0 - 1_000, 1.0)]}
    stage.prometheus.raw |= {raw_series("up", job="x"): [(T0 - 1_000, 1.0)]}
    cluster = stage.cluster(raw=[{"match": '{job=~".+"}'}], limits={"series": 1})
    run(stage, ClusterCollector(cluster, profile(), stage.context))
    [dropped] = stage.context.health.get("a").dropped.values()
    assert "\n" not in dropped.text
    assert len(dropped.text) < 500
