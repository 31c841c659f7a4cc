"""Bindings: what serves a metric, for how long, and what is asked when."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from aggregator import telemetry
from aggregator.collect import binding
from aggregator.collect.cycle import ClusterCollector
from aggregator.fleet.freshness import Freshness, State
from aggregator.profile.format import FleetMetric, Profile
from aggregator.sources.dialects import DialectName
from aggregator.state.bindings import Standing
from tests.collect.stage import T0, Response, Row, Stage, profile, raw_series, union

STEP = 15_000
HOUR = 3_600_000
ONE: list[Row] = [({"x": "1"}, 1.0)]


def of(*exprs: str, **fields: object) -> Profile:
    """Return a profile with the metric `fleet:m`, which has these candidates."""
    candidates = [{"id": expr, "quality": "exact", "expr": expr} for expr in exprs]
    metric = {"name": "fleet:m", "help": "A thing", "unit": "count", "group": "things"}
    fields = {**metric, "labels": ("x",), "candidates": candidates, **fields}
    return Profile((FleetMetric.model_validate(fields),))


def collector(stage: Stage, asked: Profile, **collect: object) -> ClusterCollector:
    """Return a collector of *asked*."""
    return ClusterCollector(stage.cluster(**collect), asked, stage.context)


def run(stage: Stage, collecting: ClusterCollector, cycles: int = 1) -> None:
    """Run cycles, one interval apart."""
    for _ in range(cycles):
        collecting.cycle()
        stage.clock[0] += STEP


def probed(stage: Stage) -> list[str]:
    """Return the questions that were asked since the last call."""
    asked = [query for query in stage.prometheus.queries if "count(" in query]
    stage.prometheus.queries.clear()
    return asked


def candidates(stage: Stage, metric: str = "fleet:m") -> tuple[str, ...]:
    """Return what serves a metric."""
    return stage.context.bindings.of("a")[metric].candidates


def test_the_first_signals_come_first(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    """What a slow region is looked at with is asked in the first cycle, the rest in a minute."""
    monkeypatch.setattr(binding, "MAX_EXPRESSIONS", 2)
    names = [f"m{number}" for number in range(8)]
    asked = Profile((*profile(*names).metrics, *profile("cluster_cpu_utilisation_ratio").metrics))
    for name in (*names, "cluster_cpu_utilisation_ratio"):
        stage.prometheus.vectors[name] = lambda _: ONE
    collecting = collector(stage, asked)
    bound = []
    for _ in range(6):
        run(stage, collecting)
        bound.append([item.metric.name for item in collecting._binder.bound])
    assert "fleet:cluster_cpu_utilisation_ratio" in bound[0]
    sizes = list(map(len, bound))
    assert sizes[0] == 2
    assert sizes == sorted(sizes)
    assert sizes[1] < 9
    assert sizes[4] == 9


def test_a_renamed_metric_moves_within_three_cycles(stage: Stage):
    """After three empty answers the next candidate takes over, in the same cycle, and it is said.

    What the first candidate had ends with a marker, and history fills what lies between.
    """
    renamed = T0 + 2 * STEP
    fake = stage.prometheus
    fake.vectors["old"] = lambda at: ONE if at < renamed else []
    fake.vectors["new"] = lambda at: [({"x": "2"}, 2.0)] if at >= renamed else []
    fake.vectors["up"] = lambda _: ONE
    collecting = collector(stage, of("old", "new"))
    run(stage, collecting, 4)
    assert candidates(stage) == ("old",)
    before = telemetry.BINDING_CHANGES.labels("a")._value.get()
    with capture_logs() as logged:
        run(stage, collecting)
    assert candidates(stage) == ("new",)
    kept = stage.context.bindings.of("a")["fleet:m"]
    assert (kept.previous, kept.since_ms) == (("old",), T0 + 4 * STEP + 5_000)
    [entry] = [entry for entry in logged if "served by another" in entry["event"]]
    assert (entry["before"], entry["now"]) == (["old"], ["new"])
    assert telemetry.BINDING_CHANGES.labels("a")._value.get() == before + 1
    while collecting.history_pending:
        collecting.read_history()
    found = stage.samples("fleet:m")
    assert found["x=1"][-1] == (2 * STEP, "stale")
    assert found["x=2"] == [(at * STEP, 2.0) for at in (2, 3, 4)]


def test_an_empty_metric_stays_bound(stage: Stage):
    """While nothing else has data the binding stays, and serves again at once."""
    stage.prometheus.vectors["m"] = lambda at: ONE if at in {T0, T0 + 9 * STEP} else []
    stage.prometheus.vectors["up{}"] = lambda _: ONE
    collecting = collector(stage, of("m", "other"))
    run(stage, collecting, 9)
    served = stage.context.health.get("a").served["fleet:m"]
    assert (served.data_until_ms, served.empty_cycles) == (T0, 8)
    run(stage, collecting)
    assert candidates(stage) == ("m",)
    assert stage.samples("fleet:m")["x=1"][-1] == (9 * STEP, 1.0)
    assert stage.context.health.get("a").served["fleet:m"].empty_cycles == 0


def test_empty_answers_are_asked_about_ever_more_rarely(stage: Stage):
    """A bound metric that stays empty is not asked about in every cycle."""
    stage.prometheus.vectors["m"] = lambda at: ONE if at == T0 else []
    collecting = collector(stage, of("m"))
    run(stage, collecting)
    probed(stage)
    asked = []
    for _ in range(60):
        run(stage, collecting)
        asked.append(bool(probed(stage)))
    assert asked[:4] == [False, False, True, False]
    assert sum(asked) <= 6


def test_presence_tells_lost_from_away(stage: Stage):
    """Of an empty metric it is known whether the cluster still has what it is made of."""
    stage.prometheus.vectors["m"] = lambda at: ONE if at == T0 else []
    collecting = collector(stage, of("m", presence="there"))
    run(stage, collecting, 5)
    assert not stage.context.health.get("a").served["fleet:m"].present
    stage.prometheus.vectors["there"] = lambda _: ONE
    run(stage, collecting, 5)
    assert stage.context.health.get("a").served["fleet:m"].present


def test_never_is_not_the_same_as_not_now(stage: Stage):
    """What had data within the hour is not now; what had none is never, and asked more rarely."""
    stage.prometheus.earlier["m1"] = lambda _: ONE
    collecting = collector(stage, profile("m1", "m2"))
    run(stage, collecting)
    kept = stage.context.bindings.of("a")
    assert kept["fleet:m1"].standing is Standing.NOT_NOW
    reason = "what only reads had data within the last hour, but it has none now"
    assert kept["fleet:m1"].reason == reason
    assert kept["fleet:m2"].standing is Standing.NEVER
    asked: dict[str, int] = {"m1": 0, "m2": 0}
    for _ in range(20):
        stage.clock[0] += HOUR // 4
        run(stage, collecting)
        for query in probed(stage):
            for name in asked:
                asked[name] += f"count({name})" in query
    assert asked["m1"] > 2 * asked["m2"] > 2


def test_a_candidate_that_fails_says_why(stage: Stage):
    """A question the server refuses, or does not answer in time, is that metric's trouble."""
    for name in ("m1", "m2"):
        stage.prometheus.vectors[name] = lambda _: ONE
    stage.prometheus.refused["count(m1)"] = 422
    run(stage, collector(stage, profile("m1", "m2")))
    kept = stage.context.bindings.of("a")
    assert kept["fleet:m1"].standing is Standing.FAILED
    assert "no count(m1)" in kept["fleet:m1"].reason
    assert kept["fleet:m2"].candidates == ("only",)


def test_a_candidate_for_other_servers(stage: Stage):
    """One of several candidates that a server cannot read does not make the metric fail."""
    stage.prometheus.refused["count(newer)"] = 400
    run(stage, collector(stage, of("newer", "older")))
    kept = stage.context.bindings.of("a")["fleet:m"]
    assert kept.standing is Standing.NEVER
    assert "newer is refused" in kept.reason


def test_a_restart_uses_what_was_bound(stage: Stage):
    """Kept bindings serve at once, without a question."""
    stage.prometheus.vectors["m"] = lambda _: ONE
    run(stage, collector(stage, of("m")))
    probed(stage)
    run(stage, collector(stage, of("m")), 2)
    assert probed(stage) == []
    assert stage.samples("fleet:m")["x=1"] == [(at * STEP, 1.0) for at in range(3)]


def test_a_better_candidate_is_found_within_a_day_or_so(stage: Stage):
    """What is served is asked about daily, and a better candidate takes over."""
    stage.prometheus.vectors["rough"] = lambda _: ONE
    collecting = collector(stage, of("better", "rough"))
    run(stage, collecting)
    stage.prometheus.vectors["better"] = lambda _: ONE
    stage.clock[0] += 17 * HOUR
    run(stage, collecting)
    assert candidates(stage) == ("rough",)
    stage.clock[0] += 14 * HOUR
    run(stage, collecting)
    assert candidates(stage) == ("better",)


def test_a_union_keeps_what_it_has(stage: Stage):
    """A part of a union that went empty stays bound; a new part joins it."""
    stage.prometheus.vectors["one"] = lambda at: ONE if at == T0 else []
    collecting = collector(stage, union("one", "two"))
    run(stage, collecting)
    stage.prometheus.vectors["two"] = lambda _: [({"x": "2"}, 1.0)]
    run(stage, collecting, 3)
    assert candidates(stage, "fleet:union") == ("one", "two")


@pytest.mark.parametrize(
    ("up", "shown"),
    [
        ([({"cluster": "b"}, 3.0), ({"cluster": "a"}, 1.0)], 'cluster is "a", "b"; set'),
        ([({"cluster": "a"}, 3.0), ({"cluster": "b"}, 1.0), ({}, 9.0)], 'cluster is "a", "b"'),
        ([({"cluster_name": x}, 1.0) for x in ("p", "q")], 'cluster_name is "p", "q"'),
        ([({"cluster": f"<b>{n:02}\n"}, 1.0) for n in range(12)], '"<b>09" and 2 more'),
    ],
)
def test_several_clusters_behind_one_endpoint(stage: Stage, up: Sequence[Row], shown: str):
    """Without a selector nothing is collected from a store of several clusters, and it is said."""
    stage.prometheus.vectors["m"] = lambda _: ONE
    stage.prometheus.up = list(up)
    stage.prometheus.raw[raw_series("up", job="x")] = [(T0, 1.0)]
    collecting = collector(stage, of("m"), raw=[{"match": "up"}])
    outcome = collecting.cycle()
    assert outcome is not None
    assert (outcome.answered, outcome.kind) == (True, "shared_endpoint")
    assert shown in outcome.error
    assert stage.samples("fleet:m") == stage.samples("up") == {}
    stage.prometheus.up = [({"cluster": "a"}, 4.0)]
    stage.clock[0] += 60_000
    run(stage, collecting)
    assert candidates(stage) == ("only",) or candidates(stage) == ("m",)


@pytest.mark.parametrize(
    "up",
    [
        [({"cluster": "a"}, 3.0)],
        [({}, 3.0)],
        [({"cluster_name": "p"}, 1.0), ({"cluster_name": "q"}, 1.0), ({}, 5.0)],
    ],
)
def test_one_cluster_behind_an_endpoint(stage: Stage, up: Sequence[Row]):
    """One value is harmless, and so are labels of exporters that speak of clusters of their own."""
    stage.prometheus.vectors["m"] = lambda _: ONE
    stage.prometheus.up = list(up)
    run(stage, collector(stage, of("m")))
    assert stage.samples("fleet:m") == {"x=1": [(0, 1.0)]}


@pytest.mark.parametrize("kind", ["too_large", "timeout"])
def test_a_batch_that_is_too_much_is_asked_in_halves(stage: Stage, kind: str):
    """Too many bytes or too much work at once fails once; alone, an expression is left out."""
    names = ("m1", "m2", "m3", "m4")
    for name in names:
        stage.prometheus.vectors[name] = lambda _: ONE
    long = "y" * 40_000
    collecting = collector(stage, profile(*names), limits={"response_bytes": "16KiB"})
    run(stage, collecting)
    stage.prometheus.vectors["m3"] = lambda _: [({"x": long}, 1.0)]
    if kind == "timeout":
        stage.prometheus.vectors["m3"] = lambda _: ONE
        stage.prometheus.refused["label_replace(m3"] = 503
    stage.prometheus.error_type = "timeout"
    run(stage, collecting, 2)
    for name in ("m1", "m2", "m4"):
        assert stage.samples(f"fleet:{name}")["x=1"] == [(at * STEP, 1.0) for at in range(3)]
    assert stage.context.health.get("a").quarantined.keys() == {"fleet:m3"}
    assert stage.context.health.get("a").failures == 0
    stage.prometheus.refused.clear()
    stage.prometheus.vectors["m3"] = lambda _: ONE
    stage.clock[0] += 2 * HOUR
    run(stage, collecting)
    assert stage.context.health.get("a").quarantined == {}
    assert len(collecting._requests.batches) == 1


VICTORIA = Response(200, b'{"status":"success","data":{}}', {"X-Server-Hostname": "vm"})


def test_a_server_that_shows_samples_late(stage: Stage):
    """Where samples are hidden at first, instants are asked for later, and that is not late."""
    stage.prometheus.build = VICTORIA
    stage.prometheus.vectors["m"] = lambda at: [({"x": "1"}, (at - T0) / 1000)]
    stage.clock[0] = T0 + 5_000
    collecting = collector(stage, of("m"))
    run(stage, collecting, 4)
    expected = [(at * STEP, at * 15.0) for at in (-1, 0, 1, 2)]
    assert stage.samples("fleet:m") == {"x=1": expected}
    context = stage.context
    health = context.health.get("a")
    assert (health.dialect, health.lag_ms) == ("victoriametrics", 15_000)
    freshness = Freshness(
        stage.registry(), {"fleet:m": "things"}, context.watermarks, context.gaps, context.health
    )
    [cluster] = freshness.registry
    assert freshness.lag_ms(cluster) == 15_000
    [unit] = freshness.units(cluster, T0 + 2 * STEP + 2 * STEP + 14_000)
    assert unit.state is State.OK


def test_exact_names_only(stage: Stage):
    """Google's service is not asked for what it refuses, and a copy without a name says so."""
    stage.prometheus.vectors['{__name__=~"m"}'] = lambda _: ONE
    stage.prometheus.vectors["m"] = lambda _: ONE
    stage.prometheus.raw[raw_series("up", job="x")] = [(T0, 1.0)]
    cluster = stage.cluster(raw=[{"match": '{job="x"}'}, {"match": "up"}])
    settings = cluster.prometheus.model_copy(update={"dialect": DialectName.GMP})
    cluster = replace(cluster, prometheus=settings)
    asked = [
        {"id": "pattern", "quality": "exact", "expr": '{__name__=~"m"}'},
        {"id": "name", "quality": "close", "expr": "m"},
    ]
    collecting = ClusterCollector(cluster, of(candidates=asked), stage.context)
    run(stage, collecting)
    assert candidates(stage) == ("name",)
    assert not any("=~" in query for query in stage.prometheus.queries)
    notes = stage.context.health.get("a").notes
    assert notes['raw:{job="x"}'] == (
        "gmp takes selectors that name one metric only; name it in match"
    )
    assert stage.samples("up") == {"job=x": [(0, 1.0)]}
