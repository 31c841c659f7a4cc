"""The set operators `and`, `or` and `unless`."""

from dataclasses import replace

from aggregator.model.stepmatrix import StepMatrix
from aggregator.promql.operators.matching import match_groups
from aggregator.promql.operators.rows import compact, concat, merge_equal
from aggregator.promql.plan import Matching


def combine_sets(op: str, matching: Matching, left: StepMatrix, right: StepMatrix) -> StepMatrix:
    """Return the series of `left op right`, presence decided step by step."""
    left_groups, right_groups = match_groups(left.series, right.series, matching)
    if op == "or":
        seen = left_groups.any(left.present)[right_groups.number]
        remaining = compact(replace(right, present=right.present & ~seen))
        return merge_equal(concat([left, remaining]))
    seen = right_groups.any(right.present)[left_groups.number]
    wanted = seen if op == "and" else ~seen
    return compact(replace(left, present=left.present & wanted))
