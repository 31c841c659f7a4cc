"""What is read from the store, and the values that it has at each step."""

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np

from aggregator.model.arrays import Bools, Floats, Ids, Ints
from aggregator.model.labels import LabelTable
from aggregator.model.record import record
from aggregator.model.samples import SeriesSamples
from aggregator.model.stepmatrix import StepMatrix
from aggregator.promql.context import Context
from aggregator.promql.operators.rows import compact
from aggregator.store.interface import GridCall, GridCells, GridReader

# Kernels hold several arrays of [series, steps]; a longer run is worked through in parts. They may
# visit every sample of every window, and only between parts a query can be stopped.
_RUN_CELLS = 2**20
_RUN_VISITS = 2**26

RunCells: TypeAlias = tuple[slice, Floats, Bools]
Cells: TypeAlias = tuple[slice | Ints, Floats, Bools]
RunKernel: TypeAlias = Callable[[SeriesSamples], tuple[Floats, Bools]]


@record
class StoreCall:
    """The call that makes the store itself compute a leaf's values, of the series *ids*."""

    reader: GridReader
    call: GridCall
    ids: Ids


@record
class Leaf:
    """Series of the store, or of a subquery, and how they come by a value at each step.

    `kernel` computes the values from `runs`, which can be gone through once, or the store does by
    `pushed`. It visits what lies in the `range_ms` before each of `ends` (ms, `[T]`), or as good as
    nothing if that is 0. `drop_name` marks the series whose metric name is dropped when the query
    ends. `note` is told the series that have values.
    """

    series: LabelTable
    drop_name: Bools
    runs: Iterator[SeriesSamples]
    kernel: RunKernel
    ends: Ints
    range_ms: int
    pushed: StoreCall | None = None
    note: Callable[[LabelTable], None] | None = None


def leaf_matrix(leaf: Leaf, context: Context) -> StepMatrix:
    """Return the values of *leaf*, without the series that have none."""
    context.spend_matrix(len(leaf.series))
    values, present = _gathered(_computed(leaf, context), len(leaf.series), context.steps.count)
    matrix = compact(StepMatrix(leaf.series, values, present, leaf.drop_name))
    if leaf.note is not None:
        leaf.note(matrix.series)
    return matrix


def _gathered(cells: Iterator[Cells], series: int, steps: int) -> tuple[Floats, Bools]:
    """Return the values and presence of all rows, `[series, steps]`, from those of *cells*."""
    gathered: tuple[Floats, Bools] | None = None
    for rows, values, present in cells:
        if isinstance(rows, slice) and rows == slice(0, series):
            gathered = values, present  # all at once, as small queries have them
            continue
        if gathered is None:
            gathered = _nothing(series, steps)
        gathered[0][rows], gathered[1][rows] = values, present
    return _nothing(series, steps) if gathered is None else gathered


def _nothing(series: int, steps: int) -> tuple[Floats, Bools]:
    return np.zeros((series, steps)), np.zeros((series, steps), dtype=np.bool_)


def _computed(leaf: Leaf, context: Context) -> Iterator[Cells]:
    """Yield rows, and their values and presence."""
    pushed = leaf.pushed
    if pushed is None:
        for run in leaf.runs:
            yield from _by_kernel(run, leaf, context)
        return
    for answer in pushed.reader.cells(pushed.call, pushed.ids, context.budget):
        if isinstance(answer, GridCells):
            context.budget.check()
            yield answer.rows, answer.values, answer.present
            continue
        for rows, values, present in _by_kernel(answer.samples, leaf, context):
            yield answer.rows[rows], values, present


def _by_kernel(run: SeriesSamples, leaf: Leaf, context: Context) -> Iterator[RunCells]:
    in_window = _in_window(run, leaf)
    context.budget.spend_visits(run.count * leaf.ends.size * in_window)
    for part in _parts(run, leaf, in_window):
        context.budget.check()
        yield slice(part.first_row, part.first_row + part.count), *leaf.kernel(part)


def _in_window(run: SeriesSamples, leaf: Leaf) -> int:
    """Return how many samples of *run* a window holds on average."""
    span = int(leaf.ends[-1] - leaf.ends[0]) + leaf.range_ms
    return run.times.size * leaf.range_ms // max(run.count * span, 1)


def _parts(run: SeriesSamples, leaf: Leaf, in_window: int) -> Iterator[SeriesSamples]:
    """Yield *run* in parts that a kernel is done with in fractions of a second.

    A window holds *in_window* samples on average.
    """
    steps = leaf.ends.size
    width = max(steps, steps * in_window * _RUN_CELLS // _RUN_VISITS)
    rows = max(1, _RUN_CELLS // width)
    if run.count <= rows:
        yield run
        return
    for start in range(0, run.count, rows):
        offsets = run.offsets[start : start + rows + 1]
        samples = slice(int(offsets[0]), int(offsets[-1]))
        yield SeriesSamples(
            run.first_row + start, offsets - offsets[0], run.times[samples], run.values[samples]
        )
