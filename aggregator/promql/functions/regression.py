"""deriv, predict_linear and double_exponential_smoothing.

The formulas are those of `linearRegression`, `funcDeriv`, `funcPredictLinear` and
`funcDoubleExponentialSmoothing` in Prometheus 3's promql/functions.go.
"""

from collections.abc import Sequence

import numpy as np

from aggregator.errors import QueryExecutionError
from aggregator.model.arrays import Bools, Floats, Ints
from aggregator.promql.annotations import Annotations
from aggregator.promql.functions.kahan import corrected, two_sum
from aggregator.promql.functions.ragged import Batch, walks
from aggregator.promql.windows import Windows


def deriv(windows: Windows, _params: Sequence[Floats]) -> tuple[Floats, Bools]:
    """Return the slope per second by least squares; exactly 0 for a constant window."""
    result = np.zeros(windows.lo.shape)
    flat = result.reshape(-1)
    changed = _changes_before(windows.samples.values)
    with np.errstate(all="ignore"):
        for batch in walks(windows.lo, windows.counts, minimum=2):
            origin = windows.samples.times[batch.lo]
            flat[batch.cells] = _regression(windows, batch, origin, changed)[0]
    return result, windows.counts > 1


def predict_linear(windows: Windows, params: Sequence[Floats]) -> tuple[Floats, Bools]:
    """Return the value that least squares predict the first parameter's seconds (`[T]`) ahead.

    The line is anchored at the evaluation time, not at the end of an offset window.
    """
    result = np.zeros(windows.lo.shape)
    flat = result.reshape(-1)
    changed = _changes_before(windows.samples.values)
    with np.errstate(all="ignore"):
        for batch in walks(windows.lo, windows.counts, minimum=2):
            step = batch.cells % windows.at.size
            slope, intercept = _regression(windows, batch, windows.at[step], changed)
            flat[batch.cells] = slope * params[0][step] + intercept
    return result, windows.counts > 1


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


def _changes_before(values: Floats) -> Ints:
    """Return, for each sample, how often the value changed up to it; NaN always changes."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(values[1:] != values[:-1])])


def _regression(
    windows: Windows, batch: Batch, origin: Ints, changed: Ints
) -> tuple[Floats, Floats]:
    """Return slope and intercept of each window, with x in seconds from *origin* (ms)."""
    times, values = windows.samples.times, windows.samples.values
    sums = np.zeros((4, 2, batch.cells.size))
    for positions in batch.walk():
        alive = slice(positions.size)
        x, y = (times[positions] - origin[alive]) / 1000, values[positions]
        for (total, lost), term in zip(sums[:, :, alive], (x, y, x * y, x * x), strict=True):
            total[:], lost[:] = two_sum(total, lost, term)
    sum_x, sum_y, sum_xy, sum_xx = (corrected(total, lost) for total, lost in sums)
    count = batch.counts
    slope = (sum_xy - sum_x * sum_y / count) / (sum_xx - sum_x * sum_x / count)
    intercept = sum_y / count - slope * sum_x / count
    constant = changed[batch.lo + count - 1] == changed[batch.lo]
    first = values[batch.lo]
    undefined = np.where(np.isinf(first), np.nan, 0.0)
    return (
        np.where(constant, undefined, slope),
        np.where(constant, first + undefined, intercept),
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
