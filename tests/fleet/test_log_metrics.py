"""Log metrics as a subject of their own: their state, and what a query that reads them misses."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import ValidationError

from aggregator.fleet.freshness import Freshness, LogMetrics, State
from aggregator.fleet.health import HealthBoard, Outcome
from aggregator.fleet.registry import Registry
from aggregator.fleet.settings import ClusterSettings, CollectSettings
from aggregator.fleet.subjects import LOG_METRICS
from aggregator.fleet.view import cluster_state, cluster_view
from aggregator.model.labels import Matcher, MatchOp
from aggregator.state.bindings import Bindings
from aggregator.state.database import open_database
from aggregator.state.gaps import Gaps
from aggregator.state.watermarks import Watermarks

T0 = 1_700_000_100_000  # on the grid of five minutes
MINUTE = 60_000
PANICS = (Matcher("__name__", MatchOp.EQUAL, "fleet:panics"),)


@dataclass(frozen=True)
class Read:
    """A selector and its time."""

    matchers: tuple[Matcher, ...]
    start_ms: int
    end_ms: int


@dataclass
class Fleet:
    """Cluster `a` has a Loki, `b` has none; both have data of Prometheus up to T0."""

    freshness: Freshness
    marks: Watermarks
    bindings: Bindings

    def state(self, now_ms: int) -> State:
        """Return the state of the log metrics of `a`."""
        [cluster, _] = self.freshness.registry
        units = self.freshness.units(cluster, now_ms)
        return next(unit.state for unit in units if unit.subject.name == LOG_METRICS)


def settings(name: str, **own: object) -> ClusterSettings:
    """Return the settings of a cluster."""
    document = {"name": name, "region": "eu", "prometheus": {"url": "http://p"}, **own}
    return ClusterSettings.model_validate(document)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Return both clusters."""
    database = open_database(tmp_path / "state.db")
    clusters = [settings("a", loki={"url": "http://l"}), settings("b")]
    marks, logs = Watermarks(database), LogMetrics({"fleet:panics": "logs"}, 5 * MINUTE)
    registry = Registry(clusters, CollectSettings())
    groups = {"fleet:m": "things"}
    freshness = Freshness(registry, groups, marks, Gaps(database), HealthBoard(), logs=logs)
    for name in ("a", "b"):
        marks.advance(name, T0, with_data=["fleet:things"])
    try:
        yield Fleet(freshness, marks, Bindings(database))
    finally:
        database.close()


def test_states(fleet: Fleet) -> None:
    """Never, then ok, late after two intervals, and unreachable by failures of its own."""
    assert fleet.state(T0) is State.NEVER
    fleet.marks.advance("a", T0, with_data=[LOG_METRICS])
    assert fleet.state(T0 + 10 * MINUTE) is State.OK
    assert fleet.state(T0 + 11 * MINUTE) is State.LATE
    for _ in range(3):
        outcome = Outcome(T0, answered=False, error="it is down", kind="refused")
        fleet.freshness.logs.health.ended("a", outcome, None)
    assert fleet.state(T0) is State.UNREACHABLE


def test_an_answer_stands_for_three_intervals(fleet: Fleet) -> None:
    """Rules do not miss what is written again until the next answer."""
    fleet.marks.advance("a", T0, with_data=[LOG_METRICS])

    def missing(time_ms: int) -> list[str]:
        units = fleet.freshness.missing_at(PANICS, time_ms, time_ms)
        return [unit.cluster.name for unit in units]

    assert missing(T0 + 15 * MINUTE - 1) == []
    assert missing(T0 + 15 * MINUTE) == ["a"]


def test_queries_warn_of_clusters_with_a_loki_alone(fleet: Fleet) -> None:
    """Nothing is expected of a cluster without one."""
    fleet.marks.advance("a", T0, with_data=[LOG_METRICS])
    now_ms = T0 + 20 * MINUTE
    [line] = fleet.freshness.warnings([Read(PANICS, T0, now_ms)], now_ms)
    assert line.startswith("cluster a (eu): log metrics is late, no data since ")
    for _ in range(3):
        outcome = Outcome(T0, answered=False, error="it is down", kind="refused")
        fleet.freshness.logs.health.ended("a", outcome, None)
    [line] = fleet.freshness.warnings([Read(PANICS, T0, now_ms)], now_ms)
    assert "log metrics is unreachable" in line


def test_a_lost_loki_leaves_its_cluster_reachable(fleet: Fleet) -> None:
    """The cluster misses data, and says whose error that is; its age is that of Prometheus."""
    fleet.marks.advance("a", T0 - 10 * MINUTE, with_data=[LOG_METRICS])
    for _ in range(3):
        outcome = Outcome(T0, answered=False, error="it is down", kind="refused")
        fleet.freshness.logs.health.ended("a", outcome, None)
    [cluster, _] = fleet.freshness.registry
    assert cluster_state(fleet.freshness.units(cluster, T0)) is State.MISSING
    view = cluster_view(fleet.freshness, fleet.bindings, cluster, T0)
    assert (view.state, view.age_seconds, view.error) == ("missing", 0.0, "Loki: it is down")
    assert view.coverage.metrics == 2


def test_a_default_selector_is_checked() -> None:
    """It stands in braces and is one selector."""
    for text in ('app="x"', "{app}", '{app=~"("}'):
        with pytest.raises(ValidationError, match="default_selector"):
            settings("a", loki={"url": "http://l", "default_selector": text})
    own = settings("a", loki={"url": "http://l", "default_selector": '{app=~".+"}'})
    assert own.loki is not None
    assert own.loki.matchers == 'app=~".+"'
