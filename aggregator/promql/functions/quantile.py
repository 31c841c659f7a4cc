"""Quantiles of a window's values, and the median absolute deviation.

The formulas are those of `quantile`, `funcQuantileOverTime` and `funcMadOverTime` in Prometheus
3's promql/quantile.go and promql/functions.go.
"""

from collections.abc import Sequence

import numpy as np

from aggregator.model.arrays import Bools, Floats, Ints
from aggregator.promql.annotations import Annotations
from aggregator.promql.functions.ragged import blocks
from aggregator.promql.numbers import format_float
from aggregator.promql.windows import Windows


def quantile_over_time(windows: Windows, params: Sequence[Floats]) -> tuple[Floats, Bools]:
    """Return the φ-quantile of each window; φ is the first parameter, `[T]`."""
    wanted = params[0]
    result = np.zeros(windows.lo.shape)
    flat = result.reshape(-1)
    values = windows.samples.values
    for batch in blocks(windows.lo, windows.counts):
        gathered = batch.gather(values)
        gathered.sort(axis=1)
        q = wanted[batch.cells % wanted.size]
        flat[batch.cells] = of_sorted(q, gathered, batch.counts)
    return result, windows.counts > 0


def mad_over_time(windows: Windows, _params: Sequence[Floats]) -> tuple[Floats, Bools]:
    """Return the median of the absolute distances from the median."""
    result = np.zeros(windows.lo.shape)
    flat = result.reshape(-1)
    values = windows.samples.values
    for batch in blocks(windows.lo, windows.counts):
        half = np.full(batch.cells.size, 0.5)
        gathered = batch.gather(values)
        gathered.sort(axis=1)
        with np.errstate(invalid="ignore", over="ignore"):
            gathered -= of_sorted(half, gathered, batch.counts)[:, None]
        np.abs(gathered, out=gathered)
        gathered.sort(axis=1)
        flat[batch.cells] = of_sorted(half, gathered, batch.counts)
    return result, windows.counts > 0


def of_sorted(q: Floats, rows: Floats, counts: Ints) -> Floats:
    """Return the `q[i]`-quantile of the first `counts[i]` values of each sorted row.

    *rows* is `[m, longest]`, sorted as numpy sorts: NaN, and the padding which is NaN too, last.
    Prometheus sorts NaN first, so a rank is counted from there.
    """
    nans = np.zeros_like(counts)
    if np.isnan(rows[:, -1]).any():
        nans = counts - (rows.shape[1] - np.count_nonzero(np.isnan(rows), axis=1))
    inside = (q >= 0) & (q <= 1)
    with np.errstate(invalid="ignore"):
        rank = np.where(inside, q, 0.0) * (counts - 1)
        floor = np.floor(rank)
        weight = rank - floor
        lower = np.maximum(floor, 0).astype(np.int64)
        upper = np.minimum(counts - 1, lower + 1)
        values = _ranked(rows, lower, nans) * (1 - weight) + _ranked(rows, upper, nans) * weight
        outside = np.where(np.isnan(q), np.nan, np.where(q < 0, -np.inf, np.inf))
    return np.where(inside, values, outside)


def check_quantile(params: Sequence[Floats], annotations: Annotations) -> None:
    """Warn about each φ, the first parameter, that is outside 0 … 1 or NaN."""
    outside = params[0][~((params[0] >= 0) & (params[0] <= 1))]
    for q in np.unique(outside).tolist():
        annotations.warn(f"quantile value should be between 0 and 1, got {format_float(q)}")


def _ranked(rows: Floats, rank: Ints, nans: Ints) -> Floats:
    """Return the value of each row at *rank* in Prometheus's order, where NaNs come first."""
    position = rank - nans
    below: Bools = position < 0
    chosen: Floats = rows[np.arange(rows.shape[0]), np.maximum(position, 0)]
    chosen[below] = np.nan
    return chosen
