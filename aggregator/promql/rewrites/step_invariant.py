"""Evaluates once what is the same at every step: constants, and all that `@` fixes in time."""

from aggregator.promql.functions import ValueType
from aggregator.promql.plan import (
    Call,
    MatrixSelector,
    Node,
    NumberLiteral,
    StepInvariant,
    StringLiteral,
    Subquery,
    VectorSelector,
    children,
    value_type,
    with_children,
)

_EVALUATED_ONCE = frozenset({ValueType.SCALAR, ValueType.VECTOR})


def mark_step_invariant(node: Node) -> Node:
    """Return *node* with its largest step-invariant parts marked."""
    marked, invariant = _visit(node)
    return _mark(marked) if invariant else marked


def _visit(node: Node) -> tuple[Node, bool]:
    """Return *node* with marks below it, and whether it is itself the same at every step."""
    match node:
        case NumberLiteral() | StringLiteral():
            return node, True
        case VectorSelector():
            return node, node.at is not None
        case MatrixSelector():
            return node, node.selector.at is not None
        case _:
            pass
    visited = [_visit(child) for child in children(node)]
    invariant = all(child_invariant for _, child_invariant in visited)
    if isinstance(node, Subquery):  # its expression has a grid of its own
        return with_children(node, tuple(_mark(c) if i else c for c, i in visited)), (
            node.at is not None
        )
    if isinstance(node, Call):
        invariant = invariant and not node.function.step_dependent
    if invariant:
        return with_children(node, tuple(child for child, _ in visited)), True
    return with_children(node, tuple(_mark(c) if i else c for c, i in visited)), False


def _mark(node: Node) -> Node:
    literal = isinstance(node, NumberLiteral | StringLiteral)
    if literal or value_type(node) not in _EVALUATED_ONCE:
        return node
    return StepInvariant(node, node.start, node.end)
