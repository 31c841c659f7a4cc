"""Evaluates one rule at one instant: query result to alerts, or to recorded series."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from aggregator.errors import AggregatorError, QueryExecutionError
from aggregator.model.alerts import (
    ALERT_NAME,
    ActiveAlert,
    Alert,
    AlertState,
    LabelSet,
    label_set,
)
from aggregator.model.arrays import Floats
from aggregator.model.labels import METRIC_NAME
from aggregator.model.samples import STALE
from aggregator.promql.result import QueryResult
from aggregator.rules.groups import AlertingRule, RecordingRule
from aggregator.rules.progress import Instant, names
from aggregator.rules.state import Observation, held, seen, unseen

Query: TypeAlias = Callable[[str, int], QueryResult]
Record: TypeAlias = Callable[[Sequence[Mapping[str, str]], int, Floats], None]
Alerts: TypeAlias = dict[LabelSet, ActiveAlert]
Written: TypeAlias = dict[LabelSet, float]


@dataclass(frozen=True, slots=True)
class Found:
    """The rows of an instant query: a label set and a value each."""

    labels: list[dict[str, str]]
    values: list[float]


def found(result: QueryResult, limit: int) -> Found:
    """Return what an instant query gave. Raises `QueryExecutionError` above *limit* rows."""
    matrix = result.matrix
    if matrix is None:
        raise QueryExecutionError(f"the expression gives a {result.kind.value}, not a vector")
    rows = np.flatnonzero(matrix.present[:, 0])
    if rows.size > limit:
        raise QueryExecutionError(f"the rule gives {rows.size} series, its limit is {limit}")
    return Found(matrix.series.take(rows).dicts(), matrix.values[rows, 0].tolist())


def observe(rule: AlertingRule, result: Found) -> dict[LabelSet, Observation]:
    """Return what *rule* observed, by the labels of the alerts.

    Raises `QueryExecutionError` if two series become one alert.
    """
    observations: dict[LabelSet, Observation] = {}
    for labels, value in zip(result.labels, result.values, strict=True):
        own = {name: template.render(labels, value) for name, template in rule.labels}
        key = label_set({**labels, **own, METRIC_NAME: "", ALERT_NAME: rule.alert})
        if key in observations:
            raise QueryExecutionError(
                "two series of the result have the same labels once the rule's are applied; "
                "aggregate the expression or remove a label"
            )
        annotations = label_set(
            (name, template.render(labels, value)) for name, template in rule.annotations
        )
        observations[key] = Observation(value, annotations)
    return observations


def move(
    rule: AlertingRule,
    previous: Alerts,
    observations: Mapping[LabelSet, Observation],
    instant: Instant,
    hold_ms: int,
) -> Alerts:
    """Return the rule's alerts after a complete evaluation at *instant*."""
    time_ms, timing = instant.time_ms, rule.timing
    alerts = {
        labels: seen(labels, previous.get(labels), observation, time_ms, timing)
        for labels, observation in observations.items()
    }
    for labels, alert in previous.items():
        if labels in alerts:
            continue
        if reason := instant.held_for(labels, hold_ms):
            after = held(alert, time_ms, reason)
        else:
            after = unseen(alert, time_ms, timing, instant.ended_for(labels))
        if after is not None:
            alerts[labels] = after
    return alerts


def hold_all(previous: Alerts, time_ms: int, error: AggregatorError) -> Alerts:
    """Return the rule's alerts after an evaluation that failed: none of them moves."""
    reason = f"evaluation failed: {error}"
    moved = {labels: held(alert, time_ms, reason) for labels, alert in previous.items()}
    return {labels: alert for labels, alert in moved.items() if alert is not None}


def notifiable(alert: ActiveAlert, instant: Instant) -> Alert | None:
    """Return the alert as notification wants it, None while it is pending."""
    if alert.state is AlertState.PENDING:
        return None
    notes = dict(alert.annotations)
    missing = instant.missing_for(alert.labels)
    if alert.held_since_ms:
        notes["held"] = alert.reason
    elif alert.reason:
        notes["ended"] = alert.reason
    elif missing:
        notes["missing_clusters"] = names(missing)
    return Alert(
        alert.labels,
        label_set(notes),
        alert.fired_at_ms,
        alert.resolved_at_ms,
        held=alert.held_since_ms > 0,
    )


def alert_series(alerts: Alerts) -> Written:
    """Return the `ALERTS` and `ALERTS_FOR_STATE` series of a rule's alerts, with their values."""
    series: Written = {}
    for labels, alert in alerts.items():
        if alert.state is AlertState.RESOLVED:
            continue
        own = dict(labels)
        state = {METRIC_NAME: "ALERTS", "alertstate": alert.state.value}
        series[label_set(own | state)] = 1.0
        since = alert.active_at_ms / 1000
        series[label_set({**own, METRIC_NAME: "ALERTS_FOR_STATE"})] = since
    return series


def recorded_series(rule: RecordingRule, result: Found) -> Written:
    """Return the series a recording rule writes, with their values.

    Raises `QueryExecutionError` if two series of the result become one.
    """
    series: Written = {}
    own = dict(rule.labels)
    for labels, value in zip(result.labels, result.values, strict=True):
        series[label_set({**labels, **own, METRIC_NAME: rule.record})] = value
    if len(series) < len(result.values):
        raise QueryExecutionError(
            "two series of the result have the same labels once the rule's are applied"
        )
    return series


def with_stale(series: Written, before: Written, instant: Instant) -> Written:
    """Return *series* and a stale marker for each that was there *before* and has ended.

    A series whose cluster's data is missing has not ended.
    """
    ended = {
        labels: STALE
        for labels in before
        if labels not in series and not instant.missing_for(labels)
    }
    return series | ended
