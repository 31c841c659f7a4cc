"""How many samples a query looks at, at each of its steps: what Prometheus calls queryable samples.

A sample counts once for each step whose window or lookback holds it. Counting is a pass of its own
over the selectors, made only for who asks, so that no way of computing a query has to count.
"""

from typing import Final

import numpy as np

from aggregator.model.arrays import Ints
from aggregator.model.labels import LabelTable
from aggregator.model.stepmatrix import StepMatrix, StepRange
from aggregator.promql.context import Context
from aggregator.promql.evaluate import evaluate
from aggregator.promql.functions import FUNCTIONS
from aggregator.promql.operators.subquery import subquery_vector
from aggregator.promql.plan import (
    Call,
    MatrixSelector,
    Node,
    StepInvariant,
    Subquery,
    VectorSelector,
    children,
)

_COUNT: Final = FUNCTIONS["count_over_time"]


def samples_per_step(node: Node, context: Context) -> Ints:
    """Return how many samples *node* looks at, at each step of *context*, int64 `[T]`."""
    per_step: Ints
    match node:
        case VectorSelector():
            per_step = evaluate(node, context).present.sum(axis=0, dtype=np.int64)
        case MatrixSelector():
            per_step = _in_windows(node, context)
        case Subquery():
            per_step = _in_windows(node, context)
            per_step[-1] += _below(node, context)
        case StepInvariant():
            steps = context.steps
            once = context.at_steps(StepRange(steps.start_ms, steps.step_ms, 1))
            per_step = np.repeat(samples_per_step(node.expr, once), steps.count)
        case Call() if node.function.name == "info":  # its second argument only names labels
            per_step = samples_per_step(node.args[0], context)
        case _:
            per_step = np.zeros(context.steps.count, dtype=np.int64)
            for child in children(node):
                per_step += samples_per_step(child, context)
    return per_step


def _in_windows(node: MatrixSelector | Subquery, context: Context) -> Ints:
    counts = evaluate(Call(_COUNT, (node,)), context)
    per_step: Ints = np.where(counts.present, counts.values, 0.0).sum(axis=0).astype(np.int64)
    return per_step


def _below(node: Subquery, context: Context) -> int:
    """Return how many samples the steps of the subquery *node* look at, all together."""
    total = 0

    def count(inner: Context) -> StepMatrix:
        nonlocal total
        total = int(samples_per_step(node.expr, inner).sum())
        none = LabelTable.empty(inner.strings)
        shape = (0, inner.steps.count)
        return StepMatrix(none, np.zeros(shape), np.zeros(shape, np.bool_), np.zeros(0, np.bool_))

    subquery_vector(node, context, count)
    return total
