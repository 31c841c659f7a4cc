"""Finds mistakes in a profile that its format cannot: in the expressions and what they return."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from aggregator.errors import QuerySyntaxError
from aggregator.model.labels import METRIC_NAME, MatchOp
from aggregator.profile.batch import substitute
from aggregator.profile.format import Candidate, FleetMetric, Profile, Source, Unit
from aggregator.profile.lintlogs import log_labels, log_problems
from aggregator.profile.outputs import LabelNames, output_labels
from aggregator.promql.parse import parse
from aggregator.promql.plan import (
    Aggregate,
    Call,
    MatrixSelector,
    Node,
    VectorSelector,
    children,
)

_MARKER = "__lint__"
_SHORTEST_MS = 300_000
_Kind = TypeVar("_Kind", Aggregate, Call, MatrixSelector, VectorSelector)
_AVERAGING = frozenset({"avg", "sum", "stddev", "stdvar"})
_QUANTILE_NAME = re.compile(r"_p(50|75|90|95|99|999)(_|$)|_quantile(_|$)")

# What a name says about its unit, by its pieces.
_NAME_UNITS: tuple[tuple[str, frozenset[Unit]], ...] = (
    (
        "per_second",
        frozenset({Unit.REQUESTS_PER_SECOND, Unit.BYTES_PER_SECOND, Unit.LINES_PER_SECOND}),
    ),
    ("per_hour", frozenset({Unit.CURRENCY_PER_HOUR})),
    ("ratio", frozenset({Unit.RATIO})),
    ("seconds", frozenset({Unit.SECONDS})),
    ("bytes", frozenset({Unit.BYTES})),
    ("cores", frozenset({Unit.CORES})),
    ("info", frozenset({Unit.INFO})),
)
# What the aggregator writes itself: docs/own-series.md.
_OWN_NAMES = re.compile(
    r"fleet:(binding|collection|data_age|dns_answer|region|credential)_.*"
    r"|fleet:(cluster|workload)_info|fleet:cluster_(clock_offset_seconds|kubernetes_minor|state)"
    r"|fleet:kubelet_minor"
)
_STRANGE_UNITS = re.compile(
    r"_(ms|milliseconds|microseconds|minutes|percent|percentage|mib|mb|gib|gb|kb)(_|$)"
)
# Source names that carry another unit than ours, and the factor that makes it ours.
_SOURCE_SCALES = (
    (re.compile(r"_(ms|milliseconds)(_bucket|_sum)?$"), Unit.SECONDS, 0.001),
    (re.compile(r"_(us|usec|microseconds)(_bucket|_sum)?$"), Unit.SECONDS, 0.000_001),
    (re.compile(r"_(percent|percentage)$"), Unit.RATIO, 0.01),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a metric, or with one of its candidates."""

    metric: str
    candidate: str
    message: str

    def __str__(self) -> str:
        place = f"{self.metric} / {self.candidate}" if self.candidate else self.metric
        return f"{place}: {self.message}"


def lint(profile: Profile) -> list[Problem]:
    """Return every problem of *profile*, in its order."""
    return [problem for metric in profile.metrics for problem in _metric(metric)]


def _metric(metric: FleetMetric) -> Iterator[Problem]:
    found = partial(Problem, metric.name, "")
    yield from map(found, _name(metric))
    yield from map(found, _choice(metric))
    if metric.presence is not None:
        messages = _presence(metric.source, metric.presence)
        yield from (found(f"presence: {message}") for message in messages)
    check = _promql if metric.source is Source.PROMETHEUS else _logql
    for candidate in metric.candidates:
        if candidate.presence is not None:
            for message in _presence(metric.source, candidate.presence):
                yield Problem(metric.name, candidate.id, f"presence: {message}")
        if candidate.expr is not None:
            for message in check(metric, candidate, candidate.expr):
                yield Problem(metric.name, candidate.id, message)


def _name(metric: FleetMetric) -> Iterator[str]:
    if _OWN_NAMES.fullmatch(metric.name):
        yield "the aggregator writes series of this name itself"
    if _STRANGE_UNITS.search(metric.name):
        yield "the name carries a unit that the fleet does not use"
    pieces = f"_{metric.name.removeprefix('fleet:')}_"
    said = next((pair for pair in _NAME_UNITS if f"_{pair[0]}_" in pieces), None)
    if said is not None and metric.unit not in said[1]:
        yield f"the name says {said[0]}, the unit {metric.unit.value}"
    if said is None:
        for piece, units in _NAME_UNITS:
            if metric.unit in units:
                yield f"the unit is {metric.unit.value}, so the name must say {piece}"


def _choice(metric: FleetMetric) -> Iterator[str]:
    """Report candidates that cannot be chosen from as they say."""
    merged = [candidate.merge is not None for candidate in metric.candidates]
    if merged != sorted(merged, reverse=True):
        yield "candidates with merge: union come first, those for where none of them has data last"
    first: dict[str, str] = {}
    for candidate in metric.candidates:
        asked = candidate.expr or str(candidate.derive)
        earlier = first.setdefault(asked, candidate.id)
        if earlier != candidate.id:
            yield f"{candidate.id} asks for the same as {earlier}"


def _presence(source: Source, expr: str) -> Iterator[str]:
    if source is not Source.PROMETHEUS:
        yield from log_problems(expr)
        return
    found = list(_expression(expr))
    yield from found
    if not found and not isinstance(parse(substitute(expr, "")), VectorSelector):
        yield "must be one selector, which costs little"


def _expression(expr: str) -> Iterator[str]:
    """Report what does not parse, selectors that forget `$sel` or a name, and short ranges."""
    for selector in ("", 'cluster="x"'):
        try:
            parse(substitute(expr, selector))
        except QuerySyntaxError as error:
            yield f"does not parse: {error}"
            return
    try:
        marked = parse(substitute(expr, f'{_MARKER}="1"'))
    except QuerySyntaxError as error:
        yield f"does not parse with a selector: {error}"
        return
    for selector_node in _nodes(marked, VectorSelector):
        matchers = selector_node.matchers
        if not any(matcher.name == _MARKER for matcher in matchers):
            yield f"the selector of {selector_node.name or 'a metric'} does not end with $sel"
        if not any(one.name == METRIC_NAME and one.op is MatchOp.EQUAL for one in matchers):
            yield "a selector names no metric, so that it reads every series"
    for ranged in _nodes(marked, MatrixSelector):
        if ranged.range_ms < _SHORTEST_MS:
            name = ranged.selector.name
            yield f"the range of {name} may hold fewer than two samples; write [$window]"


def _promql(metric: FleetMetric, candidate: Candidate, expr: str) -> Iterator[str]:
    found = list(_expression(expr))
    yield from found
    if found:
        return
    tree = parse(substitute(expr, ""))
    yield from _labels(metric, candidate, output_labels(tree))
    yield from _quantiles(tree)
    for selector in _nodes(tree, VectorSelector):
        for pattern, unit, factor in _SOURCE_SCALES:
            stranger = pattern.search(selector.name or "")
            if stranger and metric.unit is unit and candidate.scale != factor:
                yield f"{selector.name} is in {stranger[1]}: scale must be {factor}"


def _logql(metric: FleetMetric, candidate: Candidate, expr: str) -> Iterator[str]:
    found = list(log_problems(expr))
    yield from found or _labels(metric, candidate, log_labels(expr))


def _labels(metric: FleetMetric, candidate: Candidate, returned: LabelNames) -> Iterator[str]:
    """Report labels that are returned but not used, or used but not returned."""
    if returned is None:
        yield "returns any labels; aggregate by the metric's own"
        return
    used: set[str] = set()
    for label in metric.labels:
        source = candidate.map.get(label)
        if source is not None:
            missing = set(source.names) - returned
            if missing:
                yield f"{label} comes from {min(missing)}, which the expression does not return"
            used.update(source.names)
        elif label not in candidate.const:
            used.add(label)
    for extra in sorted(returned - used):
        yield f"returns the label {extra}, which nothing uses"


def _quantiles(tree: Node) -> Iterator[str]:
    """Report quantiles that are averaged or added: they say nothing then."""
    for aggregation in _nodes(tree, Aggregate):
        if aggregation.op not in _AVERAGING:
            continue
        calls = _nodes(aggregation.expr, Call)
        selectors = _nodes(aggregation.expr, VectorSelector)
        if any(call.function.name == "histogram_quantile" for call in calls) or any(
            _is_quantile(selector) for selector in selectors
        ):
            yield f"takes {aggregation.op} over quantiles"


def _is_quantile(selector: VectorSelector) -> bool:
    labels = {matcher.name for matcher in selector.matchers}
    return "quantile" in labels or bool(_QUANTILE_NAME.search(selector.name or ""))


def _nodes(tree: Node, kind: type[_Kind]) -> list[_Kind]:
    """Return the nodes of one kind anywhere in *tree*."""
    found = [tree] if isinstance(tree, kind) else []
    for child in children(tree):
        found += _nodes(child, kind)
    return found
