"""Rule files are read in Prometheus's format, and what is wrong is named with file and line."""

import shutil
import subprocess
from pathlib import Path

import pytest

from aggregator.bundled import bundled_files
from aggregator.errors import ConfigError
from aggregator.rules.groups import AlertingRule, RecordingRule, load_groups, rule_keys
from aggregator.rules.settings import RulesSettings
from tests.servers import binary

GOOD = """
groups:
  - name: ingress
    interval: 1m
    limit: 5
    rules:
      - record: region:fleet_ingress_requests_per_second:sum
        expr: sum by (region) (fleet:ingress_requests_per_second)
        labels: {source: fleet}
      - alert: FleetIngressErrors
        expr: fleet:ingress_error_ratio > 0.05
        for: 5m
        keep_firing_for: 1m30s
        labels: {severity: critical}
        annotations:
          summary: '{{ $labels.cluster }}: {{ $value | humanizePercentage }}'
  - name: empty
    rules: []
"""


def _load(path: Path, text: str, name: str = "fleet.yaml"):
    file = path / name
    file.write_text(text)
    return load_groups([file], RulesSettings())


def test_a_file_becomes_groups(tmp_path: Path) -> None:
    """Intervals, limits, durations, labels and templates arrive as written; defaults fill in."""
    ingress, empty = _load(tmp_path, GOOD)
    record, alert = ingress.rules
    assert (ingress.key, ingress.interval_ms, ingress.limit) == ("fleet.yaml:ingress", 60_000, 5)
    assert (empty.interval_ms, empty.limit, empty.rules) == (30_000, 10_000, ())
    assert isinstance(record, RecordingRule)
    assert record.labels == (("source", "fleet"),)
    assert isinstance(alert, AlertingRule)
    assert (alert.timing.for_ms, alert.timing.keep_firing_for_ms) == (300_000, 90_000)
    assert alert.line == 10
    [(name, summary)] = alert.annotations
    assert (name, summary.render({"cluster": "eu-1"}, 0.5)) == ("summary", "eu-1: 50%")


def _rule(text: str) -> str:
    return f"groups:\n- name: g\n  rules:\n  - {text}\n"


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("groupz: []", "fleet.yaml:1: groupz", "not permitted"),
        ("groups: [{rules: []}]", "fleet.yaml:1: groups[0].name", "required"),
        ("groups:\n- {name: a, rules: []}\n- {name: a, rules: []}", "fleet.yaml:3", "called a"),
        ("groups: [{name: a, query_offset: 1m, rules: []}]", "query_offset", "not permitted"),
        ("groups: [{name: a, interval: 500ms, rules: []}]", "interval", "greater than"),
        (_rule("{alert: A, record: a, expr: up}"), "fleet.yaml:4", "exactly one"),
        (_rule("{expr: up}"), "fleet.yaml:4", "exactly one"),
        (_rule("{record: a, expr: up, for: 5m}"), "fleet.yaml:4", "belong to alerts"),
        (_rule("{alert: A, expr: up, for: 5}"), "for", "with its unit"),
        (_rule("{alert: A, expr: up, for: soon}"), "for", "is not a duration"),
        (_rule("{alert: A, expr: up, fore: 5m}"), "fleet.yaml:4: groups[0].rules[0].fore", "not"),
        (_rule("{alert: A, expr: 'sum by (cluster up'}"), "rules[0].expr", "1:"),
        (_rule("{alert: A, expr: 'up[5m]'}"), "rules[0].expr", "range vector"),
        (_rule("{alert: A, expr: up, labels: {a-b: x}}"), "labels.a-b", "may set"),
        (_rule("{alert: A, expr: up, labels: {alertname: x}}"), "alertname", "may set"),
        (_rule("{alert: A, expr: up, labels: {s: '{{ if }}'}}"), "labels.s", "if"),
        (_rule("{alert: A, expr: up, annotations: {s: '{{ query }}'}}"), "annotations.s", "query"),
        (_rule("{record: a-b, expr: up}"), "record", "not a metric name"),
        (_rule("{record: ALERTS, expr: up}"), "record", "reserved"),
        (_rule("{record: 'fleet:x', expr: up}"), "record", "reserved"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, place: str, says: str) -> None:
    """Every mistake is an error with the file, the place in it, and what is wrong."""
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    assert place in str(caught.value)
    assert says in str(caught.value)


def test_a_group_is_unique_over_files(tmp_path: Path) -> None:
    """Two files of one name cannot hold groups of one name: their alerts' state would mix."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    files = [tmp_path / "a" / "x.yaml", tmp_path / "b" / "x.yaml"]
    for file in files:
        file.write_text("groups: [{name: g, rules: []}]")
    with pytest.raises(ConfigError, match="rename one"):
        load_groups(files, RulesSettings())


def test_namesakes_have_keys_of_their_own(tmp_path: Path) -> None:
    """Two rules of one name in a group keep separate state."""
    [group] = _load(
        tmp_path,
        "groups:\n- name: g\n  rules:\n"
        "  - {alert: A, expr: up > 1}\n  - {alert: A, expr: up > 2}\n",
    )
    assert rule_keys(group) == ("fleet.yaml:g:A", "fleet.yaml:g:A#2")


def test_patterns_are_relative_to_the_configuration(tmp_path: Path) -> None:
    """Wildcards may match nothing, a named file must exist, absolute paths work."""
    (tmp_path / "r").mkdir()
    file = tmp_path / "r" / "a.yaml"
    file.write_text("groups: []")
    assert RulesSettings(files=("r/*.yaml", "none/*.yaml")).paths(tmp_path) == (file,)
    assert RulesSettings(files=(str(file),)).paths(Path("/elsewhere")) == (file,)
    with pytest.raises(ConfigError, match=r"gone\.yaml: .*no such file"):
        RulesSettings(files=("gone.yaml",)).paths(tmp_path)


def test_bundled_rules_load_here_and_in_promtool(tmp_path: Path) -> None:
    """The rules that come with the aggregator load, and Prometheus itself accepts them."""
    files = RulesSettings().paths(tmp_path)
    assert files == bundled_files("alert_rules", "*.yaml")
    groups = load_groups(files, RulesSettings())
    assert {type(rule) for group in groups for rule in group.rules} == {
        AlertingRule,
        RecordingRule,
    }
    copies = [shutil.copy(file, tmp_path) for file in files]
    done = subprocess.run(
        [binary("promtool"), "check", "rules", "--lint=all", "--lint-fatal", *copies],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
