"""The `…_over_time` functions: sums, means, extremes, ends and spread of a window's values.

The formulas are those of the functions of the same name in Prometheus 3's promql/functions.go,
with sums in the same order and with the same compensation, so that results agree to the last bit.
"""

from collections.abc import Sequence

import numpy as np

from aggregator.model.arrays import Bools, Floats, Ints
from aggregator.promql.functions.kahan import Adder, corrected, neumaier, two_sum
from aggregator.promql.functions.ragged import Batch, Pieces, pieces, walks
from aggregator.promql.functions.sums import EXACT_INTEGERS, window_sums
from aggregator.promql.windows import Windows


def sum_over_time(windows: Windows, _params: Sequence[Floats]) -> tuple[Floats, Bools]:
    """Return the compensated sum (`funcSumOverTime`)."""
    with np.errstate(all="ignore"):
        return corrected(*_sums(windows)), windows.counts > 0


def avg_over_time(windows: Windows, _params: Sequence[Floats]) -> tuple[Floats, Bools]:
    """Return the mean: compensated sum / count, incremental if it overflows (`funcAvgOverTime`)."""
    counts = windows.counts
    with np.errstate(all="ignore"):
        total, lost = _sums(windows)
        result = np.where(np.isfinite(total), total / counts + lost / counts, total)
        if not np.isfinite(total).all():
            _settle_means(result, np.isfinite(total), windows)
    return result, counts > 0


def count_over_time(windows: Windows, _params: Sequence[Floats]) -> tuple[Floats, Bools]:
    """Return the number of samples (`funcCountOverTime`)."""
    counts = windows.counts
    return counts.astype(np.float64), counts > 0


def present_over_time(windows: Windows, _params: Sequence[Floats]) -> tuple[Floats, Bools]:
    """Return 1 where there is any sample (`funcPresentOverTime`)."""
    present = windows.counts > 0
    return np.ones(present.shape), present


def min_over_time(windows: Windows, _params: Sequence[Floats]) -> tuple[Floats, Bools]:
    """Return the smallest value; NaN only if there is nothing else (`funcMinOverTime`)."""
    return _extreme(windows, np.fmin)


def max_over_time(windows: Windows, _params: Sequence[Floats]) -> tuple[Floats, Bools]:
    """Return the largest value; NaN only if there is nothing else (`funcMaxOverTime`)."""
    return _extreme(windows, np.fmax)


def first_over_time(windows: Windows, _params: Sequence[Floats]) -> tuple[Floats, Bools]:
    """Return the oldest value (`funcFirstOverTime`)."""
    first, present = _first(windows)
    return windows.samples.values[first], present


def last_over_time(windows: Windows, _params: Sequence[Floats]) -> tuple[Floats, Bools]:
    """Return the newest value (`funcLastOverTime`)."""
    last, present = _last(windows)
    return windows.samples.values[last], present


def ts_of_first_over_time(windows: Windows, _params: Sequence[Floats]) -> tuple[Floats, Bools]:
    """Return the time of the oldest sample in seconds (`funcTsOfFirstOverTime`)."""
    first, present = _first(windows)
    return windows.samples.times[first] / 1000, present


def ts_of_last_over_time(windows: Windows, _params: Sequence[Floats]) -> tuple[Floats, Bools]:
    """Return the time of the newest sample in seconds (`funcTsOfLastOverTime`)."""
    last, present = _last(windows)
    return windows.samples.times[last] / 1000, present


def ts_of_min_over_time(windows: Windows, _params: Sequence[Floats]) -> tuple[Floats, Bools]:
    """Return the time in seconds of the last smallest value (`funcTsOfMinOverTime`)."""
    return _time_of(windows, np.less_equal)


def ts_of_max_over_time(windows: Windows, _params: Sequence[Floats]) -> tuple[Floats, Bools]:
    """Return the time in seconds of the last largest value (`funcTsOfMaxOverTime`)."""
    return _time_of(windows, np.greater_equal)


def stdvar_over_time(windows: Windows, _params: Sequence[Floats]) -> tuple[Floats, Bools]:
    """Return the population variance by Welford's method (`varianceOverTime`)."""
    with np.errstate(all="ignore"):
        result = _variances(windows, windows.counts, two_sum)
        again = np.where(np.isfinite(result), 0, windows.counts)
        if again.any():
            result = np.where(again > 0, _variances(windows, again, neumaier), result)
    return result, windows.counts > 0


def stddev_over_time(windows: Windows, params: Sequence[Floats]) -> tuple[Floats, Bools]:
    """Return the population standard deviation (`varianceOverTime`)."""
    variance, present = stdvar_over_time(windows, params)
    with np.errstate(invalid="ignore"):
        return np.sqrt(variance), present


def _first(windows: Windows) -> tuple[Ints, Bools]:
    present = windows.counts > 0
    return np.where(present, windows.lo, 0), present


def _last(windows: Windows) -> tuple[Ints, Bools]:
    present = windows.counts > 0
    return np.where(present, windows.hi - 1, 0), present


def _sums(windows: Windows) -> tuple[Floats, Floats]:
    """Return sum and lost part of each window, `[n, T]`; use the latter where the sum is finite."""
    values = windows.samples.values
    if np.array_equal(values, np.rint(values)) and np.abs(values).sum() < EXACT_INTEGERS:
        running = np.concatenate([np.zeros(1), np.cumsum(values)])
        return running[windows.hi] - running[windows.lo], np.zeros(windows.lo.shape)
    sums = window_sums(windows.lo, windows.counts, lambda positions, _: (values[positions],))
    total, lost = sums.reshape(2, *windows.lo.shape)
    return total, lost


def _settle_means(means: Floats, settled: Bools, windows: Windows) -> None:
    """Replace, in place, the means of windows whose sum is not finite.

    Either they hold infinities or NaN, or finite values whose sum overflows.
    """
    values = windows.samples.values
    high, low = _counts(windows, np.isposinf(values)), _counts(windows, np.isneginf(values))
    nans = _counts(windows, np.isnan(values))
    infinite = np.where(high > 0, np.where(low > 0, np.nan, np.inf), -np.inf)
    means[:] = np.where(nans > 0, np.nan, np.where(high + low > 0, infinite, means))
    overflow = np.where(settled | (nans + high + low > 0), 0, windows.counts)
    flat = means.reshape(-1)
    for batch in walks(windows.lo, overflow):
        flat[batch.cells] = _incremental_mean(batch, values)


def _counts(windows: Windows, marked: Bools) -> Ints:
    """Count the marked samples in each window, `[n, T]`."""
    before = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(marked)])
    counts: Ints = before[windows.hi] - before[windows.lo]
    return counts


def _incremental_mean(batch: Batch, values: Floats) -> Floats:
    """Return the means of windows of which some sums overflow.

    From the sample on that would make the sum infinite, the mean is updated instead.
    """
    total = values[batch.lo]
    lost = np.zeros(total.shape)
    mean = np.zeros(total.shape)
    incremental = np.zeros(total.shape, dtype=np.bool_)
    for index, positions in enumerate(batch.walk()):
        if index == 0:
            continue
        alive = slice(positions.size)
        term, count = values[positions], index + 1
        grown, grown_lost = neumaier(total[alive], lost[alive], term)
        starts = ~incremental[alive] & np.isinf(grown)
        mean[alive] = np.where(starts, total[alive] / index, mean[alive])
        before = np.where(starts, lost[alive] / index, lost[alive])
        incremental[alive] |= starts
        share = index / count
        moved, moved_lost = neumaier(share * mean[alive], share * before, term / count)
        mean[alive] = np.where(incremental[alive], moved, mean[alive])
        lost[alive] = np.where(incremental[alive], moved_lost, grown_lost)
        total[alive] = np.where(incremental[alive], total[alive], grown)
    return np.where(incremental, mean + lost, total / batch.counts + lost / batch.counts)


def _variances(windows: Windows, counts: Ints, add: Adder) -> Floats:
    """Return the variance of the first *counts* samples of each window, `[n, T]`."""
    cut = pieces(windows.lo, counts)
    means, spreads = np.zeros((2, cut.lo.size))
    for batch in walks(cut.lo, cut.counts):
        mean, spread = _moments(batch, windows.samples.values, add)
        means[batch.cells], spreads[batch.cells] = mean, spread
    if not cut.are_windows:
        spreads = _joined_spreads(cut, means, spreads)
    return (spreads / counts.ravel()).reshape(counts.shape)


def _moments(batch: Batch, values: Floats, add: Adder) -> tuple[Floats, Floats]:
    """Return mean and sum of squared distances from it, by Welford's compensated method."""
    mean, mean_lost, spread, spread_lost = np.zeros((4, batch.cells.size))
    for index, positions in enumerate(batch.walk()):
        alive = slice(positions.size)
        value = values[positions]
        delta = value - (mean[alive] + mean_lost[alive])
        mean[alive], mean_lost[alive] = add(mean[alive], mean_lost[alive], delta / (index + 1))
        term = delta * (value - (mean[alive] + mean_lost[alive]))
        spread[alive], spread_lost[alive] = add(spread[alive], spread_lost[alive], term)
    return mean + mean_lost, spread + spread_lost


def _joined_spreads(cut: Pieces, means: Floats, spreads: Floats) -> Floats:
    """Return the sums of squared distances of whole windows from those of their pieces (Chan)."""
    whole = np.zeros(cut.first.size)
    for batch in walks(cut.first, cut.number):
        count, mean, spread = np.zeros((3, batch.cells.size))
        for positions in batch.walk():
            alive = slice(positions.size)
            added, delta = cut.counts[positions], means[positions] - mean[alive]
            grown = count[alive] + added
            share = np.where(added > 0, added / grown, 0.0)
            between = np.where(count[alive] > 0, delta * delta * count[alive] * share, 0.0)
            spread[alive] += spreads[positions] + between
            mean[alive] += delta * share
            count[alive] = grown
        whole[batch.cells] = spread
    return whole


def _extreme(windows: Windows, pick: np.ufunc) -> tuple[Floats, Bools]:
    """Return the extremes by a sparse table, built level by level.

    Level j holds the extreme of the 2^j samples from each position on; two of them, overlapping,
    cover a window of 2^j to 2^(j+1) - 1 samples.
    """
    counts = windows.counts.ravel()
    level = np.frexp(counts.astype(np.float64))[1] - 1
    lo, hi = windows.lo.ravel(), windows.hi.ravel()
    result = np.zeros(counts.size)
    table = windows.samples.values
    for exponent in range(int(level.max(initial=-1)) + 1):
        width = 1 << exponent
        cells = np.flatnonzero(level == exponent)
        result[cells] = pick(table[lo[cells]], table[hi[cells] - width])
        if table.size > width:
            table = pick(table[:-width], table[width:])
    _keep_first_zero(result, lo, windows.samples.values)
    return result.reshape(windows.lo.shape), windows.counts > 0


def _keep_first_zero(extremes: Floats, lo: Ints, values: Floats) -> None:
    """Give extremes of 0 the sign of the window's first zero, in place; numpy picks any of them."""
    zeros = np.flatnonzero(values == 0)
    if np.signbit(values[zeros]).any():
        cells = np.flatnonzero(extremes == 0)
        following = np.searchsorted(zeros, lo[cells])
        cells, following = cells[following < zeros.size], following[following < zeros.size]
        extremes[cells] = values[zeros[following]]


def _time_of(windows: Windows, at_least: np.ufunc) -> tuple[Floats, Bools]:
    cut = pieces(windows.lo, windows.counts)
    samples = np.arange(windows.samples.values.size)
    where = _last_best(cut.lo, cut.counts, samples, windows.samples.values, at_least)
    if not cut.are_windows:
        where = _last_best(cut.first, cut.number, where, windows.samples.values, at_least)
    return windows.samples.times[where].reshape(windows.lo.shape) / 1000, windows.counts > 0


def _last_best(
    lo: Ints, counts: Ints, candidates: Ints, values: Floats, at_least: np.ufunc
) -> Ints:
    """Return for each window the last best one of its candidates, which are sample positions."""
    chosen = np.zeros(lo.size, dtype=np.int64)
    for batch in walks(lo, counts):
        where = candidates[batch.lo]
        best = values[where]
        for positions in batch.walk():
            alive = slice(positions.size)
            candidate = candidates[positions]
            value = values[candidate]
            better = at_least(value, best[alive]) | np.isnan(best[alive])
            best[alive] = np.where(better, value, best[alive])
            where[alive] = np.where(better, candidate, where[alive])
        chosen[batch.cells] = where
    return chosen
