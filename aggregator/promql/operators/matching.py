"""Which series of two vectors match, by the codes of their labels."""

from dataclasses import dataclass

import numpy as np

from aggregator.errors import QueryExecutionError
from aggregator.model.arrays import Bools, Ints
from aggregator.model.labels import METRIC_NAME, LabelTable
from aggregator.model.stepmatrix import StepMatrix
from aggregator.promql.operators.rows import Groups, format_labels
from aggregator.promql.plan import Matching


def match_labels(series: LabelTable, matching: Matching) -> LabelTable:
    """Return the labels of *series* that have to be equal."""
    if matching.on:
        return series.keep(matching.labels)
    return series.drop((*matching.labels, METRIC_NAME))


def match_groups(left: LabelTable, right: LabelTable, matching: Matching) -> tuple[Groups, Groups]:
    """Return the match groups of the rows on both sides, numbered alike."""
    tables = [match_labels(left, matching), match_labels(right, matching)]
    number, first = LabelTable.concat(tables, left.strings).groups()
    count = first.size
    return Groups.of(number[: len(left)], count), Groups.of(number[len(left) :], count)


@dataclass(frozen=True, slots=True)
class Sides:
    """The two vectors of an operation as the one that may have many series a group, and the other.

    `swapped` tells that the many side is the right one (group_right).
    """

    many: StepMatrix
    one: StepMatrix
    many_groups: Groups
    one_groups: Groups
    swapped: bool

    def pairs(self) -> tuple[Ints, Ints]:
        """Return the rows of many and one side that share a group, pair by pair."""
        many, one = self.many_groups, self.one_groups
        if one.are_rows:
            row_of = np.full(one.count, -1, dtype=np.int64)
            row_of[one.number] = np.arange(one.number.size)
            found = row_of[many.number]
            rows = np.flatnonzero(found >= 0)
            return rows, found[rows]
        sizes = np.bincount(one.number, minlength=one.count)
        begin = np.cumsum(sizes) - sizes
        repeats = sizes[many.number]
        rows = np.repeat(np.arange(many.number.size), repeats)
        within = np.arange(rows.size) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        return rows, one.order[begin[many.number[rows]] + within]

    def check_one(self, active: Bools, matching: Matching) -> None:
        """Raise `QueryExecutionError` if a group has two series of the one side at a step.

        Only steps that are *active*, where the operation has anything to do, count.
        """
        crowded = self.one_groups.crowded(self.one.present) & active
        if not crowded.any():
            return
        step = int(np.argmax(crowded.any(axis=0)))
        rows = np.flatnonzero(self.one.present[:, step])
        numbers = self.one_groups.number[rows]
        _, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
        later = int(np.flatnonzero(first[inverse] != np.arange(rows.size))[0])
        second, earlier = int(rows[later]), int(rows[first[inverse[later]]])
        series = self.one.series
        group = match_labels(series, matching).labels(second)
        side = "left" if self.swapped else "right"
        raise QueryExecutionError(
            f"found duplicate series for the match group {format_labels(group)} on the {side} "
            f"hand-side of the operation: [{format_labels(series.labels(second))}, "
            f"{format_labels(series.labels(earlier))}];many-to-many matching not allowed: "
            "matching labels must be unique on one side"
        )
