"""Runs one group: its rules one after the other, once per instant of its grid.

A rule that fails holds its alerts and does not stop the others. What an evaluation decided is
durable before it is handed to notification, so that a restart resolves and repeats nothing.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import structlog

from aggregator import telemetry
from aggregator.errors import QueryError, StoreError
from aggregator.fleet.freshness import Freshness
from aggregator.model.alerts import ActiveAlert, Alert, AlertState
from aggregator.promql.result import QueryResult
from aggregator.rules.evaluate import (
    Alerts,
    Query,
    Record,
    Written,
    alert_series,
    found,
    hold_all,
    move,
    notifiable,
    observe,
    recorded_series,
    with_stale,
)
from aggregator.rules.groups import AlertingRule, RecordingRule, Rule, RuleGroup, rule_keys
from aggregator.rules.order import reads_own
from aggregator.rules.progress import Instant, Progress
from aggregator.state.alerts import AlertStates

_LOG = structlog.get_logger(__name__)
# Instants that a group evaluates one after the other when it is behind; older ones are missed.
_CATCH_UP = 3


@dataclass(frozen=True, slots=True)
class Tools:
    """What a group works with: everything outside the rules, as functions.

    `query` runs an instant query at a time in ms, `record` hands over one sample per label set,
    `settle` returns when all that was handed over can be read, and `now_ms` is the clock;
    `hold_ms` bounds how long an alert over several clusters is held.
    """

    query: Query
    record: Record
    settle: Callable[[], None]
    notify: Callable[[Sequence[Alert]], None]
    freshness: Freshness
    now_ms: Callable[[], int]
    states: AlertStates
    hold_ms: int


@dataclass(frozen=True, slots=True)
class RuleReport:
    """How the last evaluation of one rule went; `error` is empty if it went well."""

    rule: Rule
    alerts: tuple[ActiveAlert, ...] = ()
    error: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class GroupReport:
    """The last evaluation of a group: its instant, when it ran, and whose data was missing.

    Times are ms UTC, 0 before the first evaluation.
    """

    group: RuleGroup
    rules: tuple[RuleReport, ...]
    time_ms: int = 0
    evaluated_ms: int = 0
    seconds: float = 0.0
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Turn:
    """One evaluation of the group; `missing` tells whether any cluster lacks data for it."""

    time_ms: int
    now_ms: int
    missing: bool


class GroupRunner:
    """One group's place on its grid and where its alerts stand. One thread drives it."""

    def __init__(self, group: RuleGroup, tools: Tools) -> None:
        self.group = group
        self._tools = tools
        self._progress = Progress(tools.freshness)
        self._keys = rule_keys(group)
        self._reads_own = dict(zip(self._keys, reads_own(group), strict=True))
        self._unsettled = False
        self._alerts: dict[str, Alerts] = {
            key: {alert.labels: alert for alert in tools.states.load(key)} for key in self._keys
        }
        self._written: dict[str, Written] = {key: {} for key in self._keys}
        self._next_ms = _floor(tools.now_ms(), group.interval_ms)
        self._report = GroupReport(group, tuple(map(RuleReport, group.rules)))

    def report(self) -> GroupReport:
        """Return the last evaluation; any thread may ask."""
        return self._report

    def step(self, stopping: threading.Event) -> None:
        """Evaluate the group for every instant that is due, oldest first."""
        while not stopping.is_set():
            now_ms = self._tools.now_ms()
            self._skip(now_ms)
            if not self._progress.due(self._next_ms, self.group.interval_ms, now_ms):
                return
            self._evaluate(self._next_ms, now_ms)
            self._next_ms += self.group.interval_ms

    def _skip(self, now_ms: int) -> None:
        """Give up instants that are too far back, or ahead of a clock that was set back."""
        newest = _floor(now_ms, self.group.interval_ms)
        oldest = newest - _CATCH_UP * self.group.interval_ms
        if self._next_ms < oldest:
            missed = (oldest - self._next_ms) // self.group.interval_ms
            telemetry.RULE_EVALUATIONS.labels(self.group.name, "missed").inc(missed)
            _LOG.warning("rule group missed evaluations", group=self.group.key, missed=missed)
            self._next_ms = oldest
        elif self._next_ms > newest + self.group.interval_ms:
            _LOG.warning("the clock was set back; rules go on from now", group=self.group.key)
            self._next_ms = newest

    def _evaluate(self, time_ms: int, now_ms: int) -> None:
        start = time.perf_counter()
        missing = self._progress.missing(time_ms, now_ms)
        reports = []
        for key, rule in zip(self._keys, self.group.rules, strict=True):
            began = time.perf_counter()
            error = self._run(key, rule, _Turn(time_ms, now_ms, bool(missing)))
            result = "error" if error else "ok"
            telemetry.RULE_EVALUATIONS.labels(self.group.name, result).inc()
            alerts = tuple(self._alerts[key].values())
            reports.append(RuleReport(rule, alerts, error, time.perf_counter() - began))
        seconds = time.perf_counter() - start
        telemetry.RULE_GROUP_SECONDS.labels(self.group.name).observe(seconds)
        self._report = GroupReport(self.group, tuple(reports), time_ms, now_ms, seconds, missing)

    def _run(self, key: str, rule: Rule, turn: _Turn) -> str:
        """Evaluate one rule; return what went wrong, in words, or nothing."""
        try:
            match rule:
                case AlertingRule():
                    self._run_alerting(key, rule, turn)
                case RecordingRule():
                    result = self._query(key, rule, turn)
                    series = recorded_series(rule, found(result, self.group.limit))
                    self._write(key, series, self._instant(result, turn))
        except (QueryError, StoreError) as error:
            name = rule.alert if isinstance(rule, AlertingRule) else rule.record
            _LOG.warning("rule failed", group=self.group.key, rule=name, error=str(error))
            return str(error)
        return ""

    def _query(self, key: str, rule: Rule, turn: _Turn) -> QueryResult:
        """Evaluate the rule's expression; it sees what the rules before it recorded."""
        if self._unsettled and self._reads_own[key]:
            self._tools.settle()
            self._unsettled = False
        return self._tools.query(rule.expr, turn.time_ms)

    def _run_alerting(self, key: str, rule: AlertingRule, turn: _Turn) -> None:
        before = self._alerts[key]
        try:
            result = self._query(key, rule, turn)
            observations = observe(rule, found(result, self.group.limit))
        except (QueryError, StoreError) as error:
            self._settle(
                key, hold_all(before, turn.time_ms, error), self._progress.complete(turn.time_ms)
            )
            raise
        instant = self._instant(result, turn)
        self._settle(key, move(rule, before, observations, instant, self._tools.hold_ms), instant)

    def _settle(self, key: str, after: Alerts, instant: Instant) -> None:
        """Make the rule's alerts durable, hand them on, and write their series."""
        self._keep(key, self._alerts[key], after)
        self._alerts[key] = after
        handed = (notifiable(alert, instant) for alert in after.values())
        self._tools.notify([alert for alert in handed if alert is not None])
        self._write(key, alert_series(after), instant)

    def _instant(self, result: QueryResult, turn: _Turn) -> Instant:
        if not turn.missing:
            return self._progress.complete(turn.time_ms)
        return self._progress.instant(turn.time_ms, result.reads, turn.now_ms)

    def _keep(self, key: str, before: Alerts, after: Alerts) -> None:
        """Make what changed durable; a new value or text alone is not worth a write."""
        changed = [
            alert
            for labels, alert in after.items()
            if labels not in before or _bare(alert) != _bare(before[labels])
        ]
        forgotten = [alert for labels, alert in before.items() if labels not in after]
        try:
            self._tools.states.save(key, changed, forgotten)
        except StoreError as error:
            # The alerts go on from memory and out; only a crash now could repeat one.
            _LOG.error("alert state is not durable", group=self.group.key, error=str(error))

    def _write(self, key: str, series: Written, instant: Instant) -> None:
        samples = with_stale(series, self._written[key], instant)
        if samples:
            values = np.fromiter(samples.values(), np.float64, len(samples))
            self._tools.record([dict(labels) for labels in samples], instant.time_ms, values)
            self._unsettled = True
        self._written[key] = series


def _bare(alert: ActiveAlert) -> ActiveAlert:
    return replace(alert, value=0.0, annotations=())


def _floor(time_ms: int, interval_ms: int) -> int:
    return time_ms - time_ms % interval_ms


def count_states(reports: Sequence[GroupReport]) -> dict[str, int]:
    """Return how many alerts of *reports* are in each state, held ones apart."""
    counts = {AlertState.PENDING.value: 0, AlertState.FIRING.value: 0, "held": 0}
    for report in reports:
        for rule in report.rules:
            for alert in rule.alerts:
                if alert.state is not AlertState.RESOLVED:
                    counts["held" if alert.held_since_ms else alert.state.value] += 1
    return counts
