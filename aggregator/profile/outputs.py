"""Which labels a PromQL expression returns, read off its plan."""

from typing import TypeAlias

from aggregator.promql.functions import ValueType
from aggregator.promql.plan import (
    Aggregate,
    Binary,
    Call,
    Cardinality,
    Matching,
    Node,
    NumberLiteral,
    Paren,
    StepInvariant,
    StringLiteral,
    Subquery,
    Unary,
    value_type,
)

# None stands for labels that only the data knows.
LabelNames: TypeAlias = frozenset[str] | None

_NOTHING: frozenset[str] = frozenset()
_WITHOUT_LABELS = frozenset({"absent", "absent_over_time", "vector"})
_KEEPING = frozenset({"topk", "bottomk", "limitk", "limit_ratio"})


def output_labels(node: Node) -> LabelNames:
    """Return the label names of the series that *node* returns, None if any are possible."""
    match node:
        case NumberLiteral() | StringLiteral():
            return _NOTHING
        case Paren() | Unary() | Subquery() | StepInvariant():
            return output_labels(node.expr)
        case Aggregate():
            return _aggregated(node)
        case Call():
            return _called(node)
        case Binary():
            return _combined(node)
        case _:
            return None


def _aggregated(node: Aggregate) -> LabelNames:
    inner = output_labels(node.expr)
    if node.op in _KEEPING:
        return inner
    named = frozenset(node.grouping)
    kept: LabelNames = named
    if node.without:
        kept = None if inner is None else inner - named
    if node.op == "count_values" and isinstance(node.param, StringLiteral):
        return _plus(kept, node.param.value)
    return kept


def _called(node: Call) -> LabelNames:
    name = node.function.name
    if name in _WITHOUT_LABELS or node.function.returns is ValueType.SCALAR:
        return _NOTHING
    plain = (ValueType.SCALAR, ValueType.STRING)
    vectors = [argument for argument in node.args if value_type(argument) not in plain]
    inner = output_labels(vectors[0]) if vectors else _NOTHING
    if name == "histogram_quantile":
        return None if inner is None else inner - {"le"}
    if name in ("label_replace", "label_join"):
        target = node.args[1]
        return _plus(inner, target.value) if isinstance(target, StringLiteral) else None
    return inner


def _combined(node: Binary) -> LabelNames:
    if value_type(node.lhs) is ValueType.SCALAR:
        return output_labels(node.rhs)
    left = output_labels(node.lhs)
    if value_type(node.rhs) is ValueType.SCALAR or node.op in ("and", "unless"):
        return left
    right = output_labels(node.rhs)
    if node.op == "or":
        return None if left is None or right is None else left | right
    return left if node.matching is None else _matched(left, right, node.matching)


def _matched(left: LabelNames, right: LabelNames, matching: Matching) -> LabelNames:
    """Return what matching keeps: of one to one the labels of `on`, or all but those ignored."""
    if matching.cardinality is not Cardinality.ONE_TO_ONE:
        many = left if matching.cardinality is Cardinality.MANY_TO_ONE else right
        return None if many is None else many | frozenset(matching.include)
    named = frozenset(matching.labels)
    if matching.on:
        return named if left is None else left & named
    return None if left is None else left - named


def _plus(labels: LabelNames, name: str) -> LabelNames:
    return None if labels is None else labels | {name}
