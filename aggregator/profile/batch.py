"""Asks for many fleet metrics in one request, and finds the one that makes a request fail.

Expressions are joined by `or`. Since `or` matches without the metric name, each branch is tagged
with an ordinary label; since a chain re-hashes its left side k times, the tree is balanced.
"""

from collections.abc import Sequence

from aggregator.profile.format import Bound, EmptyMeans
from aggregator.profile.transforms import NAMESPACE_TRANSFORMS

RULE_LABEL = "__rule__"
MAX_EXPRESSIONS = 50
DEFAULT_WINDOW = "5m"

# Rows with this tag are not stored: they tell which namespaces there are.
NAMESPACES_TAG = "namespaces"
_NAMESPACES = "max by (namespace) (kube_namespace_created{$sel})"


def substitute(expr: str, selector: str, window: str = DEFAULT_WINDOW) -> str:
    """Return *expr* with `$sel` and `$window` filled in; *selector* may be empty."""
    matchers = selector.strip().rstrip(",")
    return expr.replace("$window", window).replace("$sel", matchers)


def tagged_union(expressions: Sequence[tuple[str, str]]) -> str:
    """Return one expression for all (tag, expression) pairs: a balanced tree of `or`.

    Each row of the answer carries its tag in the label `__rule__`. Raises ValueError if there are
    no expressions.
    """
    if not expressions:
        raise ValueError("nothing to ask")
    branches = [
        f'label_replace({expr}, "{RULE_LABEL}", "{tag}", "", "")' for tag, expr in expressions
    ]
    while len(branches) > 1:
        paired = zip(branches[::2], branches[1::2], strict=False)
        odd = branches[-1:] if len(branches) % 2 else []
        branches = [*(f"({left} or {right})" for left, right in paired), *odd]
    return branches[0]


def batch_expression(bound: Sequence[Bound], selector: str, window: str = DEFAULT_WINDOW) -> str:
    """Return the expression that asks for all of *bound*; row tags are positions in it.

    Derived metrics are left out: `normalize` computes them from the answer. Raises ValueError if
    nothing remains; `batches` never makes such a batch.
    """
    asked = [
        (str(position), _asked(item))
        for position, item in enumerate(bound)
        if item.candidate.expr is not None
    ]
    if any(_needs_namespaces(item) for item in bound):
        asked.append((NAMESPACES_TAG, _NAMESPACES))
    return substitute(tagged_union(asked), selector, window)


def _asked(item: Bound) -> str:
    """Return the candidate's expression; empty is zero where the metric says so.

    `or on ()` adds its right side only if the left one is empty altogether.
    """
    expr = item.candidate.expr or ""
    if item.metric.empty_means is EmptyMeans.ZERO:
        return f"({expr}) or on () 0 * count({item.metric.presence})"
    return expr


def _needs_namespaces(item: Bound) -> bool:
    sources = item.candidate.map.values()
    return any(source.transform in NAMESPACE_TRANSFORMS for source in sources)


def batches(bound: Sequence[Bound], size: int = MAX_EXPRESSIONS) -> list[tuple[Bound, ...]]:
    """Split *bound* into batches of at most *size* expressions, in order.

    What must be in one answer stays together: the candidates of a union, and a metric with what is
    derived from it. A metric with more than *size* candidates has a batch of its own.
    """
    filled: list[tuple[Bound, ...]] = []
    room = 0
    for family in _families(bound):
        if len(family) > room:
            filled.append(())
            room = size
        filled[-1] += family
        room -= len(family)
    return filled


def halves(batch: Sequence[Bound]) -> tuple[tuple[Bound, ...], tuple[Bound, ...]]:
    """Split a failing batch in two, to find which expression is to blame.

    The second half is empty when one expression is left: that is the one.
    """
    families = _families(batch)
    if len(families) > 1:
        middle = len(families) // 2
        first = tuple(item for family in families[:middle] for item in family)
        return first, tuple(item for family in families[middle:] for item in family)
    asked = [item for item in batch if item.candidate.expr is not None]
    derived = [item for item in batch if item.candidate.expr is None]
    middle = (len(asked) + 1) // 2
    return (*asked[:middle], *derived), tuple(asked[middle:])


def _families(bound: Sequence[Bound]) -> list[tuple[Bound, ...]]:
    """Group what must be answered together; a derived metric without its source is left out."""
    families: dict[str, tuple[Bound, ...]] = {}
    for item in bound:
        if item.candidate.derive is None:
            families[item.metric.name] = (*families.get(item.metric.name, ()), item)
    for item in bound:
        derive = item.candidate.derive
        if derive is not None and derive.metric in families:
            families[derive.metric] += (item,)
    return list(families.values())
