"""Fleet metrics: values on the grid, markers where series end, watermarks after storing."""

import pytest

from aggregator.collect.cycle import ClusterCollector
from aggregator.state.watermarks import Watermark
from tests.collect.stage import T0, Response, Row, Stage, profile, union

STEP = 15_000


def collector(stage: Stage, *exprs: str, **collect: object) -> ClusterCollector:
    """Return a collector of `fleet:<expr>` metrics."""
    return ClusterCollector(stage.cluster(**collect), profile(*exprs), stage.context)


def run(stage: Stage, collecting: ClusterCollector, cycles: int = 1) -> None:
    """Run cycles, one interval apart."""
    for _ in range(cycles):
        collecting.cycle()
        stage.clock[0] += STEP


def test_values_are_stored_on_the_grid(stage: Stage):
    """A value is stored at T = floor(now - lag, interval), whenever the cycle runs."""
    stage.prometheus.vectors["m"] = lambda at: [({"x": "1"}, (at - T0) / 1000)]
    stage.clock[0] += 7_123
    run(stage, collector(stage, "m"), 3)
    assert stage.samples("fleet:m") == {"x=1": [(0, 0.0), (STEP, 15.0), (2 * STEP, 30.0)]}


def test_an_instant_is_collected_once(stage: Stage):
    """A second cycle within the same interval asks nothing."""
    stage.prometheus.vectors["m"] = lambda _: [({"x": "1"}, 1.0)]
    collecting = collector(stage, "m")
    assert collecting.cycle() is not None
    asked = len(stage.prometheus.queries)
    stage.clock[0] += 5_000
    assert collecting.cycle() is None
    assert len(stage.prometheus.queries) == asked


def test_clock_set_back(stage: Stage):
    """A small step back is waited for; after a large one collection goes on at once."""
    stage.prometheus.vectors["m"] = lambda at: [({"x": "1"}, (at - T0) / 1000)]
    collecting = collector(stage, "m")
    run(stage, collecting, 4)
    stage.clock[0] -= 60_000
    assert collecting.cycle() is None
    stage.clock[0] -= 540_000
    run(stage, collecting, 2)
    assert stage.samples("fleet:m")["x=1"][:2] == [(-540_000, -540.0), (-525_000, -525.0)]


def test_retired_series_end_behind_their_samples(stage: Stage):
    """What was answered last ends, above the limit of series as well, though nothing was asked."""
    stage.prometheus.vectors["m"] = lambda _: [({"x": str(n)}, 1.0) for n in range(3)]
    collecting = collector(stage, "m", limits={"series": 2})
    collecting.cycle()
    collecting.close()
    collecting.retire()
    assert stage.samples("fleet:m") == {f"x={n}": [(0, 1.0), (1, "stale")] for n in range(2)}


def test_a_series_that_vanishes_gets_a_marker(stage: Stage):
    """What the last complete answer had and this one has not ends at T, and may come back."""

    def rows(at: int) -> list[Row]:
        return [({"x": x}, 1.0) for x in "ab" if x == "a" or at != T0 + STEP]

    stage.prometheus.vectors["m"] = rows
    run(stage, collector(stage, "m"), 3)
    assert stage.samples("fleet:m") == {
        "x=a": [(0, 1.0), (STEP, 1.0), (2 * STEP, 1.0)],
        "x=b": [(0, 1.0), (STEP, "stale"), (2 * STEP, 1.0)],
    }


def test_all_series_vanish(stage: Stage):
    """A complete empty answer ends everything, once."""
    stage.prometheus.vectors["m"] = lambda at: [({"x": "1"}, 1.0)] if at == T0 else []
    run(stage, collector(stage, "m"), 3)
    assert stage.samples("fleet:m") == {"x=1": [(0, 1.0), (STEP, "stale")]}
    mark = stage.context.watermarks.get("a", "fleet:things")
    assert mark == Watermark(T0 + 2 * STEP, T0, T0)


@pytest.mark.parametrize(
    "trouble",
    [
        {"fail": Response(500, b"down")},
        {"fail": Response(200, b"<html>login</html>", content_type="text/html")},
        {"fail": Response(200, b'{"status":"succ')},
        {"fail": Response(401, b"who are you")},
        {"warnings": ["store gateway away"]},
    ],
)
def test_failed_and_partial_answers_end_nothing(stage: Stage, trouble: dict[str, object]):
    """No stale marker and no watermark comes from an answer that may lack series."""
    fake = stage.prometheus
    fake.vectors["m"] = lambda _: [({"x": "1"}, 1.0)]
    collecting = collector(stage, "m")
    run(stage, collecting)
    fake.vectors["m"] = lambda _: []
    for name, value in trouble.items():
        setattr(fake, name, value)
    run(stage, collecting)
    fake.fail, fake.warnings = None, []
    assert stage.samples("fleet:m") == {"x=1": [(0, 1.0)]}
    assert stage.context.watermarks.get("a", "fleet:things") == Watermark(T0, T0, T0)
    run(stage, collecting)
    assert stage.samples("fleet:m") == {"x=1": [(0, 1.0), (2 * STEP, "stale")]}


def test_partial_values_are_stored_and_said(stage: Stage):
    """The series of a partial answer are stored; the cluster's view says that it was partial."""
    stage.prometheus.vectors["m"] = lambda _: [({"x": "1"}, 1.0)]
    stage.prometheus.warnings = ["store gateway away"]
    outcome = collector(stage, "m").cycle()
    assert stage.samples("fleet:m") == {"x=1": [(0, 1.0)]}
    assert outcome is not None
    assert (outcome.answered, outcome.kind) == (True, "partial")
    assert "store gateway away" in stage.context.health.get("a").notes["fleet:things"]


def test_annotations_are_not_partial_answers(stage: Stage):
    """What Prometheus remarks about a query itself does not make its answer partial."""
    stage.prometheus.vectors["m"] = lambda _: [({"x": "1"}, 1.0)]
    stage.prometheus.warnings = ["PromQL warning: encountered a mix"]
    outcome = collector(stage, "m").cycle()
    assert outcome is not None
    assert outcome.kind == ""


def test_nothing_moves_while_the_store_is_behind(stage: Stage):
    """What the writer does not take moves no watermark, and markers come once it does."""
    stage.prometheus.vectors["m"] = lambda at: [({"x": "1"}, 1.0)] if at == T0 else []
    collecting = collector(stage, "m")
    run(stage, collecting)
    stage.accepting[0] = False
    run(stage, collecting)
    assert stage.context.watermarks.get("a", "fleet:things") == Watermark(T0, T0, T0)
    assert stage.context.health.get("a").failures == 0
    stage.accepting[0] = True
    run(stage, collecting)
    assert stage.samples("fleet:m") == {"x=1": [(0, 1.0), (2 * STEP, "stale")]}


@pytest.mark.parametrize("status", [400, 422])
def test_a_refused_expression_is_quarantined(stage: Stage, status: int):
    """The expression that makes a batch fail is left out for a while, shown, and ends none."""
    fake = stage.prometheus
    for name in ("ok1", "bad", "ok2"):
        fake.vectors[name] = lambda _: [({"x": "1"}, 1.0)]
    collecting = collector(stage, "ok1", "bad", "ok2")
    run(stage, collecting)
    fake.refused["bad"] = status
    run(stage, collecting, 2)
    assert stage.samples("fleet:bad") == {"x=1": [(0, 1.0)]}
    for name in ("fleet:ok1", "fleet:ok2"):
        assert stage.samples(name) == {"x=1": [(0, 1.0), (STEP, 1.0), (2 * STEP, 1.0)]}
    assert "no bad" in stage.context.health.get("a").quarantined["fleet:bad"]
    assert stage.context.health.get("a").failures == 0
    del fake.refused["bad"]
    stage.clock[0] += 600_000
    run(stage, collecting)
    assert len(stage.samples("fleet:bad")["x=1"]) == 2
    assert stage.context.health.get("a").quarantined == {}


def test_a_union_without_one_of_its_parts_ends_nothing(stage: Stage):
    """While one candidate of a union is in quarantine, its series are unknown, not gone."""
    fake = stage.prometheus
    for name in ("one", "two"):
        fake.vectors[name] = lambda _, x=name: [({"x": x}, 1.0)]
    collecting = ClusterCollector(stage.cluster(), union("one", "two"), stage.context)
    run(stage, collecting)
    fake.refused["two"] = 422
    run(stage, collecting, 2)
    assert stage.samples("fleet:union") == {
        "x=one": [(0, 1.0), (STEP, 1.0), (2 * STEP, 1.0)],
        "x=two": [(0, 1.0)],
    }
    del fake.refused["two"]
    del fake.vectors["two"]
    stage.clock[0] += 600_000
    run(stage, collecting)
    assert stage.samples("fleet:union")["x=two"][-1][1] == "stale"


def test_a_batch_that_is_too_much_at_once_gets_smaller(stage: Stage):
    """If the server refuses the whole but none of its parts, the parts are asked one by one."""
    names = ("a", "b", "c")
    for name in names:
        stage.prometheus.vectors[name] = lambda _: [({"x": "1"}, 1.0)]
    collecting = collector(stage, *names)
    run(stage, collecting)
    stage.prometheus.refused[") or label_replace("] = 422
    run(stage, collecting, 2)
    assert stage.context.health.get("a").quarantined == {}
    for name in names:
        assert len(stage.samples(f"fleet:{name}")["x=1"]) == 3


def test_what_vanishes_during_a_restart_ends(stage: Stage):
    """A series that went between the last instant of one process and the next one's first ends."""
    stage.prometheus.vectors["m"] = lambda at: [
        ({"x": x}, 1.0) for x in "ab" if x == "a" or at <= T0
    ]
    first = collector(stage, "m")
    run(stage, first)
    while first.read_history():
        pass
    again = collector(stage, "m")
    run(stage, again)
    while again.read_history():
        pass
    assert stage.samples("fleet:m")["x=b"][-2:] == [(0, 1.0), (STEP, "stale")]


def test_a_server_that_refuses_everything_quarantines_nothing(stage: Stage):
    """If even the simplest query is refused it is the server, not an expression."""
    fake = stage.prometheus
    fake.vectors["m"] = lambda _: [({"x": "1"}, 1.0)]
    collecting = collector(stage, "m")
    run(stage, collecting)
    fake.refused[""] = 400
    outcome = collecting.cycle()
    assert outcome is not None
    assert (outcome.answered, outcome.kind) == (False, "bad_request")
    assert stage.context.health.get("a").quarantined == {}


def test_limit_of_series(stage: Stage):
    """Above the limit those are kept that were there before; the rest is counted, none ends."""
    counts = {T0: 3, T0 + STEP: 5, T0 + 2 * STEP: 2}
    stage.prometheus.vectors["m"] = lambda at: [
        ({"x": str(9 - n)}, 1.0) for n in range(counts.get(at, 0))
    ]
    collecting = collector(stage, "m", limits={"series": 3})
    run(stage, collecting, 2)
    assert stage.samples("fleet:m") == {f"x={n}": [(0, 1.0), (STEP, 1.0)] for n in (7, 8, 9)}
    assert stage.context.health.get("a").rejected["series_limit"] == 2
    assert "2 series above the limit" in stage.context.health.get("a").notes["fleet:things"]
    run(stage, collecting)
    assert stage.samples("fleet:m")["x=7"][-1] == (2 * STEP, "stale")
    assert stage.samples("fleet:m")["x=9"][-1] == (2 * STEP, 1.0)


def test_nan_is_a_value(stage: Stage):
    """NaN and infinities from the source are kept."""
    values = {"1": float("nan"), "2": float("inf"), "3": float("-inf")}
    stage.prometheus.vectors["m"] = lambda _: [({"x": x}, v) for x, v in values.items()]
    run(stage, collector(stage, "m"))
    found = stage.samples("fleet:m")
    assert [str(found[f"x={x}"][-1][1]) for x in "123"] == ["nan", "inf", "-inf"]


def test_bindings_are_kept_over_a_restart(stage: Stage):
    """A new process collects at once what was bound, without asking what there is."""
    stage.prometheus.vectors["m"] = lambda _: [({"x": "1"}, 1.0)]
    run(stage, collector(stage, "m"))
    stage.prometheus.queries.clear()
    run(stage, collector(stage, "m"))
    assert not [query for query in stage.prometheus.queries if "count(" in query]


def test_what_has_no_data_yet_is_asked_for_again(stage: Stage):
    """A metric without data is bound once it has some, after growing waits."""
    stage.prometheus.vectors["m"] = lambda at: [({"x": "1"}, 1.0)] if at >= T0 + 45_000 else []
    collecting = collector(stage, "m")
    run(stage, collecting, 8)
    assert stage.context.bindings.of("a")["fleet:m"].candidates == ("only",)
    assert stage.samples("fleet:m")["x=1"]


def test_a_missed_stretch_is_a_gap(stage: Stage):
    """Instants that were not collected are in the ledger, with why."""
    fake = stage.prometheus
    fake.vectors["m"] = lambda _: [({"x": "1"}, 1.0)]
    collecting = collector(stage, "m")
    run(stage, collecting)
    fake.fail = Response(503, b"")
    outcome = collecting.cycle()
    assert outcome is not None
    stage.context.health.ended("a", outcome, None)
    stage.clock[0] += 4 * STEP
    fake.fail = None
    run(stage, collecting)
    [gap] = stage.context.gaps.open("a")
    assert (gap.subject, gap.start_ms, gap.end_ms) == ("fleet:things", T0, T0 + 4 * STEP)
    assert "did not answer" in gap.reason


def test_a_refused_probe_says_why(stage: Stage):
    """A metric whose expression the server refuses is not bound; the others are."""
    stage.prometheus.vectors["m"] = lambda _: [({"x": "1"}, 1.0)]
    stage.prometheus.refused["bad"] = 422
    run(stage, collector(stage, "m", "bad"))
    bindings = stage.context.bindings.of("a")
    assert bindings["fleet:m"].candidates == ("only",)
    assert bindings["fleet:bad"].candidates == ()
    assert "no bad" in bindings["fleet:bad"].reason


def test_empty_cluster_answers(stage: Stage):
    """A cluster without any data is asked something cheap, and answers."""
    collecting = collector(stage, "m")
    run(stage, collecting)
    outcome = collecting.cycle()
    assert outcome is not None
    assert outcome.answered
    assert stage.prometheus.queries[-1] == "vector(1)"
