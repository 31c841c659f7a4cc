"""Alerts are identified as Alertmanager identifies them."""

import json
from pathlib import Path

from aggregator.model.alerts import Alert, fingerprint, label_set


def test_fingerprints_are_alertmanagers(shared_dir: Path) -> None:
    """Every alert that a real Alertmanager returned has the fingerprint we compute."""
    seen = 0
    for file in sorted((shared_dir / "contracts" / "alertmanager").glob("alerts_get_*.json")):
        body = json.loads(file.read_text())["response"]["body"]
        for alert in body if isinstance(body, list) else []:
            assert fingerprint(label_set(alert["labels"])) == alert["fingerprint"]
            seen += 1
    assert seen > 10


def test_a_label_set_is_sorted_and_has_no_empty_labels() -> None:
    """An empty label is an absent one, and the order of labels says nothing."""
    assert label_set({"b": "1", "a": "2", "c": ""}) == (("a", "2"), ("b", "1"))
    assert label_set([("b", "1"), ("a", "2")]) == label_set({"a": "2", "b": "1"})


def test_an_alert_is_its_labels() -> None:
    """Annotations and times do not change which alert it is."""
    labels = label_set({"alertname": "A", "cluster": "eu-1"})
    first = Alert(labels, (), 1)
    second = Alert(labels, (("summary", "x"),), 2, 3)
    assert first.fingerprint == second.fingerprint
    assert (first.resolved, second.resolved) == (False, True)
