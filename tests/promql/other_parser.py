"""The shape of a query as another parser (GreptimeDB's) sees it, and as ours does."""

from datetime import timedelta
from typing import Any

import promql_parser as other

from aggregator.model.labels import METRIC_NAME, Matcher, MatchOp
from aggregator.promql import plan

Shape = tuple[Any, ...]

# Prometheus 3 renamed it; dashboards still use it.
HOLT_WINTERS = other.Function(
    "holt_winters",
    [other.ValueType.Matrix, other.ValueType.Scalar, other.ValueType.Scalar],
    other.ValueType.Vector,
)


def other_shape(query: str) -> Shape:
    """Return the shape of *query* in the other parser's eyes."""
    other.register_extra_functions([HOLT_WINTERS])
    return _other(other.parse(query))


def our_shape(node: plan.Node) -> Shape:  # noqa: C901, PLR0911 - one case a node
    """Return the shape of our plan."""
    match node:
        case plan.NumberLiteral():
            return ("number", repr(node.value))
        case plan.StringLiteral():
            return ("string", node.value)
        case plan.VectorSelector():
            own = Matcher(METRIC_NAME, MatchOp.EQUAL, node.name)  # theirs keeps it apart
            matchers = sorted(
                (m.name, m.op.value, m.value) for m in node.matchers if not (node.name and m == own)
            )
            at = node.at.value if isinstance(node.at, plan.AtEdge) else node.at
            return ("vector", node.name, matchers, node.offset_ms, at)
        case plan.MatrixSelector():
            return ("range", our_shape(node.selector), node.range_ms)
        case plan.Subquery():
            at = node.at.value if isinstance(node.at, plan.AtEdge) else node.at
            inner = our_shape(node.expr)
            return ("subquery", inner, node.range_ms, node.step_ms, node.offset_ms, at)
        case plan.Call():
            return (node.function.name, *map(our_shape, node.args))
        case plan.Aggregate():
            param = None if node.param is None else our_shape(node.param)
            return (node.op, node.without, node.grouping, param, our_shape(node.expr))
        case plan.Binary():
            matching = node.matching or plan.Matching()
            labels = (matching.on, sorted(matching.labels), sorted(matching.include))
            sides = (our_shape(node.lhs), our_shape(node.rhs))
            return (node.op, node.return_bool, labels, *sides)
        case plan.Unary():
            return ("sign", our_shape(node.expr)) if node.op == "-" else our_shape(node.expr)
        case plan.Paren() | plan.StepInvariant():
            return our_shape(node.expr)


def _other(node: Any) -> Shape:  # noqa: PLR0911 - one case a node
    match node:
        case other.NumberLiteral():
            return ("number", repr(float(node.val)))
        case other.StringLiteral():
            return ("string", node.val)
        case other.VectorSelector():
            matchers = sorted((m.name, _op(m.op), m.value) for m in node.matchers.matchers)
            offset = _ms(node.offset)
            return ("vector", node.name or "", matchers, offset, _at(node.at))
        case other.MatrixSelector():
            return ("range", _other(node.vector_selector), _ms(node.range))
        case other.SubqueryExpr():
            step = None if node.step is None else _ms(node.step)
            modifiers = (_ms(node.offset), _at(node.at))
            return ("subquery", _other(node.expr), _ms(node.range), step, *modifiers)
        case other.Call():
            return (node.func.name, *map(_other, node.args))
        case other.AggregateExpr():
            without = bool(node.modifier) and node.modifier.type == other.AggModifierType.Without
            labels = tuple(node.modifier.labels) if node.modifier else ()
            param = None if node.param is None else _other(node.param)
            return (str(node.op), without, labels, param, _other(node.expr))
        case other.BinaryExpr():
            sides = (_other(node.lhs), _other(node.rhs))
            return (str(node.op), *_matching(node.modifier), *sides)
        case other.UnaryExpr():
            return ("sign", _other(node.expr))
        case _:
            return _other(node.expr)


def _matching(modifier: Any) -> Shape:
    if modifier is None:
        return (False, (False, [], []))
    on = modifier.matching is not None and modifier.matching.type == other.LabelModifierType.Include
    labels = sorted(modifier.matching.labels) if modifier.matching else []
    include = sorted(modifier.group_labels or [])
    return (modifier.return_bool, (on, labels, include))


def _op(op: Any) -> str:
    names = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}
    return names[str(op).split(".")[-1]]


def _ms(duration: timedelta | None) -> int:
    return 0 if duration is None else round(duration.total_seconds() * 1000)


def _at(modifier: Any) -> str | int | None:
    if modifier is None:
        return None
    if modifier.at is None:
        return str(modifier.type).rsplit(".", maxsplit=1)[-1].lower()
    return round(modifier.at.timestamp() * 1000)
