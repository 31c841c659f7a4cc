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
    values = windows.samples.values
    with np.errstate(invalid="ignore", over="ignore"):
        step = values[last] - values[previous]
        result = np.where(values[last] < values[previous], values[last], step)
        elapsed = (windows.samples.times[last] - windows.samples.times[previous]) / 1000
        result /= np.where(present, elapsed, 1.0)
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
    """Return positions of the last and the next to last sample, and where both exist."""
    present = windows.counts > 1
    last = np.where(present, windows.hi - 1, 0)
    previous = np.where(present, windows.hi - 2, 0)
    return last, previous, present


def _steps_inside(windows: Windows, marked: Bools) -> tuple[Floats, Bools]:
    """Count, in each window, the marked steps; step i leads from sample i to sample i + 1."""
    present = windows.counts > 0
    before = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(marked)])
    first = np.where(present, windows.lo, 0)
    last = np.where(present, windows.hi - 1, 0)
    return (before[last] - before[first]).astype(np.float64), present


def _extrapolated(windows: Windows, *, counter: bool, per_second: bool) -> tuple[Floats, Bools]:
    present = windows.counts > 1
    first = np.where(present, windows.lo, 0)
    last = np.where(present, windows.hi - 1, 0)
    times, values = windows.samples.times, windows.samples.values
    first_values = values[first]
    with np.errstate(all="ignore"):  # Inf - Inf, and 0 / 0 where the result is absent
        result = values[last] - first_values
        if counter:
            _add_resets(result, values, first, last)
        sampled = (times[last] - times[first]) / 1000
        average = sampled / (last - first)
        to_start = (times[first] - (windows.ends - windows.range_ms)) / 1000
        to_end = (windows.ends - times[last]) / 1000
        threshold = average * 1.1
        half = average / 2
        zero = sampled * (first_values / result)
        limited = (result > 0) & (first_values >= 0) & counter
        if windows.rules.zero_point_first:
            to_start = np.where(limited & (zero < to_start), zero, to_start)
            to_start = np.where(to_start < threshold, to_start, half)
        else:
            to_start = np.where(to_start >= threshold, half, to_start)
            to_start = np.where(limited & (zero < to_start), zero, to_start)
        to_end = np.where(to_end >= threshold, half, to_end)
        factor = (sampled + to_start + to_end) / sampled
        if per_second:
            factor /= windows.range_ms / 1000
        result *= factor
    return result, present


def _add_resets(result: Floats, values: Floats, first: Ints, last: Ints) -> None:
    """Add to *result* the value before each fall in the window, one after the other, in place.

    Running sums over whole series would be faster, but one huge or infinite value would spoil
    every later window.
    """
    falls = np.flatnonzero(values[1:] < values[:-1])
    if falls.size == 0:
        return
    lo = np.searchsorted(falls, first)
    hi = np.searchsorted(falls, last)
    before_falls = values[falls]
    counts = hi - lo
    many = counts > ragged.PIECE_SAMPLES
    if many.any():
        sums = window_sums(lo, np.where(many, counts, 0), lambda at, _: (before_falls[at],))
        result += corrected(*sums.reshape(2, *result.shape))
    flat = result.reshape(-1)
    for batch in ragged.walks(lo, np.where(many, 0, counts)):
        totals = flat[batch.cells]
        for positions in batch.walk():
            totals[: positions.size] += before_falls[positions]
        flat[batch.cells] = totals
