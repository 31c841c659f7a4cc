"""deriv, predict_linear and double_exponential_smoothing.

The formulas are those of `linearRegression`, `funcDeriv`, `funcPredictLinear` and
`funcDoubleExponentialSmoothing` in Prometheus 3's promql/functions.go.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
        sum_x, sum_xx, sum_y, sum_xy = _sums(windows, origin)
        slope = (sum_xy - sum_x * sum_y / counts) / (sum_xx - sum_x * sum_x / counts)
        intercept = sum_y / counts - slope * sum_x / counts
    return _unless_constant(windows, slope, intercept)


def _sums(windows: Windows, origin: Ints) -> Sequence[Floats]:
    """Return the sums of x, x², y and x·y of each window with two samples.

    Whole numbers are added exactly in any order, so running sums will do for them.
    """
    times, values = windows.samples.times, windows.samples.values
    counts, origins = windows.counts, origin.ravel()
    seconds = _Seconds.of(windows, origin)

    def x_and_y(positions: Ints, cells: Ints) -> tuple[Floats, Floats]:
        return (times[positions] - origins[cells]) / 1000, values[positions]

    def with_values(positions: Ints, cells: Ints) -> tuple[Floats, ...]:
        x, y = x_and_y(positions, cells)
        return y, x * y

    def with_all(positions: Ints, cells: Ints) -> tuple[Floats, ...]:
        x, y = x_and_y(positions, cells)
        return x, x * x, y, x * y

    if seconds is not None and seconds.can_weigh(values):
        return (*seconds.sums(), *seconds.weighed(values.astype(np.int64)))
    terms, number = (with_all, 4) if seconds is None else (with_values, 2)
    sums = window_sums(windows.lo, np.where(counts > 1, counts, 0), terms, number)
    added = [corrected(total, lost).reshape(counts.shape) for total, lost in sums]
    return added if seconds is None else (*seconds.sums(), *added)


@dataclass(frozen=True, slots=True)
class _Seconds:
    """Times that are whole seconds apart.

    `elapsed` is the time of each sample since its series' first, `start` that of each origin,
    `[n, T]`; no x is larger than `farthest`. Running sums may leave int64 and come back, which
    changes no difference between them.
    """

    windows: Windows
    elapsed: Ints
    start: Ints
    farthest: float

    @staticmethod
    def of(windows: Windows, origin: Ints) -> "_Seconds | None":
        """Return the times in seconds from *origin*, or None if some are not whole or too far."""
        samples = windows.samples
        base = samples.times[np.minimum(samples.offsets[:-1], samples.times.size - 1)]
        elapsed = samples.times - np.repeat(base, np.diff(samples.offsets))
        start = origin - base[:, None]
        if (elapsed % 1000).any() or (start % 1000).any():
            return None
        ends = np.abs(windows.ends - origin).max(initial=0)
        farthest = float(ends + windows.range_ms) / 1000
        if farthest * farthest * windows.counts.max(initial=0) >= EXACT_INTEGERS:
            return None
        return _Seconds(windows, elapsed // 1000, start // 1000, farthest)

    def sums(self) -> tuple[Floats, Floats]:
        """Return the sums of x and x²."""
        counts, start = self.windows.counts, self.start
        total = _in_windows(self.windows, self.elapsed)
        squares = _in_windows(self.windows, self.elapsed * self.elapsed)
        squares += start * (start * counts - 2 * total)
        return (total - start * counts).astype(np.float64), squares.astype(np.float64)

    def can_weigh(self, values: Floats) -> bool:
        """Tell whether the sums with *values* are exact too."""
        largest = np.abs(values).max(initial=0)
        exact = (
            max(self.farthest, 1.0) * largest * self.windows.counts.max(initial=0) < EXACT_INTEGERS
        )
        return bool(exact) and bool((values == np.rint(values)).all())

    def weighed(self, values: Ints) -> tuple[Floats, Floats]:
        """Return the sums of y and x·y."""
        total = _in_windows(self.windows, values)
        products = _in_windows(self.windows, self.elapsed * values) - self.start * total
        return total.astype(np.float64), products.astype(np.float64)


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
