"""Freshness: the state of each cluster and subject, and what a query is told about it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from aggregator.fleet.freshness import Freshness, State
from aggregator.fleet.health import Dropped, HealthBoard, Outcome, Served
from aggregator.fleet.registry import Registry
from aggregator.fleet.settings import ClusterSettings, CollectSettings
from aggregator.fleet.subjects import matches, reads_subject, selector_name
from aggregator.fleet.view import BindingView, Coverage, cluster_views
from aggregator.model.labels import Matcher, MatchOp
from aggregator.promql.parse import parse_selector
from aggregator.state.bindings import Binding, Bindings, Standing
from aggregator.state.database import Database, open_database
from aggregator.state.gaps import Gaps
from aggregator.state.watermarks import Watermarks

NOW = 1_795_334_400_000  # 2026-11-22T08:00:00Z
GROUPS = {"fleet:nodes_ready": "nodes", "fleet:ingress": "ingress"}
MAINTENANCE = {"from": "2026-11-22T07:00:00Z", "to": "2026-11-22T09:00:00Z", "reason": "upgrade"}


@dataclass(frozen=True)
class Read:
    """A selector and the time it reads."""

    matchers: Sequence[Matcher]
    start_ms: int = NOW - 300_000
    end_ms: int = NOW


@dataclass
class Fleet:
    """A fleet whose watermarks, gaps and health a test sets."""

    database: Database
    names: Sequence[str] = ("a",)
    collect: dict[str, object] = field(default_factory=dict)
    maintenance: dict[str, str] | None = None

    def __post_init__(self):
        clusters = [
            ClusterSettings.model_validate(
                {
                    "name": name,
                    "region": "india" if name.startswith("in") else "europe",
                    "labels": {"environment": "prod"},
                    "prometheus": {"url": "http://localhost:1"},
                    "maintenance": self.maintenance,
                }
            )
            for name in self.names
        ]
        settings = {"raw": [{"match": "up"}, {"match": '{job="x"}', "interval": "60s"}]}
        self.marks, self.gaps = Watermarks(self.database), Gaps(self.database)
        self.health = HealthBoard()
        registry = Registry(clusters, CollectSettings.model_validate({**settings, **self.collect}))
        self.freshness = Freshness(registry, GROUPS, self.marks, self.gaps, self.health)

    def state(self, subject: str = "fleet:nodes") -> State:
        """Return the state of one subject of the first cluster."""
        first = next(iter(self.freshness.registry))
        units = self.freshness.units(first, NOW)
        return next(unit.state for unit in units if unit.subject.name == subject)

    def fresh(self, cluster: str, age_ms: int = 10_000, subject: str = "fleet:nodes") -> None:
        """Let a subject have data until *age_ms* ago."""
        self.marks.advance(cluster, NOW - age_ms, with_data=[subject])

    def fails(self, cluster: str, times: int, open_until_ms: int | None = None) -> None:
        """Let a cluster's cycles fail."""
        for _ in range(times):
            self.health.ended(cluster, Outcome(NOW, False, "refused", "refused"), open_until_ms)

    def warnings(self, selector: str, **window: int) -> tuple[str, ...]:
        """Return what a query of *selector* is told."""
        return self.freshness.warnings([Read(parse_selector(selector), **window)], NOW)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Return an empty state file."""
    opened = open_database(tmp_path / "state.db")
    yield opened
    opened.close()


def test_warnings_follow_what_changes(database: Database):
    """What was told before does not hide a failure, a gap, series left out, data, or time."""
    fleet = Fleet(database, ("a", "b"))
    for cluster in fleet.names:
        fleet.marks.advance(cluster, NOW, with_data=["fleet:nodes", "raw:up"])
    assert fleet.warnings("fleet:nodes_ready") == ()
    fleet.fails("a", 3)
    assert "unreachable" in fleet.warnings("fleet:nodes_ready", end_ms=NOW + 1)[0]
    fleet.health.ended("a", Outcome(NOW, True), None)
    assert fleet.warnings("fleet:nodes_ready") == ()
    fleet.gaps.record("b", [("fleet:nodes", NOW - 9_000, NOW)], "refused", NOW)
    assert "has a gap" in fleet.warnings("fleet:nodes_ready")[0]
    fleet.gaps.fill("b", ["fleet:nodes"], (NOW - 9_000, NOW), "copied", NOW)
    assert fleet.warnings("fleet:nodes_ready") == ()
    fleet.health.drop("b", "fleet:nodes", Dropped(5, 10, new=False), NOW)
    assert "not stored" in fleet.warnings("fleet:nodes_ready")[0]
    fleet.health.drop("b", "fleet:nodes", None, NOW)
    later = [Read(parse_selector("fleet:nodes_ready"), end_ms=NOW + 65_001)]
    assert fleet.freshness.warnings(later, NOW + 65_000) == ()
    assert len(fleet.freshness.warnings(later, NOW + 65_001)) == 2
    assert fleet.freshness.warnings(later, NOW + 65_000) == ()  # the clock was set back
    assert len(fleet.freshness.warnings(later, NOW + 65_001)) == 2
    fleet.marks.advance("a", NOW + 60_000, with_data=["fleet:nodes"])
    assert len(fleet.freshness.warnings(later, NOW + 65_001)) == 1
    fleet.marks.forget("b")
    assert fleet.freshness.warnings(later, NOW + 65_001) == ()


def test_warnings_follow_what_is_forgotten(database: Database):
    """A clock set back, gaps that retention passed, and failures of a cluster that left."""
    fleet = Fleet(database)
    fleet.fresh("a")
    assert fleet.warnings("fleet:nodes_ready") == ()
    fleet.marks.cap(NOW - 3_600_000)
    assert "is late" in fleet.warnings("fleet:nodes_ready")[0]
    fleet.fresh("a", age_ms=0)
    fleet.gaps.record("a", [("fleet:nodes", NOW - 9_000, NOW)], "refused", NOW)
    assert "has a gap" in fleet.warnings("fleet:nodes_ready")[0]
    fleet.gaps.forget(before_ms=NOW)
    assert fleet.warnings("fleet:nodes_ready") == ()
    fleet.fails("a", 3)
    assert "unreachable" in fleet.warnings("fleet:nodes_ready", end_ms=NOW + 1)[0]
    fleet.health.forget("a")
    assert fleet.warnings("fleet:nodes_ready", end_ms=NOW + 1) == ()


@pytest.mark.parametrize("order", [1, -1])
def test_warnings_follow_time(database: Database, order: int):
    """An open breaker, maintenance and the age of answers end when they end, also backwards."""
    fleet = Fleet(database, maintenance=MAINTENANCE)
    begin, end = NOW - 3_600_000, NOW + 3_600_000
    fleet.marks.advance("a", begin - 700_000, with_data=["fleet:nodes"])
    fleet.fails("a", 1, open_until_ms=end + 5_000)
    fleet.marks.advance("a", end - 60_000, with_data=(), without=["fleet:nodes"])
    said = {
        begin - 1: "unreachable",
        begin: "",
        end - 1: "",
        end: "unreachable",
        end + 4_999: "unreachable",
        end + 5_000: "missing",
        end + 5_001: "late",
    }
    for now_ms, state in list(said.items())[::order]:
        read = Read(parse_selector("fleet:nodes_ready"), now_ms - 60_000, now_ms)
        lines = fleet.freshness.warnings([read], now_ms)
        assert [f"fleet:nodes is {state}," in line for line in lines] == [True] * bool(state)


def test_never(database: Database):
    """A subject without any data since the cluster was registered is never, and not expected."""
    fleet = Fleet(database)
    assert fleet.state() is State.NEVER
    fleet.marks.advance("a", NOW, with_data=[], without=["fleet:nodes"])
    assert fleet.state() is State.NEVER
    assert not State.NEVER.expected
    assert fleet.warnings("fleet:nodes_ready") == ()


def test_a_cluster_that_never_answered_is_unreachable(database: Database):
    """Three failed cycles make a cluster unreachable and expected, even if it never answered."""
    fleet = Fleet(database)
    fleet.fails("a", 2)
    assert fleet.state() is State.NEVER
    fleet.fails("a", 1)
    assert fleet.state() is State.UNREACHABLE
    assert State.UNREACHABLE.expected
    assert len(fleet.warnings("fleet:nodes_ready")) == 1


def test_open_breaker_is_unreachable(database: Database):
    """While the breaker is open the cluster is unreachable, and not any longer."""
    fleet = Fleet(database)
    fleet.fresh("a")
    fleet.fails("a", 1, NOW + 1_000)
    assert fleet.state() is State.UNREACHABLE
    fleet.fails("a", 1, NOW)
    assert fleet.state() is State.OK


@pytest.mark.parametrize(
    ("subject", "age_ms", "state"),
    [
        ("fleet:nodes", 65_000, State.OK),  # 2 x 30 s + 5 s
        ("fleet:nodes", 65_001, State.LATE),
        ('raw:{job="x"}', 125_000, State.OK),  # its own interval is 60 s
        ('raw:{job="x"}', 125_001, State.LATE),
    ],
)
def test_late(database: Database, subject: str, age_ms: int, state: State):
    """Data older than two intervals and the lag is late."""
    fleet = Fleet(database)
    fleet.fresh("a", age_ms, subject)
    assert fleet.state(subject) is state


def test_missing(database: Database):
    """A subject that had data, of a cluster that answers without it, is missing."""
    fleet = Fleet(database)
    fleet.fresh("a", 200_000)
    fleet.marks.advance("a", NOW - 10_000, with_data=[], without=["fleet:nodes"])
    assert fleet.state() is State.MISSING


def test_maintenance(database: Database):
    """In maintenance nothing is expected, and nothing is warned of."""
    fleet = Fleet(database, maintenance=MAINTENANCE)
    fleet.fails("a", 3)
    assert fleet.state() is State.MAINTENANCE
    assert fleet.warnings("fleet:nodes_ready") == ()


def test_warning_names_cluster_subject_and_age(database: Database):
    """A warning says which cluster lacks what, and since when."""
    fleet = Fleet(database)
    fleet.fresh("a", 300_000)
    assert fleet.warnings("fleet:nodes_ready") == (
        "cluster a (europe): fleet:nodes is late, no data since 2026-11-22T07:55:00Z (5m ago)",
    )


@pytest.mark.parametrize(
    ("selector", "warned"),
    [
        ("fleet:nodes_ready", True),
        ('fleet:nodes_ready{cluster="a"}', True),
        ('fleet:nodes_ready{cluster=~"a|b", region!="india"}', True),
        ('{__name__=~"fleet:node.*"}', True),
        ('{cluster="a"}', True),
        ("fleet:ingress", False),  # another group, which never had data
        ("up", False),
        ('fleet:nodes_ready{cluster="b"}', False),
        ('fleet:nodes_ready{region=~"in.*"}', False),
        ('fleet:nodes_ready{cluster!~"a"}', False),
    ],
)
def test_only_what_the_query_reads_is_warned_of(database: Database, selector: str, warned: bool):
    """A query hears of the clusters and subjects that its matchers can select."""
    fleet = Fleet(database)
    fleet.fresh("a", 300_000)
    assert bool(fleet.warnings(selector)) is warned


def test_time_range_decides(database: Database):
    """A query of time that is covered is not warned, whatever the state is now."""
    fleet = Fleet(database)
    fleet.fresh("a", 600_000)
    covered = {"start_ms": NOW - 3_600_000, "end_ms": NOW - 600_000}
    assert fleet.warnings("fleet:nodes_ready", **covered) == ()
    assert fleet.warnings("fleet:nodes_ready", end_ms=NOW - 599_000) != ()


def test_open_gap_is_warned_of(database: Database):
    """A query that meets an open gap is warned; one beside it, or of a closed one, is not."""
    fleet = Fleet(database)
    fleet.fresh("a")
    start, end = NOW - 7_200_000, NOW - 3_600_000
    fleet.gaps.record("a", [("fleet:nodes", start, end)], "cluster did not answer", NOW)
    [line] = fleet.warnings("fleet:nodes_ready", start_ms=end - 1, end_ms=NOW)
    assert "has a gap from 2026-11-22T06:00:00Z to 2026-11-22T07:00:00Z" in line
    assert fleet.warnings("fleet:nodes_ready", start_ms=end, end_ms=NOW) == ()
    assert fleet.warnings("fleet:nodes_ready", start_ms=start - 9, end_ms=start) == ()
    fleet.gaps.fill("a", ["fleet:nodes"], (start, end), "stored", NOW)
    assert fleet.warnings("fleet:nodes_ready", start_ms=start, end_ms=NOW) == ()


def test_at_most_five_lines_worst_first(database: Database):
    """Of many clusters the five worst are named and the others counted."""
    names = [f"c{number:02}" for number in range(30)]
    fleet = Fleet(database, names)
    for name in names:
        fleet.fresh(name, 300_000)
    fleet.fails("c29", 3)
    lines = fleet.warnings("fleet:nodes_ready")
    assert len(lines) == 6
    assert lines[0].startswith("cluster c29 (europe): fleet:nodes is unreachable")
    assert lines[-1] == "… and 25 more, see /api/v1/clusters"


def test_a_cluster_is_named_once(database: Database):
    """Several subjects and selectors of one cluster make one line, of the worst."""
    fleet = Fleet(database)
    fleet.fresh("a", 300_000)
    fleet.fresh("a", 300_000, "fleet:ingress")
    fleet.marks.advance("a", NOW, with_data=[], without=["fleet:ingress"])
    reads = [Read(parse_selector(name)) for name in ("fleet:nodes_ready", "fleet:ingress")]
    [line] = fleet.freshness.warnings(reads, NOW)
    assert "fleet:ingress is missing" in line


def test_missing_at_an_instant(database: Database):
    """A unit is missing at T if its watermark has not reached its own grid's newest instant."""
    fleet = Fleet(database, ("a", "b", "c"))
    fleet.fresh("a", 10_000)
    fleet.fresh("b", 40_001)
    matchers = parse_selector("fleet:nodes_ready")
    missing = fleet.freshness.missing_at(matchers, NOW - 10_000, NOW)
    assert [unit.cluster.name for unit in missing] == ["b"]


def test_raw_selectors_are_read_by_name(database: Database):
    """A raw selector with a name is read by queries of that name, others by any raw name."""
    fleet = Fleet(database)
    fleet.fresh("a", 300_000, 'raw:{job="x"}')
    assert fleet.warnings("http_requests_total")
    assert not fleet.warnings("fleet:nodes_ready")
    fleet.health.saw_names("a", 'raw:{job="x"}', frozenset({"go_threads"}))
    assert not fleet.warnings("http_requests_total")
    assert fleet.warnings("go_threads")
    assert fleet.warnings('{__name__=~"go_.+"}')


@pytest.mark.parametrize(
    ("selector", "name"),
    [("up", "up"), ('up{a="b"}', "up"), ('{__name__="x"}', "x"), ('{a="b"}', None)],
)
def test_selector_name(selector: str, name: str | None):
    """The name of a selector is known where it has exactly one."""
    assert selector_name(selector) == name


@pytest.mark.parametrize(
    ("op", "pattern", "value", "result"),
    [
        (MatchOp.EQUAL, "a", "a", True),
        (MatchOp.NOT_EQUAL, "a", "a", False),
        (MatchOp.REGEX, "a|b", "ab", False),
        (MatchOp.REGEX, "a.", "ab", True),
        (MatchOp.NOT_REGEX, "a.*", "b", True),
    ],
)
def test_matchers_are_anchored(op: MatchOp, pattern: str, value: str, result: bool):
    """Regexes match whole values."""
    assert matches(Matcher("x", op, pattern), value) is result


def test_unknown_raw_names_count_as_read():
    """Until names are known every query may read a raw selector, unless it wants fleet metrics."""
    assert reads_subject(parse_selector("anything"), "raw:{}", {})
    assert not reads_subject(parse_selector("fleet:x"), "raw:{}", {})


def test_view(database: Database):
    """A cluster's view has its state, age, bindings, gaps and what to do."""
    fleet = Fleet(database)
    bindings = Bindings(database)
    bindings.save("a", [Binding("fleet:nodes_ready", ("ksm",), "exact", "", 1)])
    fleet.fresh("a", 20_000)
    fleet.fresh("a", 40_000, "raw:up")
    fleet.gaps.record("a", [("raw:up", NOW - 9_000, NOW - 5_000)], "down", NOW)
    fleet.health.quarantine("a", "fleet:nodes_ready", "ksm: parse error")
    fleet.health.note("a", "raw:up", "partial answer")
    [view] = cluster_views(fleet.freshness, bindings, NOW)
    assert (view.cluster, view.region, view.state, view.error) == ("a", "europe", "ok", "")
    assert (view.data_until, view.age_seconds) == ((NOW - 40_000) / 1000, 40.0)
    states = {subject.subject: (subject.state, subject.note) for subject in view.subjects}
    assert states["fleet:nodes"] == ("ok", "")
    assert states["raw:up"] == ("ok", "partial answer")
    assert states["fleet:ingress"] == ("never", "")
    assert [gap.reason for gap in view.gaps] == ["down"]
    assert view.coverage == Coverage(0, 2)
    details = view.details()
    assert details.groups == {"nodes": Coverage(0, 1), "ingress": Coverage(0, 1)}
    [ready, ingress] = details.bindings
    assert (ready.state, ready.reason) == ("quarantined", "ksm: parse error")
    assert (ingress.state, ingress.reason) == ("unasked", "not asked yet")


def test_how_a_metric_is_served(database: Database):
    """A bound metric is served once it has data, empty when the last answers had none."""
    fleet = Fleet(database)
    bindings = Bindings(database)

    def view(served: Served | None = None) -> BindingView:
        if served is not None:
            fleet.health.serve("a", {"fleet:nodes_ready": served})
        [found] = cluster_views(fleet.freshness, bindings, NOW)
        assert found.coverage.metrics == 2
        assert found.coverage.served == (served is None or not served.empty_cycles)
        return found.details().bindings[0]

    kept = Binding(
        "fleet:nodes_ready", ("ksm",), "exact", "", 1, Standing.BOUND, 9_000, ("kubelet",)
    )
    bindings.save("a", [kept])
    assert (view().state, view().since, view().previous) == ("bound", 9.0, ("kubelet",))
    fresh = view(Served(NOW - 5_000))
    assert (fresh.state, fresh.age_seconds, fresh.reason) == ("ok", 5.0, "")
    empty = view(Served(NOW - 65_000, 4))
    assert (empty.state, empty.age_seconds) == ("empty", 65.0)
    assert empty.reason == "the last 4 answers had none"


def test_why_a_metric_is_not_served(database: Database):
    """What nothing serves says whether it ever could."""
    fleet = Fleet(database)
    bindings = Bindings(database)
    bindings.save("a", [Binding("fleet:ingress", (), "", "had some", 1, Standing.NOT_NOW)])
    [view] = cluster_views(fleet.freshness, bindings, NOW)
    found = view.details().bindings[1]
    assert (found.state, found.reason, found.since) == ("not_now", "had some", None)


def test_view_of_an_unreachable_cluster(database: Database):
    """An unreachable cluster's view has the error and when it is tried again."""
    fleet = Fleet(database)
    fleet.fails("a", 3, NOW + 29_500)
    [view] = cluster_views(fleet.freshness, Bindings(database), NOW)
    assert (view.state, view.error) == ("unreachable", "refused; next try in 30s")
    assert (view.data_until, view.age_seconds) == (None, None)


def test_view_in_maintenance(database: Database):
    """In maintenance the view says why, not what fails."""
    fleet = Fleet(database, maintenance=MAINTENANCE)
    fleet.fails("a", 3, NOW + 30_000)
    [view] = cluster_views(fleet.freshness, Bindings(database), NOW)
    assert (view.state, view.error) == ("maintenance", "in maintenance: upgrade")
