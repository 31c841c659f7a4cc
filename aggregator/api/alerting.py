"""Rules and alerts as Prometheus's API shows them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

import orjson

from aggregator.api import parameters, schemas
from aggregator.api.envelope import route, success
from aggregator.api.errors import bad_parameter
from aggregator.api.exchange import Parameter, Reach, Reply, Request, Route
from aggregator.model.alerts import ActiveAlert, AlertState
from aggregator.model.labels import Matcher
from aggregator.promql.scope import admits
from aggregator.rules.groups import AlertingRule, RecordingRule, Rule
from aggregator.rules.runner import GroupReport, RuleReport

_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"", "0", "f", "F", "FALSE", "false", "False"})
_KINDS: Final[Mapping[str, tuple[type[Rule], ...]]] = {
    "": (AlertingRule, RecordingRule),
    "alert": (AlertingRule,),
    "record": (RecordingRule,),
}
# How urgent: a rule is in the worst state of its alerts.
_WORST: Final = (AlertState.FIRING, AlertState.PENDING)


@dataclass(frozen=True, slots=True)
class _Filter:
    """Which rules are wanted; an empty tuple does not filter."""

    kinds: tuple[type[Rule], ...]
    names: tuple[str, ...]
    selectors: Sequence[Sequence[Matcher]]

    def admits(self, report: RuleReport) -> bool:
        """Tell whether the rule of *report* is wanted."""
        rule = report.rule
        if not isinstance(rule, self.kinds) or (self.names and _name(report) not in self.names):
            return False
        labels = _labels(report)
        return not self.selectors or any(admits(each, labels) for each in self.selectors)


class AlertingApi:
    """Handlers of rules and alerts; *reports* returns the last evaluation of every group."""

    def __init__(self, reports: Callable[[], Sequence[GroupReport]]) -> None:
        self._reports = reports

    def routes(self) -> tuple[Route, ...]:
        """Return every path."""
        return (
            route("rules", self.rules, "Rule groups and how their last evaluation went", (
                Parameter("type", "alert or record: rules of this kind only"),
                Parameter("rule_name[]", "only rules of this name", repeated=True),
                Parameter("rule_group[]", "only groups of this name", repeated=True),
                Parameter("file[]", "only groups of this file", repeated=True),
                Parameter("exclude_alerts", "true: leave the alerts out", kind="boolean"),
                parameters.MATCH,
                Parameter("group_limit", "most groups to return", kind="integer"),
                Parameter("group_next_token", "where to go on, from the last answer"),
            ), schema=schemas.RULES, reach=Reach.SCOPED),
            route("alerts", self.alerts, "Alerts that are pending or firing", (),
                  schema=schemas.ALERTS, reach=Reach.SCOPED),
        )  # fmt: skip

    def rules(self, request: Request) -> Reply:
        """Answer with the groups that have a rule that is wanted."""
        kind = request.first("type").lower()
        if kind not in _KINDS:
            raise bad_parameter("type", f'not supported value "{kind}"')
        wanted = _Filter(
            _KINDS[kind], tuple(request.all("rule_name[]")), parameters.matchers(request)
        )
        alerts = not _flag(request, "exclude_alerts")
        limit, token = _page(request)
        groups: list[dict[str, object]] = []
        answer: dict[str, object] = {"groups": groups}
        for report in self._wanted(request, token):
            rules = [
                _rule(each, report, request.scope, alerts=alerts)
                for each in report.rules
                if wanted.admits(each)
            ]
            if not rules:
                continue
            if limit and len(groups) == limit:
                answer["groupNextToken"] = _token(report)
                break
            groups.append(_group(report, rules))
        return success(orjson.dumps(answer))

    def alerts(self, request: Request) -> Reply:
        """Answer with every alert that is pending or firing."""
        active = [
            _alert(alert)
            for report in self._reports()
            for rule in report.rules
            for alert in _active(rule, request.scope)
        ]
        return success(orjson.dumps({"alerts": active}))

    def _wanted(self, request: Request, token: str) -> Iterator[GroupReport]:
        """Yield the groups that are wanted, from the one that *token* stands for, if any."""
        groups, files = request.all("rule_group[]"), request.all("file[]")
        reports = self._reports()
        if token:
            tokens = [_token(report) for report in reports]
            if token not in tokens:
                raise bad_parameter(
                    "group_next_token",
                    f"invalid group_next_token '{token}'. were rule groups changed?",
                )
            reports = reports[tokens.index(token) :]
        for report in reports:
            group = report.group
            if (not groups or group.name in groups) and (not files or group.file.name in files):
                yield report


def _page(request: Request) -> tuple[int, str]:
    """Return how many groups are wanted at most, 0 for all, and where to begin."""
    text, token = request.first("group_limit"), request.first("group_next_token")
    if not text:
        if token:
            raise bad_parameter(
                "group_next_token",
                "group_limit needs to be present in order to paginate over the groups",
            )
        return 0, ""
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise bad_parameter("group_limit", "group_limit needs to be a valid number")
    if not int(text):
        raise bad_parameter("group_limit", "group_limit needs to be greater than 0")
    return int(text), token


def _flag(request: Request, name: str) -> bool:
    text = request.first(name)
    if text not in _TRUE | _FALSE:
        raise bad_parameter(name, f'cannot parse "{text}" to a boolean')
    return text in _TRUE


def _token(report: GroupReport) -> str:
    return sha256(report.group.key.encode()).hexdigest()[:40]


def _group(report: GroupReport, rules: Sequence[dict[str, object]]) -> dict[str, object]:
    return {
        "name": report.group.name,
        "file": report.group.file.name,
        "rules": rules,
        "interval": report.group.interval_ms / 1000,
        "limit": report.group.limit,
        "evaluationTime": report.seconds,
        "lastEvaluation": _moment(report.evaluated_ms),
    }


def _rule(
    report: RuleReport, group: GroupReport, scope: Sequence[Matcher], *, alerts: bool
) -> dict[str, object]:
    health = "unknown"
    if group.evaluated_ms:
        health = "err" if report.error else "ok"
    # the words name series, also those outside of a scope
    error = "the rule failed" if report.error and scope else report.error
    evaluated: dict[str, object] = {
        "health": health,
        **({"lastError": error} if error else {}),
        "evaluationTime": report.seconds,
        "lastEvaluation": _moment(group.evaluated_ms),
    }
    rule, labels = report.rule, _labels(report)
    if isinstance(rule, RecordingRule):
        return {
            "name": rule.record,
            "query": rule.expr,
            **({"labels": labels} if labels else {}),
            **evaluated,
            "type": "recording",
        }
    active = _active(report, scope)
    states = {alert.state for alert in active}
    state = next((each for each in _WORST if each in states), AlertState.RESOLVED)
    return {
        "state": state.value,
        "name": rule.alert,
        "query": rule.expr,
        "duration": rule.timing.for_ms / 1000,
        "keepFiringFor": rule.timing.keep_firing_for_ms / 1000,
        "labels": labels,
        "annotations": {name: text.text for name, text in rule.annotations},
        "alerts": [_alert(alert) for alert in active] if alerts else [],
        **evaluated,
        "type": "alerting",
    }


def _alert(alert: ActiveAlert) -> dict[str, object]:
    since = alert.keep_firing_since_ms
    return {
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "state": alert.state.value,
        "activeAt": _moment(alert.active_at_ms),
        **({"keepFiringSince": _moment(since)} if since else {}),
        "value": _scientific(alert.value),
    }


def _active(report: RuleReport, scope: Sequence[Matcher]) -> list[ActiveAlert]:
    """Return the rule's alerts that are pending or firing, and within *scope*."""
    return [
        alert
        for alert in report.alerts
        if alert.state is not AlertState.RESOLVED and admits(scope, dict(alert.labels))
    ]


def _name(report: RuleReport) -> str:
    rule = report.rule
    return rule.alert if isinstance(rule, AlertingRule) else rule.record


def _labels(report: RuleReport) -> dict[str, str]:
    """Return the labels that a rule adds, as they are written."""
    rule = report.rule
    if isinstance(rule, RecordingRule):
        return dict(rule.labels)
    return {name: text.text for name, text in rule.labels}


def _moment(time_ms: int) -> str:
    """Return a time as RFC 3339; year 1 before anything happened, as Go writes it."""
    if not time_ms:
        return "0001-01-01T00:00:00Z"
    text = datetime.fromtimestamp(time_ms / 1000, UTC).replace(tzinfo=None).isoformat()
    return f"{text.rstrip('0') if '.' in text else text}Z"


def _scientific(value: float) -> str:
    """Return *value* with the shortest digits and an exponent of at least two, as `8.069e+00`."""
    text = f"{value!r}"
    if text in ("inf", "-inf", "nan"):
        return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}[text]
    digits = len(text.partition("e")[0].lstrip("-").replace(".", "").strip("0"))
    return f"{value:.{max(digits, 1) - 1}e}"
