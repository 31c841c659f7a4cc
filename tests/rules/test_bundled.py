"""The rules that come with the aggregator fire when they should, and stop when they should."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from aggregator.model.labels import METRIC_NAME
from aggregator.profile.load import load_profile
from aggregator.promql.parse import parse
from aggregator.promql.plan import VectorSelector, children
from aggregator.rules.groups import AlertingRule, RecordingRule, load_groups
from aggregator.rules.settings import RulesSettings
from tests.rules.stage import REGIONS, STEP, T0, Stage

GROUPS = load_groups(RulesSettings().paths(Path()), RulesSettings())
SHOP = {"namespace": "shop", "service": "checkout"}


def _fleet(bad: str) -> list[tuple[Mapping[str, str], float]]:
    """Return one instant of the fleet, in which only the cluster *bad* is in trouble."""
    rows: list[tuple[Mapping[str, str], float]] = []
    for cluster, region in REGIONS.items():
        ill = cluster == bad

        def add(
            metric: str, value: float, place: tuple[str, str] = (cluster, region), **labels: str
        ) -> None:
            named = {METRIC_NAME: f"fleet:{metric}", "cluster": place[0], "region": place[1]}
            rows.append((named | labels, value))

        add("cluster_cpu_utilisation_ratio", 0.95 if ill else 0.4)
        add("ingress_requests_per_second", 90.0, **SHOP, code_class="2xx")
        add("ingress_requests_per_second", 10.0 if ill else 0.1, **SHOP, code_class="5xx")
        latency = {"quantile": "0.95", "point": "upstream"}
        add("ingress_latency_seconds", 2.5 if ill else 0.1, **SHOP, **latency)
        add("namespace_container_restarts", 9.0 if ill else 0.0, namespace="shop")
        for node in ("a", "b", "c"):
            add("node_ready", 0.0 if ill and node == "a" else 1.0, node=node)
            add("node_memory_utilisation_ratio", 0.99 if ill else 0.5, node=node)
    return rows


def _names(kind: type) -> set[str]:
    rules = [rule for group in GROUPS for rule in group.rules if isinstance(rule, kind)]
    return {rule.alert if isinstance(rule, AlertingRule) else rule.record for rule in rules}


def test_every_alert_fires_for_the_ill_cluster_alone(stage: Stage) -> None:
    """After half an hour every alert fires, for the cluster that is ill; after another none."""
    runners = [stage.runner(group) for group in GROUPS]
    for number in range(160):
        stage.now = T0 + number * STEP
        series, values = zip(*_fleet("eu-1" if number < 60 else ""), strict=True)
        stage.record(series, stage.now, np.array(values))
        stage.collect(stage.now, {})
        for runner in runners:
            runner._evaluate(stage.now, stage.now)
        if number == 59:
            firing = {alert.labels: alert for each in stage.handed[-20:] for alert in each}
            alerts = [dict(labels) for labels in firing]
            assert {alert["alertname"] for alert in alerts} == _names(AlertingRule)
            assert {alert["cluster"] for alert in alerts} == {"eu-1"}
            assert {alert["region"] for alert in alerts} == {"europe"}
            for alert in firing.values():
                notes = dict(alert.annotations)
                assert set(notes) == {"summary", "description", "runbook"}
                assert "eu-1" in notes["summary"]
    assert stage.value("ALERTS", stage.now) == {}
    assert [report.error for runner in runners for report in runner.report().rules] == [""] * sum(
        len(group.rules) for group in GROUPS
    )
    assert stage.value("region:fleet_ingress_requests_per_second:sum", stage.now) == {
        "__name__=region:fleet_ingress_requests_per_second:sum,region=europe": pytest.approx(180.2),
        "__name__=region:fleet_ingress_requests_per_second:sum,region=us": pytest.approx(90.1),
    }


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_rules_read_what_there_is_and_say_what_to_do(group) -> None:
    """A rule reads fleet metrics of the profile; an alert has severity and three texts."""
    known = {metric.name for metric in load_profile(("kubernetes",)).metrics}
    known |= _names(RecordingRule)
    for rule in group.rules:
        nodes = [parse(rule.expr)]
        while nodes:
            node = nodes.pop()
            nodes += children(node)
            if isinstance(node, VectorSelector):
                names = {each.value for each in node.matchers if each.name == METRIC_NAME}
                assert names <= known
        if isinstance(rule, AlertingRule):
            assert rule.alert.startswith("Fleet")
            assert [name for name, _ in rule.labels] == ["severity"]
            assert rule.labels[0][1].text in ("critical", "warning", "info")
            assert [name for name, _ in rule.annotations] == ["summary", "description", "runbook"]
