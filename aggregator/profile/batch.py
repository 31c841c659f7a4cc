"""Asks for many fleet metrics in one request, and finds the one that makes a request fail.

Expressions are joined by `or`. Since `or` matches without the metric name, each branch is tagged
with an ordinary label; since a chain re-hashes its left side k times, the tree is balanced.
"""

import re
from collections.abc import Mapping, Sequence

from aggregator.profile.format import Bound
from aggregator.profile.transforms import AGENTS, HOSTS, NAMESPACES, NEEDS, NODES

RULE_LABEL = "__rule__"
MAX_EXPRESSIONS = 80
# VictoriaMetrics refuses longer queries unless it is told otherwise.
MAX_QUERY_BYTES = 16_000
DEFAULT_WINDOW = "5m"

# Rows with these tags are not stored: transforms look names up in them.
LOOKED_UP: Mapping[str, str] = {
    NAMESPACES: "max by (namespace) (kube_namespace_created{$sel})",
    NODES: "max by (node, internal_ip) (kube_node_info{$sel})",
    HOSTS: "max by (instance, node, nodename, namespace, pod) (node_uname_info{$sel})",
    AGENTS: (
        "max by (namespace, pod, node) "
        "(kube_pod_info{$sel} and on (namespace, pod) node_uname_info{$sel})"
    ),
}

_SELECTOR = re.compile(r",?\s*\$sel\b")
_TAGGED = f'(label_replace(, "{RULE_LABEL}", "namespaces", "", "") or )'


def substitute(expr: str, selector: str, window: str = DEFAULT_WINDOW) -> str:
    """Return *expr* with `$sel` and `$window` filled in; *selector* may be empty."""
    matchers = selector.strip().rstrip(",")
    if not matchers:
        return _SELECTOR.sub("", expr).replace("$window", window)
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
    asked += [(tag, LOOKED_UP[tag]) for tag in _looked_up(bound)]
    return substitute(tagged_union(asked), selector, window)


def _asked(item: Bound) -> str:
    """Return the candidate's expression; empty is zero where the metric says so.

    `or on ()` adds its right side only if the left one is empty altogether.
    """
    expr = item.candidate.expr or ""
    if item.presence is not None:
        return f"({expr}) or on () 0 * count({item.presence})"
    return expr


def _looked_up(bound: Sequence[Bound]) -> list[str]:
    """Return the tags of what the transforms of *bound* look names up in."""
    sources = [source for item in bound for source in item.candidate.map.values()]
    needed = {tag for source in sources for tag in NEEDS.get(source.transform or "", ())}
    return [tag for tag in LOOKED_UP if tag in needed]


def batches(
    bound: Sequence[Bound], size: int = MAX_EXPRESSIONS, selector: str = ""
) -> list[tuple[Bound, ...]]:
    """Split *bound* into as few batches as fit a query, each of about the same length.

    A batch has at most *size* expressions. What must be in one answer stays together: the
    candidates of a union, and a metric with what is derived from it; a family that is larger has a
    batch of its own. Histograms come last and apart: they cost most, and where a server gives up on
    them the others have been answered.
    """
    families = sorted(_families(bound), key=_looked_up)
    costly = [family for family in families if _is_costly(family)]
    cheap = [family for family in families if not _is_costly(family)]
    return [*_packed(cheap, size, selector), *_packed(costly, size, selector)]


def _is_costly(family: Sequence[Bound]) -> bool:
    return any("_bucket" in (item.candidate.expr or "") for item in family)


def _packed(
    families: Sequence[tuple[Bound, ...]], size: int, selector: str
) -> list[tuple[Bound, ...]]:
    """Fill batches one after the other, up to an even share of the whole."""
    lengths = [sum(length(expr, selector) for expr in _exprs(family)) for family in families]
    room = MAX_QUERY_BYTES - sum(length(expr, selector) for expr in LOOKED_UP.values())
    count = sum(map(len, families))
    parts = max(-(-sum(lengths) // room), -(-count // size), 1)
    share_bytes, share = sum(lengths) / parts, count / parts
    filled: list[tuple[Bound, ...]] = []
    used = 0
    for family, needed in zip(families, lengths, strict=True):
        before = filled[-1] if filled else ()
        full = len(before) + len(family) > size or used + needed > room
        if not filled or full or (used >= share_bytes and len(before) >= share):
            filled.append(())
            used = 0
        filled[-1] += family
        used += needed
    return filled


def _exprs(family: Sequence[Bound]) -> list[str]:
    return [_asked(item) for item in family if item.candidate.expr is not None]


def length(expr: str, selector: str) -> int:
    """Return how many bytes *expr* adds to a query, at most."""
    return len(substitute(expr, selector).encode()) + len(_TAGGED)


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
