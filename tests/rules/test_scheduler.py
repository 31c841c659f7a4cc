"""All groups run, each in its own thread, and alerts of removed rules end."""

from pathlib import Path

from aggregator import telemetry
from aggregator.rules.groups import load_groups
from aggregator.rules.scheduler import RuleScheduler
from aggregator.rules.settings import RulesSettings
from tests.rules.stage import T0, Stage
from tests.servers import wait_until

RULES = """
groups:
- name: sound
  rules:
  - {alert: Errors, expr: 'fleet:ingress_error_ratio > 0.05'}
- name: broken
  rules:
  - {alert: TooMany, expr: 'label_replace(fleet:node_ready, "a", "b", "", "") > bool 2 > 9'}
"""
SOON = 15.0


def test_groups_run_and_removed_rules_end(stage: Stage, tmp_path: Path) -> None:
    """A started scheduler evaluates what is due; after a rule is gone its alert ends."""
    file = tmp_path / "fleet.yaml"
    file.write_text(RULES)
    groups = load_groups([file], RulesSettings())
    stage.collect(T0, {"eu-1": 0.5, "eu-2": 0.0, "us-1": 0.0})
    scheduler = RuleScheduler(groups, stage.tools)
    scheduler.start()
    try:
        wait_until(
            lambda: all(report.time_ms == T0 for report in scheduler.reports()), SOON, "evaluation"
        )
    finally:
        assert scheduler.stop()
    assert [alert.fingerprint for each in stage.handed for alert in each] != []
    assert b'aggregator_alerts{state="firing"} 1.0' in telemetry.render()
    stage.handed.clear()
    renamed = RULES.replace("Errors", "Renamed")
    file.write_text(renamed)
    scheduler = RuleScheduler(load_groups([file], RulesSettings()), stage.tools)
    scheduler.start()
    try:
        wait_until(lambda: stage.handed, SOON, "the end of the removed rule's alert")
    finally:
        assert scheduler.stop()
    [ended] = stage.handed[0]
    assert (ended.resolved, dict(ended.annotations)) == (True, {"ended": "the rule was removed"})
