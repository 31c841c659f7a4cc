"""A store, rules and metadata like those of the Prometheus whose exchanges were recorded.

Samples come from the recorded answers themselves: each point of a series with a name was a sample
shortly before. What ended in the recording ends here with a stale marker.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from aggregator.api.status import Metadata
from aggregator.model.alerts import ActiveAlert, AlertState, LabelSet, label_set
from aggregator.model.samples import STALE, SampleBlock
from aggregator.rules.groups import AlertingRule, load_groups
from aggregator.rules.runner import GroupReport, RuleReport
from aggregator.rules.settings import RulesSettings
from tests.api.conftest import Api

# When the last target was stopped and when it left, in seconds; see the stale_* exchanges.
_STOPPED, _REMOVED = 1_795_328_225.0, 1_795_328_230.0
_EPHEMERAL = {"app": "batch", "instance": "127.0.0.1:13192", "job": "ephemeral", "team": "batch"}
_RULES = """
groups:
- name: broken.rules
  rules:
  - {record: 'broken:many_to_many', expr: http_requests_total * on (app) http_requests_total}
- name: shop.rules
  rules:
  - record: app:http_requests:rate1m
    expr: sum by (app) (rate(http_requests_total[1m]))
    labels: {tier: web}
  - alert: TargetDown
    expr: up == 0
    for: 2s
    labels: {severity: critical}
    annotations:
      summary: "Target {{ $labels.instance }} is down"
      runbook_url: https://runbooks.example/targetdown
  - alert: QueuePending
    expr: queue_depth > 0
    for: 1h
    labels: {severity: warning}
    annotations: {summary: "Queue of {{ $labels.app }} is {{ $value | humanize }}"}
  - {alert: NeverFires, expr: vector(0) > 1, labels: {severity: info}}
"""


@dataclass(frozen=True)
class Exchange:
    """One recorded request and its answer."""

    name: str
    request: dict[str, Any]
    response: dict[str, Any]

    @property
    def body(self) -> Any:
        """The parsed answer."""
        return self.response["body"]


def exchanges(folder: Path) -> dict[str, Exchange]:
    """Return every exchange with Prometheus by its name."""
    found = {}
    for file in sorted((folder / "contracts/prometheus").glob("*.json")):
        document = json.loads(file.read_text())
        found[file.stem] = Exchange(file.stem, document["request"], document["response"])
    return found


def fill(api: Api, recorded: dict[str, Exchange]) -> None:
    """Give *api* the data of the recording."""
    samples: dict[LabelSet, dict[int, float]] = {}
    for exchange in recorded.values():
        for labels, points in _series(exchange):
            held = samples.setdefault(label_set(labels), {})
            for seconds, value in points:
                held.setdefault(round(float(seconds) * 1000), float(value))
    for labels, held in _unseen().items():
        samples[labels] = held | samples.get(labels, {})
    for labels, held in samples.items():
        if ("job", "ephemeral") in labels and ("__name__", "build_info") not in labels:
            end = _REMOVED if ("__name__", "up") in labels else _STOPPED
            held[round(end * 1000)] = STALE
    ids = api.store.series_ids([dict(labels) for labels in samples])
    for each, points in zip(ids, samples.values(), strict=True):
        times = np.array(sorted(points), dtype=np.int64)
        values = np.array([points[time] for time in times.tolist()])
        api.store.write(SampleBlock(np.full(times.size, each, np.uint32), times, values))
    data = recorded["metadata"].body["data"] | recorded["metadata_one"].body["data"]
    api.metadata.update(
        {name: [Metadata(**entry) for entry in entries] for name, entries in data.items()}
    )


def _unseen() -> dict[LabelSet, dict[int, float]]:
    """Return series that are in the recording only as parts of something else."""
    hours = range(1_795_300_000_000, 1_795_320_000_000, 15_000)
    minutes = range(1_795_328_100_000, 1_795_328_222_000, 2_000)
    names = {
        label_set({"__name__": "orders_total", "app": app}): hours
        for app in ("checkout", "payments")
    }
    bucket = {"__name__": "http_request_duration_seconds_bucket", "job": "shop"}
    for le in ("0.1", "0.5", "1", "5", "+Inf"):
        names[label_set({**bucket, "le": le})] = minutes
    found = {
        labels: {time: 3.0 * number for number, time in enumerate(times)}
        for labels, times in names.items()
    }
    payments = {"app": "payments", "instance": "127.0.0.1:13191", "job": "shop", "team": "payments"}
    found[label_set({"__name__": "queue_depth", **payments})] = dict.fromkeys(minutes, 8.0)
    found[label_set({"__name__": "queue_depth", **_EPHEMERAL})] = dict.fromkeys(minutes, 6.0)
    return found


def reports(recorded: dict[str, Exchange], folder: Path) -> list[GroupReport]:
    """Return the rule groups of the recording and how their last evaluation went."""
    file = folder / "rules.yml"
    file.write_text(_RULES)
    groups = load_groups([file], RulesSettings())
    answered = {
        rule["name"]: rule
        for group in recorded["rules"].body["data"]["groups"]
        for rule in group["rules"]
    }
    found = []
    for group in groups:
        each = []
        for rule in group.rules:
            name = rule.alert if isinstance(rule, AlertingRule) else rule.record
            said = answered[name]
            alerts = tuple(_alert(alert) for alert in said.get("alerts", ()))
            error = said.get("lastError", "")
            each.append(RuleReport(rule, alerts, error, said["evaluationTime"]))
        time_ms = _time_ms(answered[name]["lastEvaluation"])
        found.append(GroupReport(group, tuple(each), time_ms, time_ms, 0.004))
    return found


def _series(exchange: Exchange) -> Iterator[tuple[dict[str, str], list[list[Any]]]]:
    """Yield the labels and points of the series of an answer that have a name."""
    query = dict(exchange.request.get("query") or ())
    data = exchange.body.get("data") if isinstance(exchange.body, dict) else None
    # a value of another time is no sample of this one
    derived = any(word in query.get("query", "") for word in ("@", "offset", "last_over"))
    other = exchange.name.startswith("remote_write") or "warnings" in exchange.name
    if derived or other or not isinstance(data, dict) or "/query" not in exchange.request["path"]:
        return
    if data.get("resultType") not in ("vector", "matrix"):
        return
    for series in data["result"]:
        if "__name__" in series["metric"]:
            yield series["metric"], series.get("values") or [series["value"]]


def _alert(said: dict[str, Any]) -> ActiveAlert:
    return ActiveAlert(
        label_set(said["labels"]),
        AlertState(said["state"]),
        float(said["value"]),
        label_set(said["annotations"]),
        _time_ms(said["activeAt"]),
    )


def _time_ms(text: str) -> int:
    return round(datetime.fromisoformat(text[:26] + "+00:00").timestamp() * 1000)
