"""Subqueries: an instant vector on a grid of its own, read back as a range vector."""

from collections.abc import Callable

import numpy as np

from aggregator.model.labels import LabelTable
from aggregator.model.stepmatrix import StepMatrix, StepRange
from aggregator.promql.context import Context
from aggregator.promql.operators.selector import RangeVector
from aggregator.promql.plan import Subquery
from aggregator.promql.windows import from_matrix

DEFAULT_STEP_MS = 60_000


def subquery_vector(
    node: Subquery, context: Context, evaluate: Callable[[Context], StepMatrix]
) -> RangeVector:
    """Return the range vector of *node*, whose expression *evaluate* computes.

    The grid is aligned to multiples of the step, beginning after the start of the first window.
    """
    ends = context.ends(node.offset_ms, node.at)
    step = DEFAULT_STEP_MS if node.step_ms is None else node.step_ms
    before = int(ends.min()) - node.range_ms - context.rules.closed_left
    start = (before // step + 1) * step
    end = int(ends.max())
    if end < start:
        none = LabelTable.empty(context.strings)
        return RangeVector(none, np.zeros(0, np.bool_), iter(()), ends, node.range_ms)
    inner = context.at_steps(StepRange.between(start, end, step))
    inner.spend_matrix(1)
    matrix = evaluate(inner)
    samples = from_matrix(matrix, inner.steps.times())
    return RangeVector(matrix.series, matrix.drop_name, iter((samples,)), ends, node.range_ms)
