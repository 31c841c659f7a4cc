"""Rewrites of plans; each takes a plan and returns one with the same result."""

from collections.abc import Callable
from typing import Final

from aggregator.promql.plan import Node
from aggregator.promql.rewrites.step_invariant import mark_step_invariant

# Applied in this order.
REWRITES: Final[tuple[Callable[[Node], Node], ...]] = (mark_step_invariant,)


def rewrite(node: Node) -> Node:
    """Return *node* after all rewrites."""
    for apply in REWRITES:
        node = apply(node)
    return node
