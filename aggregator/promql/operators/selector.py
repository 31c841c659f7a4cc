"""Reads selectors from the store, run of series after run of series."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from aggregator.model.arrays import Bools, Floats, Ids, Ints
from aggregator.model.budget import Budget
from aggregator.model.labels import LabelTable
from aggregator.model.samples import SeriesSamples
from aggregator.model.stepmatrix import StepMatrix
from aggregator.promql.context import Context
from aggregator.promql.functions import Function
from aggregator.promql.operators.rows import compact
from aggregator.promql.plan import MatrixSelector, VectorSelector
from aggregator.promql.windows import build, last

# Kernels hold several arrays of [series, steps]; a longer run is worked through in parts.
_RUN_CELLS = 2**20
_RUN_VISITS = 2**26

Reads: TypeAlias = Callable[[Ids, int, int, Budget], Iterator[SeriesSamples]]
RunKernel: TypeAlias = Callable[[SeriesSamples], tuple[Floats, Bools]]


@dataclass(frozen=True, slots=True)
class RangeVector:
    """A range vector at each step: samples by runs of series, and where the windows end.

    `drop_name` marks the series whose metric name is dropped when the query ends. The runs can be
    gone through once.
    """

    series: LabelTable
    drop_name: Bools
    runs: Iterator[SeriesSamples]
    ends: Ints
    range_ms: int


def instant_vector(
    node: VectorSelector, context: Context, *, sample_times: bool = False
) -> StepMatrix:
    """Return the newest sample of each series within the lookback at each step.

    With *sample_times* the values are the samples' own times in seconds (for `timestamp`).
    """
    ends = context.ends(node.offset_ms, node.at)
    lookback, rules = context.lookback_ms, context.rules
    # at one step the newest sample is all that counts
    reads = context.reader.newest if ends.size == 1 else context.reader.read
    series, runs = _read(node, ends, lookback, context, reads)

    def kernel(run: SeriesSamples) -> tuple[Floats, Bools]:
        values, present, times = last(run, ends, lookback, rules=rules)
        return (times / 1000 if sample_times else values), present

    drop_name = np.full(len(series), sample_times)
    return _matrix(series, drop_name, runs, kernel, context)


def range_vector(node: MatrixSelector, context: Context) -> RangeVector:
    """Return the samples that *node* selects."""
    selector = node.selector
    ends = context.ends(selector.offset_ms, selector.at)
    series, runs = _read(selector, ends, node.range_ms, context, context.reader.read)
    return RangeVector(series, np.zeros(len(series), np.bool_), runs, ends, node.range_ms)


def over_windows(
    function: Function, vector: RangeVector, params: Sequence[Floats], context: Context
) -> StepMatrix:
    """Return what *function* makes of each window of *vector*; *params* are its scalars, `[T]`."""
    kernel = function.kernel
    if kernel is None:
        raise TypeError(f"{function.name} has no kernel for range vectors")
    at = context.steps.times()

    def windowed(run: SeriesSamples) -> tuple[Floats, Bools]:
        windows = build(run, vector.ends, vector.range_ms, at=at, rules=context.rules)
        return kernel(windows, params)

    drop_name = vector.drop_name | (not function.keeps_name)
    runs = _with_short_waits(vector, context.steps.count)
    return _matrix(vector.series, drop_name, runs, windowed, context)


def _with_short_waits(vector: RangeVector, steps: int) -> Iterator[SeriesSamples]:
    """Yield the runs of *vector* so short that a kernel is done with one in fractions of a second.

    A kernel may visit every sample of every window, and only between runs a query can be stopped.
    """
    span = int(vector.ends.max() - vector.ends.min()) + vector.range_ms
    for run in vector.runs:
        in_window = run.times.size * vector.range_ms // max(run.count * span, 1)
        yield from _parts(run, max(steps, steps * in_window * _RUN_CELLS // _RUN_VISITS))


def _read(
    node: VectorSelector, ends: Ints, back_ms: int, context: Context, reads: Reads
) -> tuple[LabelTable, Iterator[SeriesSamples]]:
    """Select the series of *node* and return them with what *reads* gives from *back_ms* before."""
    budget = context.budget
    budget.check()
    start = int(ends.min()) - back_ms - context.rules.closed_left
    end = int(ends.max())
    selection = context.select(node.matchers, start, end)
    if not selection.ids.size:
        return selection.labels, iter(())
    return selection.labels, reads(selection.ids, start, end, budget)


def _matrix(
    series: LabelTable,
    drop_name: Bools,
    runs: Iterator[SeriesSamples],
    kernel: RunKernel,
    context: Context,
) -> StepMatrix:
    context.spend_matrix(len(series))
    shape = (len(series), context.steps.count)
    values = np.zeros(shape)
    present = np.zeros(shape, dtype=np.bool_)
    for run in runs:
        for part in _parts(run, context.steps.count):
            context.budget.check()
            rows = slice(part.first_row, part.first_row + part.count)
            values[rows], present[rows] = kernel(part)
    return compact(StepMatrix(series, values, present, drop_name))


def _parts(run: SeriesSamples, steps: int) -> Iterator[SeriesSamples]:
    rows = max(1, _RUN_CELLS // steps)
    if run.count <= rows:
        yield run
        return
    for start in range(0, run.count, rows):
        offsets = run.offsets[start : start + rows + 1]
        samples = slice(int(offsets[0]), int(offsets[-1]))
        yield SeriesSamples(
            run.first_row + start, offsets - offsets[0], run.times[samples], run.values[samples]
        )
