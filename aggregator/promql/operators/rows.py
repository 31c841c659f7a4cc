"""Rows in groups: what aggregation, matching and the merging of equal label sets share."""

from collections.abc import Iterator
from typing import TypeVar

import numpy as np

from aggregator.errors import QueryExecutionError
from aggregator.model.arrays import Bools, Floats, Ints, every
from aggregator.model.labels import METRIC_NAME, LabelTable
from aggregator.model.record import record
from aggregator.model.stepmatrix import StepMatrix

Values = TypeVar("Values", Floats, Ints)

# What goes when the metric name goes (Prometheus's metadata labels).
METADATA = (METRIC_NAME, "__type__", "__unit__")
SAME_LABELS = "vector cannot contain metrics with the same labelset"

# Work on more cells than this goes step block by step block, to stay in the processor's cache.
_BLOCK_CELLS = 2**18


@record
class Groups:
    """Rows sorted by group: `order` are row numbers, `first` where in it each group begins.

    `number` is the group of each row, `count` how many groups there are; `members` are the numbers
    of the groups that have rows, in the order of `first`, and `sizes` how many they have.
    """

    number: Ints
    count: int
    order: Ints
    first: Ints
    members: Ints
    sizes: Ints

    @staticmethod
    def of(number: Ints, count: int) -> "Groups":
        """Return the groups of rows whose group is *number*, one of *count*."""
        order = number.argsort(kind="stable")
        sizes = np.bincount(number, minlength=count)
        members = sizes.nonzero()[0]
        if members.size < count:
            sizes = sizes[members]
        return Groups(number, count, order, sizes.cumsum() - sizes, members, sizes)

    @staticmethod
    def whole(rows: int) -> "Groups":
        """Return one group of all *rows*, of which there are some."""
        first = np.zeros(1, np.int64)
        number = np.zeros(rows, np.int64)
        return Groups(number, 1, np.arange(rows), first, first, np.array([rows]))

    @property
    def are_rows(self) -> bool:
        """Whether no group has more than one row."""
        return self.first.size == self.number.size

    def running(self, flags: Bools) -> Ints:
        """Count, for each row and step, the *flags* of its group up to and with that row."""
        ordered = flags[self.order]
        total = np.cumsum(ordered, axis=0, dtype=np.int32)
        before = total[self.first] - ordered[self.first]
        total -= np.repeat(before, self.sizes, axis=0)
        counts = np.empty(flags.shape, dtype=np.int64)
        counts[self.order] = total
        return counts

    def any(self, present: Bools) -> Bools:
        """Tell whether any row of each group is *present* at each step, `[count, T]`."""
        if self.members.size == self.count and every(present):
            return np.ones((self.count, present.shape[1]), dtype=np.bool_)
        found = np.zeros((self.count, present.shape[1]), dtype=np.bool_)
        if self.are_rows:
            found[self.number] = present
        else:
            found[self.members] = np.logical_or.reduceat(present[self.order], self.first, axis=0)
        return found

    def counts(self, present: Bools) -> Ints:
        """Return how many rows of each group are *present* at each step, `[count, T]`."""
        counts = np.zeros((self.count, present.shape[1]), dtype=np.int64)
        if every(present):
            counts[self.members] = self.sizes[:, None]
        elif present.any():
            ordered = present[self.order]
            counts[self.members] = np.add.reduceat(ordered, self.first, axis=0, dtype=np.int64)
        return counts

    def spread(self, values: Values) -> Values:
        """Return what each row's group has of *values*, `[count, T]`: `[rows, T]`, or its one row.

        If there is one group only, its row stands for all.
        """
        return values if self.count == 1 else values[self.number]

    def crowded(self, present: Bools) -> Bools:
        """Tell where more than one row of a group is *present*, `[count, T]`."""
        if self.are_rows:
            return np.zeros((0, present.shape[1]), dtype=np.bool_)
        crowded: Bools = self.counts(present) > 1
        return crowded


def step_blocks(rows: int, steps: int) -> Iterator[slice]:
    """Yield slices of the steps, so that *rows* of them stay small."""
    width = max(1, _BLOCK_CELLS // max(1, rows))
    for start in range(0, steps, width):
        yield slice(start, min(start + width, steps))


def compact(matrix: StepMatrix) -> StepMatrix:
    """Return *matrix* without the series that have no value at any step."""
    if every(matrix.present):
        return matrix
    wanted = matrix.present.any(axis=1)
    return matrix if wanted.all() else take(matrix, np.flatnonzero(wanted))


def take(matrix: StepMatrix, rows: Ints) -> StepMatrix:
    """Return the chosen rows, in that order."""
    return StepMatrix(
        matrix.series.take(rows), matrix.values[rows], matrix.present[rows], matrix.drop_name[rows]
    )


def concat(matrices: list[StepMatrix]) -> StepMatrix:
    """Stack matrices whose label tables share one dictionary."""
    if len(matrices) == 1:
        return matrices[0]
    return StepMatrix(
        LabelTable.concat([matrix.series for matrix in matrices], matrices[0].series.strings),
        np.concatenate([matrix.values for matrix in matrices]),
        np.concatenate([matrix.present for matrix in matrices]),
        np.concatenate([matrix.drop_name for matrix in matrices]),
    )


def merge_equal(matrix: StepMatrix) -> StepMatrix:
    """Join rows with equal labels into one; two values at one step are an error as in Prometheus.

    Raises `QueryExecutionError`.
    """
    number, first_rows = matrix.series.groups()
    if first_rows.size == len(matrix.series):
        return matrix
    groups = Groups.of(number, first_rows.size)
    if groups.crowded(matrix.present).any():
        raise QueryExecutionError(SAME_LABELS)
    rows = np.arange(number.size, dtype=np.int64)[:, None]
    numbered = np.where(matrix.present, rows, -1)[groups.order]
    chosen = np.maximum.reduceat(numbered, groups.first, axis=0)
    return StepMatrix(
        matrix.series.take(first_rows),
        np.take_along_axis(matrix.values, np.maximum(chosen, 0), axis=0),
        chosen >= 0,
        np.logical_or.reduceat(matrix.drop_name[groups.order], groups.first),
    )


def format_labels(labels: dict[str, str]) -> str:
    """Return a label set as Prometheus prints it, name included."""
    pairs = (f'{name}="{value.translate(_QUOTED)}"' for name, value in sorted(labels.items()))
    return "{" + ", ".join(pairs) + "}"


_QUOTED = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
