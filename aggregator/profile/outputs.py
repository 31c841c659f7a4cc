"""Which labels a PromQL expression returns, read off its tree."""

from typing import TypeAlias

import promql_parser as promql

# None stands for labels that only the data knows.
LabelNames: TypeAlias = frozenset[str] | None

_NOTHING: frozenset[str] = frozenset()
_SCALAR_FUNCTIONS = frozenset({"pi", "scalar", "time"})
_WITHOUT_LABELS = frozenset({"absent", "absent_over_time", "vector"})
_KEEPING = frozenset({"topk", "bottomk", "limitk", "limit_ratio"})


def output_labels(node: promql.Expr) -> LabelNames:
    """Return the label names of the series that *node* returns, None if any are possible."""
    match node:
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            return output_labels(node.expr)
        case promql.NumberLiteral() | promql.StringLiteral():
            return _NOTHING
        case promql.AggregateExpr():
            return _aggregated(node)
        case promql.Call():
            return _called(node)
        case promql.BinaryExpr():
            return _combined(node)
        case _:
            return None


def _aggregated(node: promql.AggregateExpr) -> LabelNames:
    inner = output_labels(node.expr)
    if str(node.op) in _KEEPING:
        return inner
    if node.modifier is None:
        kept: LabelNames = _NOTHING
    elif node.modifier.type == promql.AggModifierType.By:
        kept = frozenset(node.modifier.labels)
    else:
        kept = None if inner is None else inner - frozenset(node.modifier.labels)
    if str(node.op) == "count_values" and isinstance(node.param, promql.StringLiteral):
        return _plus(kept, node.param.val)
    return kept


def _called(node: promql.Call) -> LabelNames:
    name = node.func.name
    if name in _WITHOUT_LABELS or name in _SCALAR_FUNCTIONS:
        return _NOTHING
    vectors = [argument for argument in node.args if not _is_scalar(argument)]
    inner = output_labels(vectors[0]) if vectors else _NOTHING
    if name == "histogram_quantile":
        return None if inner is None else inner - {"le"}
    if name in ("label_replace", "label_join"):
        target = node.args[1]
        return _plus(inner, target.val) if isinstance(target, promql.StringLiteral) else None
    return inner


def _combined(node: promql.BinaryExpr) -> LabelNames:
    if _is_scalar(node.lhs):
        return output_labels(node.rhs)
    left = output_labels(node.lhs)
    if _is_scalar(node.rhs) or str(node.op) in ("and", "unless"):
        return left
    right = output_labels(node.rhs)
    if str(node.op) == "or":
        return None if left is None or right is None else left | right
    return left if node.modifier is None else _matched(left, right, node.modifier)


def _matched(left: LabelNames, right: LabelNames, modifier: promql.BinModifier) -> LabelNames:
    """Return what matching keeps: of one to one the labels of `on`, or all but those ignored."""
    if modifier.card != promql.VectorMatchCardinality.OneToOne:
        many = left if modifier.card == promql.VectorMatchCardinality.ManyToOne else right
        return None if many is None else many | frozenset(modifier.group_labels or ())
    if modifier.matching is None:
        return left
    named = frozenset(modifier.matching.labels)
    if modifier.matching.type == promql.LabelModifierType.Include:
        return named if left is None else left & named
    return None if left is None else left - named


def _plus(labels: LabelNames, name: str) -> LabelNames:
    return None if labels is None else labels | {name}


def _is_scalar(node: promql.Expr) -> bool:
    match node:
        case promql.ParenExpr() | promql.UnaryExpr():
            return _is_scalar(node.expr)
        case promql.NumberLiteral() | promql.StringLiteral():
            return True
        case promql.Call():
            return node.func.name in _SCALAR_FUNCTIONS
        case promql.BinaryExpr():
            return _is_scalar(node.lhs) and _is_scalar(node.rhs)
        case _:
            return False
