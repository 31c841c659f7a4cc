"""Rules and alerts as Prometheus's API shows them."""

import pytest

from aggregator.model.alerts import ActiveAlert, AlertState, label_set
from aggregator.rules.groups import load_groups
from aggregator.rules.runner import GroupReport, RuleReport
from aggregator.rules.settings import RulesSettings
from tests.api.conftest import NOW_MS

API = "/prometheus/api/v1"
RULES = """
groups:
- name: first
  interval: 1m
  rules:
  - {record: 'region:errors:ratio', expr: avg by (region) (errors), labels: {team: web}}
  - alert: Errors
    expr: errors > 0.05
    for: 5m
    keep_firing_for: 10m
    labels: {severity: page, region: "{{ $labels.region }}"}
    annotations: {summary: "Errors in {{ $labels.cluster }}"}
- name: second
  limit: 7
  rules:
  - {alert: Quiet, expr: vector(0) > 1}
- name: third
  rules:
  - {record: 'a:b:c', expr: up}
"""
TOKENS = [
    {"name": "all", "token": "all"},
    {"name": "europe", "token": "europe", "match": 'region="europe"'},
]


def _alert(cluster, region, state, **more):
    labels = {"alertname": "Errors", "cluster": cluster, "region": region, "severity": "page"}
    annotations = label_set({"summary": f"Errors in {cluster}"})
    return ActiveAlert(label_set(labels), state, 0.25, annotations, NOW_MS - 600_000, **more)


@pytest.fixture
def reports(tmp_path):
    """Return how the last evaluation of three groups went."""
    file = tmp_path / "fleet.yaml"
    file.write_text(RULES)
    first, second, third = load_groups([file], RulesSettings())
    alerts = (
        _alert("eu-1", "europe", AlertState.PENDING),
        _alert("us-1", "us", AlertState.FIRING, keep_firing_since_ms=NOW_MS - 1_500),
        _alert("eu-2", "europe", AlertState.RESOLVED),
    )
    evaluated = (
        RuleReport(first.rules[0], (), "too many", 0.5),
        RuleReport(first.rules[1], alerts),
    )
    return [
        GroupReport(first, evaluated, NOW_MS - 5_000, NOW_MS, 0.75),
        GroupReport(second, (RuleReport(second.rules[0]),), NOW_MS, NOW_MS),
        GroupReport(third, (RuleReport(third.rules[0]),)),
    ]


@pytest.fixture
def ruled(api, reports):
    """Return the API with rules."""
    api.rules.extend(reports)
    return api


def _groups(api, **parameters):
    return api.get(f"{API}/rules", **parameters).json()["data"]["groups"]


def _names(api, **parameters):
    return [rule["name"] for group in _groups(api, **parameters) for rule in group["rules"]]


FIRING = {
    "labels": {"alertname": "Errors", "cluster": "us-1", "region": "us", "severity": "page"},
    "annotations": {"summary": "Errors in us-1"},
    "state": "firing",
    "activeAt": "2026-11-22T06:07:02Z",
    "keepFiringSince": "2026-11-22T06:17:00.5Z",
    "value": "2.5e-01",
}


def test_rules(ruled):
    """Groups, rules and alerts have Prometheus's fields; a rule is in its worst alert's state."""
    first, second, third = _groups(ruled)
    recording, alerting = first.pop("rules")
    assert first == {
        "name": "first", "file": "fleet.yaml", "interval": 60, "limit": 10_000,
        "evaluationTime": 0.75, "lastEvaluation": "2026-11-22T06:17:02Z",
    }  # fmt: skip
    assert recording == {
        "name": "region:errors:ratio", "query": "avg by (region) (errors)", "type": "recording",
        "labels": {"team": "web"}, "health": "err", "lastError": "too many",
        "evaluationTime": 0.5, "lastEvaluation": "2026-11-22T06:17:02Z",
    }  # fmt: skip
    pending, firing = alerting.pop("alerts")
    assert (pending["state"], firing) == ("pending", FIRING)
    assert alerting == {
        "name": "Errors", "query": "errors > 0.05", "type": "alerting", "state": "firing",
        "duration": 300, "keepFiringFor": 600, "health": "ok",
        "labels": {"severity": "page", "region": "{{ $labels.region }}"},
        "annotations": {"summary": "Errors in {{ $labels.cluster }}"},
        "evaluationTime": 0, "lastEvaluation": "2026-11-22T06:17:02Z",
    }  # fmt: skip
    assert (second["limit"], second["rules"][0]["state"]) == (7, "inactive")
    assert third["lastEvaluation"] == "0001-01-01T00:00:00Z"
    assert third["rules"][0]["health"] == "unknown"


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ({"type": "alert"}, ["Errors", "Quiet"]),
        ({"type": "RECORD"}, ["region:errors:ratio", "a:b:c"]),
        ({"rule_name[]": ["Quiet", "a:b:c"]}, ["Quiet", "a:b:c"]),
        ({"rule_group[]": "first"}, ["region:errors:ratio", "Errors"]),
        ({"file[]": "other.yaml"}, []),
        ({"match[]": '{team="web"}'}, ["region:errors:ratio"]),
        ({"match[]": ['{severity=~"p.+"}', '{team="web"}']}, ["region:errors:ratio", "Errors"]),
    ],
)
def test_filters(ruled, parameters, names):
    """Rules are chosen by kind, name, group, file and label; groups without any are left out."""
    assert _names(ruled, **parameters) == names


def test_pages(ruled):
    """A limit on groups comes with a token for the rest."""
    found, token = [], {}
    while token is not None:
        answer = ruled.get(f"{API}/rules", group_limit=1, **token).json()["data"]
        found += [group["name"] for group in answer["groups"]]
        after = answer.get("groupNextToken")
        token = None if after is None else {"group_next_token": after}
    assert found == ["first", "second", "third"]


def test_without_alerts(ruled):
    """Alerts are left out on request; the rule's state stays."""
    [_, alerting] = _groups(ruled, exclude_alerts="true")[0]["rules"]
    assert (alerting["state"], alerting["alerts"]) == ("firing", [])


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"type": "nope"}, 'invalid parameter "type": not supported value "nope"'),
        ({"exclude_alerts": "perhaps"}, 'invalid parameter "exclude_alerts"'),
        ({"group_limit": "x"}, 'invalid parameter "group_limit"'),
        ({"group_limit": "0"}, 'invalid parameter "group_limit"'),
        ({"group_next_token": "x"}, 'invalid parameter "group_next_token"'),
        ({"group_limit": "1", "group_next_token": "x"}, 'invalid parameter "group_next_token"'),
        ({"match[]": "{"}, "1:2: parse error"),
    ],
)
def test_bad_parameters(ruled, parameters, error):
    """A parameter that cannot be used is named."""
    answer = ruled.get(f"{API}/rules", **parameters)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(error)


def test_alerts(ruled):
    """Alerts that are pending or firing are listed; what has resolved is not."""
    alerts = ruled.post(f"{API}/alerts").json()["data"]["alerts"]
    assert [alert["state"] for alert in alerts] == ["pending", "firing"]
    assert alerts[1] == FIRING


def test_within_a_scope(run, reports):
    """A restricted token sees the alerts that its match admits, and no errors that name others."""
    with run(tokens=TOKENS) as api:
        api.rules.extend(reports)
        headers = {"Authorization": "Bearer europe"}

        def asked(path):
            answer = api.session.get(f"{api.url}{API}/{path}", headers=headers, timeout=10)
            return answer.json()["data"]

        assert [alert["labels"]["cluster"] for alert in asked("alerts")["alerts"]] == ["eu-1"]
        recording, alerting = asked("rules")["groups"][0]["rules"]
        assert (alerting["state"], len(alerting["alerts"])) == ("pending", 1)
        assert "too many" not in str(recording)
