"""rate, increase, delta, irate, idelta, changes and resets.

The formulas are those of `extrapolatedRate`, `instantValue`, `funcChanges` and `funcResets` in
Prometheus 3's promql/functions.go, in the same order of operations.
"""

from collections.abc import Sequence

import numpy as np

from aggregator.model.arrays import Bools, Floats, Ints
from aggregator.promql.functions import ragged
from aggregator.promql.functions.kahan import corrected
from aggregator.promql.functions.sums import window_sums
from aggregator.promql.windows import Windows


def rate(windows: Windows, _params: Sequence[Floats]) -> tuple[Floats, Bools]:
    """Return the per-second increase of a counter, extrapolated (`extrapolatedRate`)."""
    return _extrapolated(windows, counter=True, per_second=True)


def increase(windows: Windows, _params: Sequence[Floats]) -> tuple[Floats, Bools]:
    """Return the increase of a counter over the window, extrapolated (`extrapolatedRate`)."""
    return _extrapolated(windows, counter=True, per_second=False)


def delta(windows: Windows, _params: Sequence[Floats]) -> tuple[Floats, Bools]:
    """Return the change of a gauge over the window, extrapolated (`extrapolatedRate`)."""
    return _extrapolated(windows, counter=False, per_second=False)


def irate(windows: Windows, _params: Sequence[Floats]) -> tuple[Floats, Bools]:
    """Return the per-second increase between the last two samples (`instantValue`)."""
    last, previous, present = _last_two(windows)
    times, timed = windows.samples.times, windows.timed
    newest, before = windows.samples.values[last], windows.samples.values[previous]
    with np.errstate(invalid="ignore", over="ignore"):
        result = newest - before
        np.copyto(result, newest, where=newest < before)
        elapsed = (times[last[timed]] - times[previous[timed]]) / 1000
        result /= np.where(present[timed], elapsed, 1.0)
    return result, present


def idelta(windows: Windows, _params: Sequence[Floats]) -> tuple[Floats, Bools]:
    """Return the difference of the last two samples (`instantValue`)."""
    last, previous, present = _last_two(windows)
    with np.errstate(invalid="ignore", over="ignore"):
        return windows.samples.values[last] - windows.samples.values[previous], present


def changes(windows: Windows, _params: Sequence[Floats]) -> tuple[Floats, Bools]:
    """Return how often the value changed; NaN after NaN is no change (`funcChanges`)."""
    values = windows.samples.values
    before, after = values[:-1], values[1:]
    changed = (before != after) & ~(np.isnan(before) & np.isnan(after))
    return _steps_inside(windows, changed)


def resets(windows: Windows, _params: Sequence[Floats]) -> tuple[Floats, Bools]:
    """Return how often the value fell (`funcResets`)."""
    values = windows.samples.values
    return _steps_inside(windows, values[1:] < values[:-1])


def _last_two(windows: Windows) -> tuple[Ints, Ints, Bools]:
    """Return positions of the last and the next to last sample, and where both exist.

    Where they do not, the positions are those of any samples.
    """
    last = windows.hi - 1
    present = last > windows.lo
    if not present.all():
        last = np.where(present, last, 0)
    return last, last - 1, present


def _steps_inside(windows: Windows, marked: Bools) -> tuple[Floats, Bools]:
    """Count, in each window, the marked steps; step i leads from sample i to sample i + 1."""
    present = windows.counts > 0
    before = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(marked)])
    first = np.where(present, windows.lo, 0)
    last = np.where(present, windows.hi - 1, 0)
    return (before[last] - before[first]).astype(np.float64), present


def _extrapolated(windows: Windows, *, counter: bool, per_second: bool) -> tuple[Floats, Bools]:
    # what depends on times only is computed of the rows that stand for all
    timed, values = windows.timed, windows.samples.values
    first, last = windows.lo, windows.hi - 1
    present = last[timed] > first[timed]
    if not present.all():
        first, last = np.where(present, first, 0), np.where(present, last, 0)
    first_values = values[first]
    with np.errstate(all="ignore"):  # Inf - Inf, and 0 / 0 where the result is absent
        result = values[last] - first_values
        if counter:
            _add_resets(result, windows)
        times = windows.samples.times
        from_ms, to_ms = times[first[timed]], times[last[timed]]
        sampled = (to_ms - from_ms) / 1000
        average = sampled / (last[timed] - first[timed])
        to_start = (from_ms - (windows.ends - windows.range_ms)) / 1000
        to_end = (windows.ends - to_ms) / 1000
        threshold, half = average * 1.1, average / 2
        if windows.rules.zero_point_first:
            if counter:
                to_start = _to_zero(to_start, sampled, first_values, result)
            to_start = np.where(to_start < threshold, to_start, half)
        else:
            to_start = np.where(to_start >= threshold, half, to_start)
            if counter:
                to_start = _to_zero(to_start, sampled, first_values, result)
        to_end = np.where(to_end >= threshold, half, to_end)
        factor = (sampled + to_start + to_end) / sampled
        if per_second:
            factor /= windows.range_ms / 1000
        result *= factor
    return result, _every_row(present, result.shape[0])


def _to_zero(to_start: Floats, sampled: Floats, first_values: Floats, result: Floats) -> Floats:
    """Return the seconds to extrapolate before the first sample: not beyond the counter's zero.

    *to_start* and *sampled* may be one row for all, and so is the answer if no counter was 0.
    """
    zero = first_values / result
    zero *= sampled
    limited = zero < to_start
    if limited.any():
        limited &= result > 0
        limited &= first_values >= 0
        if limited.any():
            return np.where(limited, zero, to_start)
    return to_start


def _every_row(present: Bools, rows: int) -> Bools:
    """Return *present*, which may be one row for all, with as many *rows*."""
    return present if present.shape[0] == rows else np.repeat(present, rows, axis=0)


def _add_resets(result: Floats, windows: Windows) -> None:
    """Add to *result* the value before each fall in the window, one after the other, in place.

    Running sums over whole series would be faster, but one huge or infinite value would spoil
    every later window.
    """
    values = windows.samples.values
    falls = np.flatnonzero(values[1:] < values[:-1])
    if falls.size == 0:
        return
    # Of windows by series and time the first and the last positions ascend. Most falls are between
    # two series: those of a window with such a fall are looked for, not those of each window.
    first = windows.lo.ravel()
    begin = np.searchsorted(windows.hi.ravel(), falls + 1, side="right")
    stop = np.searchsorted(first, falls, side="right")
    inside = begin < stop
    if not inside.any():
        return
    falls, begin, stop = falls[inside], begin[inside], stop[inside]
    opened, closed = (np.bincount(edge, minlength=first.size) for edge in (begin, stop))
    counts = np.cumsum(opened - closed[: first.size])
    cells = np.flatnonzero(counts)
    _add_in_turn(
        result.reshape(-1), cells, values[falls], falls.searchsorted(first[cells]), counts[cells]
    )


def _add_in_turn(result: Floats, cells: Ints, terms: Floats, lo: Ints, counts: Ints) -> None:
    """Add to each of the *cells* of *result* its *counts* terms from *lo* on, in place."""
    many = counts > ragged.PIECE_SAMPLES
    if many.any():
        sums = window_sums(lo, np.where(many, counts, 0), lambda at, _: (terms[at],))
        result[cells] += corrected(*sums[0])
    for batch in ragged.walks(lo, np.where(many, 0, counts)):
        chosen = cells[batch.cells]
        totals = result[chosen]
        for positions in batch.walk():
            totals[: positions.size] += terms[positions]
        result[chosen] = totals
