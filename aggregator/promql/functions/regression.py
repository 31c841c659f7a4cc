"""deriv, predict_linear and double_exponential_smoothing.

The formulas are those of `linearRegression`, `funcDeriv`, `funcPredictLinear` and
`funcDoubleExponentialSmoothing` in Prometheus 3's promql/functions.go.
"""

from collections.abc import Sequence

import numpy as np

from aggregator.errors import QueryExecutionError
from aggregator.model.arrays import Bools, Floats, Ints
from aggregator.promql.annotations import Annotations
from aggregator.promql.functions.kahan import corrected
from aggregator.promql.functions.ragged import Batch, walks
from aggregator.promql.functions.sums import EXACT_INTEGERS, window_sums
from aggregator.promql.windows import Windows


def deriv(windows: Windows, _params: Sequence[Floats]) -> tuple[Floats, Bools]:
    """Return the slope per second by least squares; exactly 0 for a constant window."""
    present = windows.counts > 1
    first = np.where(present, windows.lo, 0)
    return _regression(windows, windows.samples.times[first])[0], present


def predict_linear(windows: Windows, params: Sequence[Floats]) -> tuple[Floats, Bools]:
    """Return the value that least squares predict the first parameter's seconds (`[T]`) ahead.

    The line is anchored at the evaluation time, not at the end of an offset window.
    """
    slope, intercept = _regression(windows, np.broadcast_to(windows.at, windows.lo.shape))
    with np.errstate(all="ignore"):
        return slope * params[0] + intercept, windows.counts > 1


def double_exponential_smoothing(
    windows: Windows, params: Sequence[Floats]
) -> tuple[Floats, Bools]:
    """Return the smoothed value; parameters are smoothing and trend factor, each `[T]`."""
    result = np.zeros(windows.lo.shape)
    flat = result.reshape(-1)
    values = windows.samples.values
    with np.errstate(all="ignore"):
        for batch in walks(windows.lo, windows.counts, minimum=2):
            step = batch.cells % windows.ends.size
            flat[batch.cells] = _smoothed(batch, values, params[0][step], params[1][step])
    return result, windows.counts > 1


def check_factors(params: Sequence[Floats], _annotations: Annotations) -> None:
    """Raise `QueryExecutionError` for a smoothing or trend factor outside 0 … 1, exclusive."""
    for name, factor in zip(("smoothing", "trend"), params, strict=True):
        wrong = factor[(factor <= 0) | (factor >= 1)]
        if wrong.size:
            symbol = name[0] + "f"
            raise QueryExecutionError(
                f"invalid {name} factor. Expected: 0 < {symbol} < 1, got: {wrong[0]:f}"
            )


def _regression(windows: Windows, origin: Ints) -> tuple[Floats, Floats]:
    """Return slope and intercept of each window, with x in seconds from *origin* (ms, `[n, T]`)."""
    counts = windows.counts
    with np.errstate(all="ignore"):
        sums = _whole_sums(windows, origin)
        sum_x, sum_y, sum_xy, sum_xx = _sums(windows, origin) if sums is None else sums
        slope = (sum_xy - sum_x * sum_y / counts) / (sum_xx - sum_x * sum_x / counts)
        intercept = sum_y / counts - slope * sum_x / counts
    return _unless_constant(windows, slope, intercept)


def _sums(windows: Windows, origin: Ints) -> Sequence[Floats]:
    """Return the compensated sums of x, y, x·y and x² of each window with two samples."""
    times, values = windows.samples.times, windows.samples.values
    counts, origins = windows.counts, origin.ravel()

    def terms(positions: Ints, cells: Ints) -> tuple[Floats, ...]:
        x, y = (times[positions] - origins[cells]) / 1000, values[positions]
        return x, y, x * y, x * x

    sums = window_sums(windows.lo, np.where(counts > 1, counts, 0), terms, number=4)
    return [corrected(total, lost).reshape(counts.shape) for total, lost in sums]


def _whole_sums(windows: Windows, origin: Ints) -> Sequence[Floats] | None:
    """Return the same sums from running ones, if all that is added up is whole; else None.

    Whole numbers are added exactly, in any order: the running sums may leave int64 and come back.
    """
    samples, counts = windows.samples, windows.counts
    base = samples.times[np.minimum(samples.offsets[:-1], samples.times.size - 1)]
    seconds = samples.times - np.repeat(base, np.diff(samples.offsets))
    start = origin - base[:, None]
    if (seconds % 1000).any() or (start % 1000).any():
        return None
    seconds, start = seconds // 1000, start // 1000
    ends = (windows.ends - base[:, None]) // 1000 - start
    farthest = float(np.abs(ends).max(initial=0)) + windows.range_ms / 1000 + 1
    size = np.abs(samples.values).max(initial=0)
    largest = farthest * max(farthest, size) * counts.max(initial=0)
    if not largest < EXACT_INTEGERS or (samples.values != np.rint(samples.values)).any():
        return None
    values = samples.values.astype(np.int64)
    sum_t, sum_y, sum_ty, sum_tt = (
        _in_windows(windows, terms)
        for terms in (seconds, values, seconds * values, seconds * seconds)
    )
    return [
        (sum_t - counts * start).astype(np.float64),
        sum_y.astype(np.float64),
        (sum_ty - start * sum_y).astype(np.float64),
        (sum_tt - 2 * start * sum_t + counts * start * start).astype(np.float64),
    ]


def _in_windows(windows: Windows, terms: Ints) -> Ints:
    running = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(terms)])
    sums: Ints = running[windows.hi] - running[windows.lo]
    return sums


def _unless_constant(windows: Windows, slope: Floats, intercept: Floats) -> tuple[Floats, Floats]:
    """Return exactly 0 and the value for constant windows, NaN for constant infinities."""
    values, present = windows.samples.values, windows.counts > 0
    changed = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(values[1:] != values[:-1])])
    first, last = np.where(present, windows.lo, 0), np.where(present, windows.hi - 1, 0)
    constant = changed[last] == changed[first]
    infinite = np.isinf(values[first])
    return (
        np.where(constant, np.where(infinite, np.nan, 0.0), slope),
        np.where(constant, np.where(infinite, np.nan, values[first]), intercept),
    )


def _smoothed(batch: Batch, values: Floats, smoothing: Floats, trend: Floats) -> Floats:
    smooth = values[batch.lo]
    before = np.zeros(smooth.shape)
    slope = values[batch.lo + 1] - smooth
    for index, positions in enumerate(batch.walk()):
        if index == 0:
            continue
        alive = slice(positions.size)
        if index > 1:
            factor = trend[alive]
            change = factor * (smooth[alive] - before[alive])
            slope[alive] = change + (1 - factor) * slope[alive]
        part = smoothing[alive] * values[positions]
        rest = (1 - smoothing[alive]) * (smooth[alive] + slope[alive])
        before[alive], smooth[alive] = smooth[alive], part + rest
    return smooth
