"""Groups are evaluated once an instant, when the data is there, and hold what they cannot see."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from aggregator.errors import QueryTimeoutError, StoreError
from aggregator.model.samples import is_stale
from aggregator.rules.groups import RuleGroup
from aggregator.rules.runner import GroupRunner, count_states
from tests.rules.stage import MINUTE, STEP, T0, Stage, registry

RULES = """
groups:
- name: g
  interval: 30s
  rules:
  - record: region:errors:max
    expr: max by (region) (fleet:ingress_error_ratio)
  - alert: Errors
    expr: fleet:ingress_error_ratio > 0.05
    for: 1m
    labels: {severity: critical, where: '{{ $labels.region }}'}
    annotations: {summary: '{{ $labels.cluster }} {{ $value | humanizePercentage }}'}
"""
REGIONAL = """
groups:
- name: g
  rules:
  - {alert: Regional, expr: 'max by (region) (fleet:ingress_error_ratio) > 0.05'}
"""
GO_ON = threading.Event()
ALL_WELL = {"eu-1": 0.0, "eu-2": 0.0, "us-1": 0.0}
EU1_BAD = {"eu-1": 0.5, "eu-2": 0.0, "us-1": 0.0}


@pytest.fixture
def group(stage: Stage, tmp_path: Path) -> RuleGroup:
    """Load a group with both kinds of rules."""
    return stage.group(tmp_path / "fleet.yaml", RULES)


def _step(stage: Stage, runner: GroupRunner, time_ms: int, ratios: dict) -> None:
    """Collect the data of an instant and evaluate right after it."""
    stage.collect(time_ms, ratios)
    stage.now = time_ms + 5_000
    runner.step(GO_ON)


def _fire(stage: Stage, runner: GroupRunner) -> int:
    """Bring eu-1's alert to fire; return the instant."""
    for number in range(3):
        _step(stage, runner, T0 + number * STEP, EU1_BAD)
    assert stage.last() == [("eu-1", "firing")]
    return T0 + 2 * STEP


def test_pending_firing_resolved(stage: Stage, group: RuleGroup) -> None:
    """An alert fires after `for`, is handed over again each time, and then as ended."""
    runner = stage.runner(group)
    _step(stage, runner, T0, EU1_BAD)
    assert stage.last() == []
    assert count_states([runner.report()]) == {"pending": 1, "firing": 0, "held": 0}
    _step(stage, runner, T0 + STEP, EU1_BAD)
    _step(stage, runner, T0 + 2 * STEP, EU1_BAD)
    [alert] = stage.handed[-1]
    assert dict(alert.labels) == {
        "alertname": "Errors", "cluster": "eu-1", "region": "europe",
        "severity": "critical", "where": "europe",
    }  # fmt: skip
    assert alert.annotations == (("summary", "eu-1 50%"),)
    assert (alert.starts_at_ms, alert.ends_at_ms) == (T0 + 2 * STEP, 0)
    _step(stage, runner, T0 + 3 * STEP, ALL_WELL)
    assert stage.last() == [("eu-1", "ended")]
    assert stage.handed[-1][0].ends_at_ms == T0 + 3 * STEP


def test_recorded_series_and_alerts_are_stored(stage: Stage, group: RuleGroup) -> None:
    """Recording rules, ALERTS and ALERTS_FOR_STATE can be queried, and end when they end."""
    runner = stage.runner(group)
    time_ms = _fire(stage, runner)
    assert stage.value("region:errors:max", time_ms) == {
        "__name__=region:errors:max,region=europe": 0.5,
        "__name__=region:errors:max,region=us": 0.0,
    }
    labels = "alertname=Errors,cluster=eu-1,region=europe,severity=critical,where=europe"
    state = "ALERTS,alertname=Errors,alertstate"
    rest = "cluster=eu-1,region=europe,severity=critical,where=europe"
    assert stage.value("ALERTS", T0) == {f"__name__={state}=pending,{rest}": 1.0}
    assert stage.value("ALERTS", time_ms) == {f"__name__={state}=firing,{rest}": 1.0}
    assert stage.value("ALERTS_FOR_STATE", time_ms) == {
        f"__name__=ALERTS_FOR_STATE,{labels}": T0 / 1000
    }
    _step(stage, runner, time_ms + STEP, ALL_WELL)
    assert stage.value("ALERTS", time_ms + STEP) == {}
    assert stage.value("ALERTS_FOR_STATE", time_ms + STEP) == {}


def test_the_stale_marker_keeps_its_bits(stage: Stage, group: RuleGroup) -> None:
    """What `record` is given for a series that ended is the stale marker, not any NaN."""
    written = []
    runner = stage.runner(group)
    _fire(stage, runner)
    runner._tools = replace(
        stage.tools, record=lambda series, _time, values: written.append((list(series), values))
    )
    _step(stage, runner, T0 + 3 * STEP, ALL_WELL)
    names = {
        labels["__name__"]: bool(stale)
        for series, values in written
        for labels, stale in zip(series, is_stale(values), strict=True)
    }
    assert names == {"region:errors:max": False, "ALERTS": True, "ALERTS_FOR_STATE": True}


def test_each_instant_is_evaluated_once(stage: Stage, group: RuleGroup) -> None:
    """A group waits for every ok cluster, evaluates, and does nothing until the next instant."""
    runner = stage.runner(group)
    stage.collect(T0 - STEP, ALL_WELL)
    stage.now = T0 + 1_000
    runner.step(GO_ON)
    assert runner.report().time_ms == 0
    stage.collect(T0, {"eu-1": 0.0, "eu-2": 0.0})
    runner.step(GO_ON)
    assert runner.report().time_ms == 0
    stage.collect(T0, {"us-1": 0.0})
    runner.step(GO_ON)
    assert (runner.report().time_ms, runner.report().missing) == (T0, ())
    handed = len(stage.handed)
    runner.step(GO_ON)
    assert len(stage.handed) == handed


def test_a_late_cluster_is_waited_for_no_longer_than_an_interval(
    stage: Stage, group: RuleGroup
) -> None:
    """One interval and the lag after T the group is evaluated, the late cluster being missing."""
    runner = stage.runner(group)
    stage.collect(T0 - STEP, ALL_WELL)
    stage.collect(T0, {"eu-1": 0.0, "eu-2": 0.0})
    stage.now = T0 + STEP + 4_999
    runner.step(GO_ON)
    assert runner.report().time_ms == 0
    stage.now += 1
    runner.step(GO_ON)
    report = runner.report()
    assert (report.time_ms, report.evaluated_ms, report.missing) == (T0, stage.now, ("us-1",))


def _without(stage: Stage, runner: GroupRunner, time_ms: int, ratios: dict) -> None:
    """Evaluate an instant for which only some clusters have data, at the latest moment."""
    stage.collect(time_ms, ratios)
    stage.now = time_ms + STEP + 5_000
    runner.step(GO_ON)


def test_a_silent_cluster_holds_its_alert(stage: Stage, group: RuleGroup) -> None:
    """Data that stops coming resolves nothing, for hours; when it is back it decides."""
    runner = stage.runner(group)
    time_ms = _fire(stage, runner)
    others = {"eu-2": 0.0, "us-1": 0.0}
    for number in range(1, 400):
        _without(stage, runner, time_ms + number * STEP, others)
    assert stage.last() == [("eu-1", "held")]
    [alert] = stage.handed[-1]
    assert dict(alert.annotations)["held"] == "no data from eu-1"
    assert count_states([runner.report()])["held"] == 1
    assert stage.value("count(ALERTS)", time_ms + 399 * STEP) == {"": 1.0}
    _step(stage, runner, time_ms + 400 * STEP, ALL_WELL)
    assert stage.last() == [("eu-1", "ended")]


def test_a_cluster_without_that_series_resolves(stage: Stage, group: RuleGroup) -> None:
    """A cluster whose data is there, but not this series of it, has no alert."""
    runner = stage.runner(group)
    time_ms = _fire(stage, runner)
    for number in range(1, 12):
        _step(stage, runner, time_ms + number * STEP, ALL_WELL | {"eu-1": None})
    assert stage.last() == [("eu-1", "ended")]


def test_leaving_the_registry_ends_a_held_alert(stage: Stage, group: RuleGroup) -> None:
    """An alert of a cluster that is taken out of the configuration ends with that reason."""
    runner = stage.runner(group)
    time_ms = _fire(stage, runner)
    others = {"eu-2": 0.0, "us-1": 0.0}
    for number in range(1, 15):
        _without(stage, runner, time_ms + number * STEP, others)
    assert stage.last() == [("eu-1", "held")]
    stage.freshness.apply(registry(("eu-2", "us-1")))
    _without(stage, runner, time_ms + 15 * STEP, others)
    assert stage.last() == [("eu-1", "ended")]
    ended = dict(stage.handed[-1][0].annotations)["ended"]
    assert ended == "cluster eu-1 is not registered"


def test_maintenance_ends_a_held_alert(stage: Stage, group: RuleGroup) -> None:
    """An alert of a cluster whose maintenance begins ends with that reason."""
    runner = stage.runner(group)
    time_ms = _fire(stage, runner)
    others = {"eu-2": 0.0, "us-1": 0.0}
    for number in range(1, 15):
        _without(stage, runner, time_ms + number * STEP, others)
    window = {"from": "2023-11-14T00:00:00Z", "to": "2023-11-16T00:00:00Z"}
    stage.freshness.apply(registry(changes={"eu-1": {"maintenance": window}}))
    _without(stage, runner, time_ms + 15 * STEP, others)
    assert dict(stage.handed[-1][0].annotations)["ended"] == "cluster eu-1 is in maintenance"


def test_an_alert_over_clusters_is_held_for_a_while(stage: Stage, tmp_path: Path) -> None:
    """A region's alert is held until data was missing for `hold`, then decided without it."""
    runner = stage.runner(stage.group(tmp_path / "fleet.yaml", REGIONAL))
    time_ms = _fire_region(stage, runner)
    others = {"eu-2": 0.0, "us-1": 0.0}
    number = 0
    while stage.last() != [("europe", "ended")]:
        number += 1
        assert number < 1_000
        _without(stage, runner, time_ms + number * STEP, others)
    assert time_ms + number * STEP - time_ms == 60 * MINUTE + STEP
    _without(stage, runner, time_ms + (number + 1) * STEP, {"eu-2": 0.9, "us-1": 0.0})
    [alert] = stage.handed[-1]
    assert dict(alert.annotations)["missing_clusters"] == "eu-1"


def _fire_region(stage: Stage, runner: GroupRunner) -> int:
    _step(stage, runner, T0, EU1_BAD)
    assert stage.last() == [("europe", "firing")]
    return T0


def test_another_regions_silence_holds_nothing(stage: Stage, tmp_path: Path) -> None:
    """A region's alert does not wait for clusters of other regions."""
    runner = stage.runner(stage.group(tmp_path / "fleet.yaml", REGIONAL))
    time_ms = _fire_region(stage, runner)
    _without(stage, runner, time_ms + STEP, {"eu-1": 0.0, "eu-2": 0.0})
    assert stage.last() == [("europe", "ended")]


@pytest.mark.parametrize("error", [QueryTimeoutError("too slow"), StoreError("disk")])
def test_a_failed_evaluation_resolves_nothing(
    stage: Stage, group: RuleGroup, error: Exception
) -> None:
    """A rule that cannot be evaluated holds its alerts and says why."""
    runner = stage.runner(group)
    time_ms = _fire(stage, runner)
    stage.failing = error
    _step(stage, runner, time_ms + STEP, ALL_WELL)
    assert stage.last() == [("eu-1", "held")]
    assert [report.error for report in runner.report().rules] == [str(error)] * 2
    stage.failing = None
    _step(stage, runner, time_ms + 2 * STEP, ALL_WELL)
    assert stage.last() == [("eu-1", "ended")]
    assert [report.error for report in runner.report().rules] == ["", ""]


def test_a_failing_rule_does_not_stop_the_others(stage: Stage, tmp_path: Path) -> None:
    """A rule above its limit, or with doubled labels, fails alone."""
    text = """
groups:
- name: g
  limit: 2
  rules:
  - {alert: TooMany, expr: 'fleet:ingress_error_ratio >= 0'}
  - {record: doubled, expr: 'fleet:ingress_error_ratio', labels: {cluster: x, region: y}}
  - {alert: Fine, expr: 'fleet:ingress_error_ratio > 0.1'}
"""
    runner = stage.runner(stage.group(tmp_path / "fleet.yaml", text))
    _step(stage, runner, T0, EU1_BAD)
    many, doubled, fine = runner.report().rules
    assert "gives 3 series, its limit is 2" in many.error
    assert "gives 3 series, its limit is 2" in doubled.error
    assert (fine.error, len(fine.alerts)) == ("", 1)


def test_doubled_labels_are_an_error(stage: Stage, tmp_path: Path) -> None:
    """Two series that a rule's labels make equal are refused, not merged."""
    text = """
groups:
- name: g
  rules:
  - {record: doubled, expr: 'fleet:ingress_error_ratio', labels: {cluster: x, region: y}}
  - {alert: Doubled, expr: 'fleet:ingress_error_ratio', labels: {cluster: x, region: y}}
"""
    runner = stage.runner(stage.group(tmp_path / "fleet.yaml", text))
    _step(stage, runner, T0, ALL_WELL)
    assert ["same labels" in report.error for report in runner.report().rules] == [True, True]


def test_a_restart_keeps_pending_firing_and_held(stage: Stage, group: RuleGroup) -> None:
    """`for` goes on counting, a firing alert is not fired anew, and a held one stays held."""
    runner = stage.runner(group)
    _step(stage, runner, T0, EU1_BAD)
    _step(stage, runner, T0 + STEP, EU1_BAD)
    runner = stage.runner(group)
    _step(stage, runner, T0 + 2 * STEP, EU1_BAD)
    assert stage.handed[-1][0].starts_at_ms == T0 + 2 * STEP
    others = {"eu-2": 0.0, "us-1": 0.0}
    for number in range(3, 15):
        _without(stage, runner, T0 + number * STEP, others)
    assert stage.last() == [("eu-1", "held")]
    runner = stage.runner(group)
    _without(stage, runner, T0 + 15 * STEP, others)
    assert stage.last() == [("eu-1", "held")]
    assert stage.handed[-1][0].starts_at_ms == T0 + 2 * STEP


def test_instants_far_back_are_missed(stage: Stage, group: RuleGroup) -> None:
    """A group that was held up evaluates the last instants and gives up older ones."""
    runner = stage.runner(group)
    _step(stage, runner, T0, ALL_WELL)
    stage.now = T0 + 100 * STEP
    stage.collect(T0 + 100 * STEP, ALL_WELL)
    handed = len(stage.handed)
    runner.step(GO_ON)
    assert runner.report().time_ms == T0 + 100 * STEP
    assert len(stage.handed) - handed == 4


def test_a_clock_that_is_set_back_stops_no_rule(stage: Stage, group: RuleGroup) -> None:
    """After the clock went back by an hour the group is evaluated at the next instant."""
    runner = stage.runner(group)
    _step(stage, runner, T0 + 100 * STEP, ALL_WELL)
    _step(stage, runner, T0 + 5 * STEP, ALL_WELL)
    assert runner.report().time_ms == T0 + 5 * STEP


CHAIN = """
groups:
- name: chain
  rules:
  - {record: 'first', expr: 'max(fleet:ingress_error_ratio)'}
  - {record: 'other', expr: 'min(fleet:ingress_error_ratio)'}
  - {record: 'second', expr: 'first * 2'}
  - {alert: Chained, expr: 'second > 0.5'}
  - {alert: Chained, expr: '{__name__="ALERTS", alertname="Chained"}'}
"""


def _late(stage: Stage, waiting: list) -> Stage:
    """Let *stage* keep what rules record in *waiting* until it is settled."""
    record = stage.record

    def settle() -> None:
        for each in waiting:
            record(*each)
        waiting.clear()

    stage.tools = replace(stage.tools, record=lambda *each: waiting.append(each), settle=settle)
    return stage


def test_a_rule_sees_what_its_group_recorded_at_the_same_instant(
    stage: Stage, tmp_path: Path
) -> None:
    """Also where the store takes samples later; only rules that may read them wait for that."""
    waiting: list = []
    runner = _late(stage, waiting).runner(stage.group(tmp_path / "fleet.yaml", CHAIN))
    _step(stage, runner, T0, EU1_BAD)
    reports = runner.report().rules
    assert [len(report.alerts) for report in reports] == [0, 0, 0, 1, 1]
    assert stage.value("first", T0) == {"__name__=first": 0.5}
    assert stage.value("second", T0) == {"__name__=second": 1.0}
    assert waiting  # what nobody of the group reads is left to its time


def test_alerts_are_held_when_what_they_read_cannot_be_stored(stage: Stage, tmp_path: Path) -> None:
    """They neither end nor go on."""
    runner = stage.runner(stage.group(tmp_path / "fleet.yaml", CHAIN))
    _step(stage, runner, T0, EU1_BAD)

    def refuse() -> None:
        raise StoreError("the store is behind")

    runner._tools = replace(stage.tools, settle=refuse)
    _step(stage, runner, T0 + STEP, ALL_WELL)
    report = runner.report().rules[3]
    assert report.error == "the store is behind"
    assert [alert.reason for alert in report.alerts] == ["evaluation failed: the store is behind"]
