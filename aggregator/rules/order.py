"""Finds the rules that may read what their own group writes, so that they can wait for it."""

from collections.abc import Iterator

from aggregator.model.labels import METRIC_NAME, MatchOp
from aggregator.promql.parse import parse
from aggregator.promql.plan import Node, VectorSelector, children
from aggregator.rules.groups import RecordingRule, Rule, RuleGroup

ALERT_SERIES = frozenset({"ALERTS", "ALERTS_FOR_STATE"})


def reads_own(group: RuleGroup) -> tuple[bool, ...]:
    """Tell of each rule whether it may read a series that a rule of its group writes."""
    written = frozenset[str]().union(*map(_written, group.rules))
    return tuple(
        any(_may_read(selector, written) for selector in _selectors(parse(rule.expr)))
        for rule in group.rules
    )


def _written(rule: Rule) -> frozenset[str]:
    return frozenset({rule.record}) if isinstance(rule, RecordingRule) else ALERT_SERIES


def _selectors(node: Node) -> Iterator[VectorSelector]:
    if isinstance(node, VectorSelector):
        yield node
    for below in children(node):
        yield from _selectors(below)


def _may_read(selector: VectorSelector, names: frozenset[str]) -> bool:
    """Tell whether the selector may match one of *names*; only an exact other name rules it out."""
    return all(
        matcher.value in names
        for matcher in selector.matchers
        if matcher.name == METRIC_NAME and matcher.op is MatchOp.EQUAL
    )
