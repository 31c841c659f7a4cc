"""Evaluates queries: parse, rewrite, evaluate, and give the result its final form."""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from aggregator.errors import QueryExecutionError, QuerySyntaxError
from aggregator.model.arrays import Bools, Ints, every, some
from aggregator.model.budget import Budget
from aggregator.model.labels import LabelTable, Matcher
from aggregator.model.samples import SeriesSamples
from aggregator.model.stepmatrix import StepMatrix, StepRange
from aggregator.promql.context import Context
from aggregator.promql.counting import samples_per_step
from aggregator.promql.cursor import QueryTimes
from aggregator.promql.evaluate import evaluate, evaluate_range
from aggregator.promql.functions import ValueType
from aggregator.promql.operators.order import label_order
from aggregator.promql.operators.rows import METADATA, SAME_LABELS, merge_equal, take
from aggregator.promql.operators.selector import RangeVector
from aggregator.promql.parse import parse
from aggregator.promql.plan import (
    MatrixSelector,
    Node,
    StringLiteral,
    Subquery,
    unwrap,
    value_type,
)
from aggregator.promql.result import QueryResult, RangeSamples, ResultKind
from aggregator.promql.rewrites import rewrite
from aggregator.promql.scope import check_plan
from aggregator.promql.windows import PROMETHEUS_3, WindowRules, without_stale
from aggregator.store.interface import GridReader, SeriesReader

MAX_POINTS = 11_000
LOOKBACK_MS = 300_000
# Plans of longer queries are not kept, so that the cache stays small.
_CACHED_CHARACTERS = 4_096
# Durations that depend on the query's own times, which the plan then depends on too.
_TIMED = re.compile(r"\b(?:step|range)\b", re.IGNORECASE)


class Engine:
    """Answers PromQL over *reader*; safe to use from many threads at once.

    *max_points* bounds the points of a series in a range query. A query with a scope reads only
    series that its matchers match as well. Both ways to ask raise `QueryError`s, and `StoreError`
    from the reader.
    """

    def __init__(
        self,
        reader: SeriesReader,
        *,
        lookback_ms: int = LOOKBACK_MS,
        max_points: int = MAX_POINTS,
        rules: WindowRules = PROMETHEUS_3,
    ) -> None:
        self._reader = reader
        self._grids = reader if isinstance(reader, GridReader) else None
        self._lookback_ms = lookback_ms
        self._max_points = max_points
        self._rules = rules

    def instant(
        self,
        query: str,
        time_ms: int,
        budget: Budget,
        *,
        lookback_ms: int | None = None,
        scope: Sequence[Matcher] = (),
    ) -> QueryResult:
        """Return the value of *query* at *time_ms*; of a range selector, in order of labels."""
        steps = StepRange.instant(time_ms)
        plan = _plan(query, steps, scope)
        context = self._context(query, steps, budget, lookback_ms, scope)
        match unwrap(plan):
            case StringLiteral(value=text):
                return _result(ResultKind.STRING, context, text=text)
            case MatrixSelector() | Subquery() as ranged:
                ranges = _samples(evaluate_range(ranged, context), budget)
                ranges = ranges.take(label_order(ranges.labels))
                return _result(ResultKind.MATRIX, context, ranges=ranges)
            case _:
                scalar = value_type(plan) is ValueType.SCALAR
                kind = ResultKind.SCALAR if scalar else ResultKind.VECTOR
                return _result(kind, context, _finished(evaluate(plan, context)))

    def range(
        self,
        query: str,
        steps: StepRange,
        budget: Budget,
        *,
        lookback_ms: int | None = None,
        scope: Sequence[Matcher] = (),
    ) -> QueryResult:
        """Return the value of *query* at each of *steps*, rows in the order of their labels."""
        if steps.count - 1 > self._max_points:
            raise QuerySyntaxError(
                f"exceeded maximum resolution of {self._max_points:,} points per timeseries. "
                "Try decreasing the query resolution (?step=XX)"
            )
        plan = _plan(query, steps, scope)
        found = value_type(plan)
        if found not in {ValueType.SCALAR, ValueType.VECTOR}:
            raise QuerySyntaxError(
                f'invalid expression type "{found.value}" for range query, '
                "must be Scalar or instant Vector"
            )
        context = self._context(query, steps, budget, lookback_ms, scope)
        matrix = _finished(evaluate(plan, context))
        if len(matrix.series) > 1:
            matrix = take(matrix, label_order(matrix.series))
        return _result(ResultKind.MATRIX, context, matrix)

    def samples_per_step(
        self,
        query: str,
        steps: StepRange,
        budget: Budget,
        *,
        lookback_ms: int | None = None,
        scope: Sequence[Matcher] = (),
    ) -> Ints:
        """Return how many samples *query* looks at, at each of *steps*; it reads them anew."""
        context = self._context(query, steps, budget, lookback_ms, scope)
        return samples_per_step(_plan(query, steps, scope), context)

    def _context(
        self,
        query: str,
        steps: StepRange,
        budget: Budget,
        lookback_ms: int | None,
        scope: Sequence[Matcher],
    ) -> Context:
        return Context(
            query=query,
            steps=steps,
            query_steps=steps,
            reader=self._reader,
            grids=self._grids,
            strings=self._reader.strings(),
            budget=budget,
            lookback_ms=self._lookback_ms if lookback_ms is None else lookback_ms,
            scope=tuple(scope),
            rules=self._rules,
        )


def _plan(query: str, steps: StepRange, scope: Sequence[Matcher]) -> Node:
    cached = len(query) <= _CACHED_CHARACTERS
    timed = _is_timed(query) if cached else _TIMED.search(query)
    times = QueryTimes.of(steps) if timed else None
    plan = _cached_plan(query, times) if cached else rewrite(parse(query, times))
    if scope:
        check_plan(plan)
    return plan


@lru_cache(maxsize=512)
def _is_timed(query: str) -> bool:
    return _TIMED.search(query) is not None


@lru_cache(maxsize=512)
def _cached_plan(query: str, times: QueryTimes | None) -> Node:
    return rewrite(parse(query, times))


def _result(
    kind: ResultKind,
    context: Context,
    matrix: StepMatrix | None = None,
    *,
    ranges: RangeSamples | None = None,
    text: str = "",
) -> QueryResult:
    """Return what was evaluated, with what there is to say of it."""
    said, reads = context.annotations, tuple(context.reads)
    return QueryResult(kind, context.steps, matrix, ranges, text, said.warnings, said.infos, reads)


def _finished(matrix: StepMatrix) -> StepMatrix:
    """Drop the names that operations marked, and join the series that are equal without."""
    if not some(matrix.drop_name):
        return matrix
    unnamed = replace(matrix, series=_without_names(matrix.series, matrix.drop_name))
    gone = set(METADATA).intersection(matrix.series.names)
    if every(matrix.drop_name) and all(matrix.series.distinct(name).size <= 1 for name in gone):
        return unnamed  # what differed still differs
    return merge_equal(unnamed)


def _without_names(series: LabelTable, drop_name: Bools) -> LabelTable:
    if drop_name.all():
        return series.drop(METADATA)
    for name in set(METADATA).intersection(series.names):
        series = series.with_column(name, np.where(drop_name, 0, series.column(name)))
    return series


def _samples(vector: RangeVector, budget: Budget) -> RangeSamples:
    """Return the samples of the only window of *vector*, without series that have none.

    Names that operations marked are dropped; series must differ without.
    """
    runs: list[SeriesSamples] = []
    size = 0
    for run in vector.runs:
        runs.append(without_stale(run))
        size += run.times.nbytes + run.values.nbytes
        budget.spend_bytes(2 * size)  # they are joined to one at the end, and that is sorted
    times = np.concatenate([run.times for run in runs]) if runs else np.zeros(0, np.int64)
    values = np.concatenate([run.values for run in runs]) if runs else np.zeros(0)
    counts = np.concatenate([np.diff(run.offsets) for run in runs]) if runs else np.zeros(0, int)
    runs.clear()
    kept = counts > 0
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts[kept])])
    series, drop_name = vector.series.take(np.flatnonzero(kept)), vector.drop_name[kept]
    if drop_name.any():
        series = _without_names(series, drop_name)
        if series.groups()[1].size < len(series):
            raise QueryExecutionError(SAME_LABELS)
    return RangeSamples(series, SeriesSamples(0, offsets, times, values))
