"""Selectors: the series they select, and how their values come from the store."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from aggregator.model.arrays import Bools, Floats, Ids, Ints
from aggregator.model.labels import LabelTable
from aggregator.model.record import record
from aggregator.model.samples import Newest, SeriesSamples, is_real, may_be_stale
from aggregator.model.stepmatrix import StepMatrix
from aggregator.promql.context import Context
from aggregator.promql.functions import Function
from aggregator.promql.operators.leaf import Leaf, StoreCall, leaf_matrix
from aggregator.promql.operators.rows import compact
from aggregator.promql.plan import MatrixSelector, VectorSelector
from aggregator.promql.windows import PROMETHEUS_3, build, last
from aggregator.store.interface import INSTANT, GridCall


@record
class _Selected:
    """The series that a selector selects, and the window (start, end] in ms it looks at."""

    ids: Ids
    labels: LabelTable
    start_ms: int
    end_ms: int

    def read(self, context: Context) -> Iterator[SeriesSamples]:
        """Return the samples, run after run."""
        if not self.ids.size:
            return iter(())
        return context.reader.read(self.ids, self.start_ms, self.end_ms, context.budget)


@record
class RangeVector:
    """A range vector at each step: samples by runs of series, and where the windows end.

    `drop_name` marks the series whose metric name is dropped when the query ends. The runs can be
    gone through once. `ids` are the series' in the store, None those of a subquery.
    """

    series: LabelTable
    drop_name: Bools
    runs: Iterator[SeriesSamples]
    ends: Ints
    range_ms: int
    ids: Ids | None = None


def instant_leaf(node: VectorSelector, context: Context) -> Leaf:
    """Return what makes the newest sample of each series within the lookback at each step."""
    ends = context.ends(node.offset_ms, node.at)
    return _instant_leaf(_select(node, ends, context.lookback_ms, context), ends, context)


def instant_vector(
    node: VectorSelector, context: Context, *, sample_times: bool = False
) -> StepMatrix:
    """Return the newest sample of each series within the lookback at each step.

    With *sample_times* the values are the samples' own times in seconds (for `timestamp`).
    """
    ends = context.ends(node.offset_ms, node.at)
    selected = _select(node, ends, context.lookback_ms, context)
    if ends.size == 1:
        context.spend_matrix(selected.ids.size)
        newest = context.reader.newest(
            selected.ids, selected.start_ms, selected.end_ms, context.budget
        )
        if newest is not None:
            return _newest_vector(selected.labels, newest, sample_times=sample_times)
    leaf = _instant_leaf(selected, ends, context, sample_times=sample_times)
    return leaf_matrix(leaf, context)


def _newest_vector(series: LabelTable, newest: Newest, *, sample_times: bool) -> StepMatrix:
    """Return the only step, of which the newest samples are all that counts."""
    values = newest.times / 1000 if sample_times else newest.values
    present = newest.present
    if may_be_stale(newest.values):
        present = present & is_real(newest.values)
    drop_name = np.zeros(present.size, np.bool_)
    if sample_times:
        drop_name[:] = True
    return compact(StepMatrix(series, values[:, None], present[:, None], drop_name))


def _instant_leaf(
    selected: _Selected, ends: Ints, context: Context, *, sample_times: bool = False
) -> Leaf:
    lookback, rules = context.lookback_ms, context.rules

    def kernel(run: SeriesSamples) -> tuple[Floats, Bools]:
        values, present, times = last(run, ends, lookback, rules=rules)
        return (np.broadcast_to(times / 1000, values.shape) if sample_times else values), present

    pushed = None
    if not sample_times:
        pushed = _store_call(INSTANT, ends, lookback, selected.ids, context)
    drop_name = np.full(selected.ids.size, sample_times)
    runs = selected.read(context)
    return Leaf(selected.labels, drop_name, runs, kernel, ends, 0, pushed)


def range_vector(node: MatrixSelector, context: Context) -> RangeVector:
    """Return the samples that *node* selects."""
    ends = context.ends(node.selector.offset_ms, node.selector.at)
    found = _select(node.selector, ends, node.range_ms, context)
    drop_name = np.zeros(found.ids.size, np.bool_)
    runs = found.read(context)
    return RangeVector(found.labels, drop_name, runs, ends, node.range_ms, found.ids)


def windows_leaf(
    function: Function,
    vector: RangeVector,
    params: Sequence[Floats],
    context: Context,
    note: Callable[[LabelTable], None] | None,
) -> Leaf:
    """Return what makes *function* of each window of *vector*; *params* are its scalars, `[T]`."""
    kernel = function.kernel
    if kernel is None:
        raise TypeError(f"{function.name} has no kernel for range vectors")
    at = context.steps.times()

    def windowed(run: SeriesSamples) -> tuple[Floats, Bools]:
        windows = build(run, vector.ends, vector.range_ms, at=at, rules=context.rules)
        return kernel(windows, params)

    pushed = None
    if vector.ids is not None:
        pushed = _store_call(function.name, vector.ends, vector.range_ms, vector.ids, context)
    if pushed is not None and function.name == "predict_linear":
        pushed = _looking_ahead(pushed, params[0] + (at - vector.ends) / 1000)
    drop_name = vector.drop_name | (not function.keeps_name)
    return Leaf(
        vector.series, drop_name, vector.runs, windowed, vector.ends, vector.range_ms, pushed, note
    )


def _select(node: VectorSelector, ends: Ints, back_ms: int, context: Context) -> _Selected:
    """Select the series of *node*, for a look from *ends* (ms, `[T]`) *back_ms* back."""
    start = int(ends[0]) - back_ms - context.rules.closed_left
    end = int(ends[-1])
    selection = context.select(node.matchers, start, end)
    return _Selected(selection.ids, selection.labels, start, end)


def _looking_ahead(pushed: StoreCall, seconds: Floats) -> StoreCall | None:
    """Return the call that looks *seconds* after the ends of windows, `[T]`; None if they vary."""
    if not (seconds == seconds[0]).all() or not np.isfinite(seconds[0]):
        return None
    return replace(pushed, call=replace(pushed.call, parameter=float(seconds[0])))


def _store_call(
    function: str, ends: Ints, range_ms: int, ids: Ids, context: Context
) -> StoreCall | None:
    """Return how the store is asked for the values, None if it is not."""
    reader = context.grids
    if reader is None or context.rules != PROMETHEUS_3 or not ids.size:
        return None
    step_ms = context.steps.step_ms if ends.size > 1 else 1
    if int(ends[-1]) - int(ends[0]) != step_ms * (ends.size - 1):  # fixed by `@`
        return None
    call = GridCall(function, int(ends[0]), step_ms, ends.size, range_ms)
    return StoreCall(reader, call, ids) if reader.computes(call) else None
