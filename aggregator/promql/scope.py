"""Scopes: matchers that everything a caller may see has to pass.

A label that a scope names but a series lacks counts as empty, as in PromQL. A scope is put on
every read by the leaf planner (`Context.select`); no query text is ever rewritten.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from aggregator.errors import QueryExecutionError
from aggregator.model.labels import Matcher
from aggregator.promql.check import matches
from aggregator.promql.cursor import Cursor
from aggregator.promql.lex import Kind
from aggregator.promql.plan import (
    Aggregate,
    Binary,
    Call,
    MatrixSelector,
    Node,
    NumberLiteral,
    Paren,
    StepInvariant,
    StringLiteral,
    Subquery,
    Unary,
    VectorSelector,
    children,
)
from aggregator.promql.selectors import selector

# The nodes known to read through the leaf planner alone. A new one is refused within a scope until
# somebody has looked at what it reads and has put it here.
_KNOWN: Final = frozenset(
    {
        Aggregate, Binary, Call, MatrixSelector, NumberLiteral, Paren, StepInvariant,
        StringLiteral, Subquery, Unary, VectorSelector,
    }
)  # fmt: skip


def parse_scope(text: str) -> tuple[Matcher, ...]:
    """Return the matchers of *text*, written as between the braces of a selector.

    Raises `QuerySyntaxError`; an empty text has no matchers.
    """
    cursor = Cursor(f"{{{text}}}")
    node = selector(cursor, cursor.token, "")
    if not cursor.on(Kind.END):
        raise cursor.unexpected("label matching", "nothing more")
    if node.end != len(text) + 2:
        raise cursor.error(node.end, "nothing may follow the matchers, not even a comment")
    return node.matchers


def admits(scope: Sequence[Matcher], labels: Mapping[str, str]) -> bool:
    """Tell whether what carries *labels* is within *scope*."""
    return all(matches(matcher, labels.get(matcher.name, "")) for matcher in scope)


def check_plan(node: Node) -> None:
    """Raise `QueryExecutionError` for a plan with a node that might read outside of a scope."""
    if type(node) not in _KNOWN:
        raise QueryExecutionError(
            f"{type(node).__name__} is not available to a token that is restricted by `match`"
        )
    for child in children(node):
        check_plan(child)
