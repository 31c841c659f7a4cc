"""Loads rule groups from files in Prometheus's own format, and refuses what it does not know."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from aggregator.documents import Document, Place, load_document
from aggregator.errors import ConfigError, QuerySyntaxError
from aggregator.model.alerts import ALERT_NAME, LabelSet, label_set
from aggregator.model.labels import METRIC_NAME
from aggregator.promql.functions.function import ValueType
from aggregator.promql.parse import parse
from aggregator.promql.plan import value_type
from aggregator.rules.settings import RulesSettings
from aggregator.rules.state import Timing
from aggregator.rules.template import Template, TemplateError, compile_template
from aggregator.settings import Duration, Settings

_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_RESERVED = ("ALERTS", "ALERTS_FOR_STATE")
_MAX_EXPRESSION_CHARACTERS = 20_000

Templates: TypeAlias = tuple[tuple[str, Template], ...]


@dataclass(frozen=True, slots=True)
class AlertingRule:
    """A condition and how its alerts are named, labelled and described."""

    alert: str
    expr: str
    timing: Timing
    labels: Templates
    annotations: Templates
    line: int


@dataclass(frozen=True, slots=True)
class RecordingRule:
    """An expression whose result is stored under the metric name `record`."""

    record: str
    expr: str
    labels: LabelSet
    line: int


Rule: TypeAlias = AlertingRule | RecordingRule


@dataclass(frozen=True, slots=True)
class RuleGroup:
    """Rules evaluated one after the other at the same instants, multiples of `interval_ms`."""

    name: str
    file: Path
    interval_ms: int
    limit: int
    rules: tuple[Rule, ...]

    @property
    def key(self) -> str:
        """What identifies the group, and its alerts' state, over restarts and reloads."""
        return f"{self.file.name}:{self.name}"


def load_groups(paths: Iterable[Path], settings: RulesSettings) -> tuple[RuleGroup, ...]:
    """Return the groups of all files. Raises `ConfigError` for the first thing that is wrong."""
    groups: dict[str, RuleGroup] = {}
    for path in paths:
        for group in _read(load_document(path), settings):
            if group.key in groups:
                other = groups[group.key].file
                raise ConfigError(f"group {group.name} is in {other} too; rename one", file=path)
            groups[group.key] = group
    return tuple(groups.values())


def rule_keys(group: RuleGroup) -> tuple[str, ...]:
    """Return what identifies each rule over restarts: group, name, and number among namesakes."""
    seen: dict[str, int] = {}
    keys = []
    for rule in group.rules:
        name = rule.alert if isinstance(rule, AlertingRule) else rule.record
        number = seen[name] = seen.get(name, 0) + 1
        keys.append(f"{group.key}:{name}" + (f"#{number}" if number > 1 else ""))
    return tuple(keys)


def _written(value: object) -> object:
    """Refuse a number where Prometheus wants a duration with its unit; 0 needs none."""
    if isinstance(value, str) or value == 0:
        return value
    raise ValueError("write a duration with its unit, for example 5m")


_Written = Annotated[Duration, BeforeValidator(_written)]
_Expression = Annotated[str, Field(min_length=1, max_length=_MAX_EXPRESSION_CHARACTERS)]


class _RuleText(Settings):
    alert: Annotated[str, Field(min_length=1)] | None = None
    record: str | None = None
    expr: _Expression
    for_: Annotated[_Written, Field(alias="for")] = 0
    keep_firing_for: _Written = 0
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}

    @model_validator(mode="after")
    def _one_kind(self) -> "_RuleText":
        if (self.alert is None) == (self.record is None):
            raise ValueError("give exactly one of alert and record")
        if self.record is not None and self.model_fields_set & {
            "for_", "keep_firing_for", "annotations",
        }:  # fmt: skip
            raise ValueError("for, keep_firing_for and annotations belong to alerts")
        return self


class _GroupText(Settings):
    name: Annotated[str, Field(min_length=1)]
    interval: Annotated[_Written, Field(ge=1_000)] | None = None
    limit: Annotated[int, Field(ge=0)] = 0
    rules: tuple[_RuleText, ...]


class _FileText(Settings):
    groups: tuple[_GroupText, ...] = ()


def _read(document: Document, settings: RulesSettings) -> list[RuleGroup]:
    try:
        file = _FileText.model_validate(document.data)
    except ValidationError as error:
        raise document.problems(error)[0] from None
    names: set[str] = set()
    groups = []
    for index, group in enumerate(file.groups):
        place: Place = ("groups", index)
        if group.name in names:
            raise document.error((*place, "name"), f"another group is called {group.name}")
        names.add(group.name)
        rules = tuple(
            _rule(document, (*place, "rules", number), rule)
            for number, rule in enumerate(group.rules)
        )
        interval_ms = settings.interval if group.interval is None else group.interval
        limit = group.limit or settings.limit
        groups.append(RuleGroup(group.name, document.file, interval_ms, limit, rules))
    return groups


def _rule(document: Document, place: Place, rule: _RuleText) -> Rule:
    _check_expression(document, (*place, "expr"), rule.expr)
    for name in rule.labels:
        if not _LABEL_NAME.fullmatch(name) or name in (METRIC_NAME, ALERT_NAME):
            raise document.error((*place, "labels", name), "is not a label a rule may set")
    line = document.line_of(place)
    if rule.alert is not None:
        timing = Timing(rule.for_, rule.keep_firing_for)
        labels = _templates(document, (*place, "labels"), rule.labels)
        annotations = _templates(document, (*place, "annotations"), rule.annotations)
        return AlertingRule(rule.alert, rule.expr, timing, labels, annotations, line)
    record = rule.record or ""
    if not _METRIC_NAME.fullmatch(record):
        raise document.error((*place, "record"), "is not a metric name")
    if record in _RESERVED or record.startswith("fleet:"):
        raise document.error(
            (*place, "record"), f"{record} is reserved; name it level:metric:operation"
        )
    return RecordingRule(record, rule.expr, label_set(rule.labels), line)


def _check_expression(document: Document, place: Place, expression: str) -> None:
    try:
        kind = value_type(parse(expression))
    except QuerySyntaxError as error:
        raise document.error(place, str(error)) from None
    if kind not in (ValueType.VECTOR, ValueType.SCALAR):
        raise document.error(place, f"gives a {kind.value}; a rule needs a vector or a scalar")


def _templates(document: Document, place: Place, texts: Mapping[str, str]) -> Templates:
    compiled = []
    for name, text in texts.items():
        if not _LABEL_NAME.fullmatch(name):
            raise document.error((*place, name), "is not a label name")
        try:
            compiled.append((name, compile_template(text)))
        except TemplateError as error:
            raise document.error((*place, name), str(error)) from None
    return tuple(compiled)
