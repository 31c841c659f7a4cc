"""Arithmetic and comparison between two vectors."""

from dataclasses import dataclass

import numpy as np

from aggregator.errors import QueryExecutionError
from aggregator.model.arrays import Bools, Codes, Floats, Ints
from aggregator.model.budget import Budget
from aggregator.model.labels import METRIC_NAME, LabelTable
from aggregator.model.stepmatrix import StepMatrix
from aggregator.promql.operators.arithmetic import ARITHMETIC, calculate
from aggregator.promql.operators.matching import Sides, match_groups, match_labels
from aggregator.promql.operators.rows import METADATA, Groups, compact, merge_equal
from aggregator.promql.plan import Binary, Cardinality, Matching

_IMPLICIT = (
    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
)
_AMBIGUOUS = "multiple matches for labels: grouping labels must ensure unique matches"


@dataclass(frozen=True, slots=True)
class _Results:
    """Results before filtering: series, values, where both sides matched, where it is kept."""

    series: LabelTable
    values: Floats
    matched: Bools
    kept: Bools
    groups: Ints
    drop_name: Bools


def vector_vector(
    node: Binary, matching: Matching, left: StepMatrix, right: StepMatrix, budget: Budget
) -> StepMatrix:
    """Return `left op right`, series matched as *matching* says, step by step as in Prometheus.

    Raises `QueryExecutionError` where at any step the matching is not unique.
    """
    sides = _sides(matching, left, right)
    filled = matching.fill_one is not None or matching.fill_many is not None
    some_many: Bools = np.logical_or.reduce(sides.many.present, axis=0)
    some_one: Bools = np.logical_or.reduce(sides.one.present, axis=0)
    active: Bools = np.logical_or(some_many, some_one) if filled else some_many & some_one
    sides.check_one(active, matching)
    operation = _Operation(node, matching, sides, budget)
    results = [operation.matched()]
    if matching.fill_one is not None:
        results.append(operation.filled_one(matching.fill_one))
    if matching.fill_many is not None:
        results.append(operation.filled_many(matching.fill_many))
    return _checked(_stack(results), matching)


def _sides(matching: Matching, left: StepMatrix, right: StepMatrix) -> Sides:
    left_groups, right_groups = match_groups(left.series, right.series, matching)
    if matching.cardinality is Cardinality.ONE_TO_MANY:
        return Sides(right, left, right_groups, left_groups, swapped=True)
    return Sides(left, right, left_groups, right_groups, swapped=False)


@dataclass(frozen=True, slots=True)
class _Operation:
    node: Binary
    matching: Matching
    sides: Sides
    budget: Budget

    def matched(self) -> _Results:
        """Return the results of the pairs of series that match."""
        many, one = self.sides.many, self.sides.one
        many_rows, one_rows = self.sides.pairs()
        self.budget.spend_bytes(many_rows.size * many.values.shape[1] * 10)
        # each row once; where a group has several on the one side, rows come more than once
        whole = self.sides.one_groups.are_rows and many_rows.size == len(many.series)
        values = many.values if whole else many.values[many_rows]
        present = many.present if whole else many.present[many_rows]
        return self._results(
            series=many.series.take(many_rows),
            include={name: one.series.column(name)[one_rows] for name in self.matching.include},
            values=(values, one.values[one_rows]),
            matched=present & one.present[one_rows],
            groups=self.sides.many_groups.number[many_rows],
            drop_name=many.drop_name[many_rows],
        )

    def filled_one(self, fill: float) -> _Results:
        """Return the results of the many side's series where the one side has none."""
        many, groups = self.sides.many, self.sides.many_groups
        missing = many.present & ~self.sides.one_groups.any(self.sides.one.present)[groups.number]
        kept = match_labels(many.series, self.matching)
        return self._results(
            series=many.series,
            include={name: kept.column(name) for name in self.matching.include},
            values=(many.values, np.full((1, 1), fill)),
            matched=missing,
            groups=groups.number,
            drop_name=many.drop_name,
        )

    def filled_many(self, fill: float) -> _Results:
        """Return the results of the one side's series where the many side has none."""
        one, groups = self.sides.one, self.sides.one_groups
        missing = one.present & ~self.sides.many_groups.any(self.sides.many.present)[groups.number]
        return self._results(
            series=match_labels(one.series, self.matching),
            include={name: one.series.column(name) for name in self.matching.include},
            values=(np.full((1, 1), fill), one.values),
            matched=missing,
            groups=groups.number,
            drop_name=np.zeros(len(one.series), dtype=np.bool_),
        )

    def _results(
        self,
        *,
        series: LabelTable,
        include: dict[str, Codes],
        values: tuple[Floats, Floats],
        matched: Bools,
        groups: Ints,
        drop_name: Bools,
    ) -> _Results:
        many_values, one_values = values
        sides = (one_values, many_values) if self.sides.swapped else (many_values, one_values)
        result, kept = calculate(self.node.op, *sides, return_bool=self.node.return_bool)
        if self.node.return_bool:
            drop_name = np.ones_like(drop_name)
        return _Results(
            self._labels(series, include), result, matched, matched & kept, groups, drop_name
        )

    def _labels(self, series: LabelTable, include: dict[str, Codes]) -> LabelTable:
        matching = self.matching
        if self.node.op in ARITHMETIC:
            series = series.drop(METADATA)
        if matching.cardinality is Cardinality.ONE_TO_ONE:
            labels = matching.labels
            series = series.keep(labels) if matching.on else series.drop(labels)
        for name, codes in include.items():
            series = series.with_column(name, codes)
        return series


def _stack(results: list[_Results]) -> _Results:
    if len(results) == 1:
        return results[0]
    return _Results(
        LabelTable.concat([part.series for part in results], results[0].series.strings),
        np.concatenate([part.values for part in results]),
        np.concatenate([part.matched for part in results]),
        np.concatenate([part.kept for part in results]),
        np.concatenate([part.groups for part in results]),
        np.concatenate([part.drop_name for part in results]),
    )


def _checked(results: _Results, matching: Matching) -> StepMatrix:
    """Return the kept results once it is sure that no two of one step have the same labels."""
    result = StepMatrix(results.series, results.values, results.kept, results.drop_name)
    count = int(results.groups.max(initial=-1)) + 1
    groups = Groups.of(results.groups, count)
    if matching.cardinality is Cardinality.ONE_TO_ONE:
        if groups.crowded(results.matched).any():
            raise QueryExecutionError(_IMPLICIT)
        # One series of a group at a step, and its labels but for the name are the group's own.
        named = METRIC_NAME in results.series.names
        return compact(result) if groups.are_rows and not named else compact(merge_equal(result))
    number, first = results.series.groups()
    if first.size == number.size:
        return compact(result)
    joint = number * max(count, 1) + results.groups
    distinct, joint = np.unique(joint, return_inverse=True)
    if Groups.of(joint, distinct.size).crowded(results.matched).any():
        raise QueryExecutionError(_AMBIGUOUS)
    return compact(merge_equal(result))
