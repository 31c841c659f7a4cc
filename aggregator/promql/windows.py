"""Range vectors: which samples of which series lie in the window of each step, as index arrays."""

from dataclasses import dataclass

import numpy as np

from aggregator.model.arrays import Bools, Floats, Ints
from aggregator.model.record import record
from aggregator.model.samples import SeriesSamples, is_real, is_stale
from aggregator.model.stepmatrix import StepMatrix

# Largest key of the global binary search; a run whose keys would be larger is searched in parts.
_MAX_KEY = 2**62


@dataclass(frozen=True, slots=True)
class WindowRules:
    """What differs between versions of Prometheus; tests compare with 2.42 by `PROMETHEUS_2`.

    `closed_left` lets a window (and the lookback) hold the sample exactly at its left end.
    `zero_point_first` makes rate and increase limit the extrapolation to the counter's zero point
    before, not after, they compare it with the average spacing of the samples.
    """

    closed_left: bool = False
    zero_point_first: bool = False


PROMETHEUS_3 = WindowRules()
PROMETHEUS_2 = WindowRules(closed_left=True, zero_point_first=True)


@record
class Windows:
    """The window of each series (n of them) at each step (T of them), as positions of samples.

    The window of series k at step t is `samples.times[lo[k, t]:hi[k, t]]`, the samples in
    `(ends[t] - range_ms, ends[t]]`; `samples` holds no stale markers. `ends` (ms, `[T]`, never
    falling) is the evaluation time `at` (ms, `[T]`) less the offset, or what `@` says. What depends
    on sample times only need be computed of the rows `timed` of `lo` and `hi`: the first one if all
    series have samples at the same times, else all.
    """

    samples: SeriesSamples
    ends: Ints
    range_ms: int
    lo: Ints
    hi: Ints
    at: Ints
    timed: slice
    rules: WindowRules = PROMETHEUS_3

    @property
    def counts(self) -> Ints:
        """How many samples each window has, `[n, T]`."""
        return self.hi - self.lo


def build(
    samples: SeriesSamples,
    ends: Ints,
    range_ms: int,
    *,
    at: Ints | None = None,
    rules: WindowRules = PROMETHEUS_3,
) -> Windows:
    """Return the windows of *range_ms* that end at *ends* (ms, `[T]`), without stale markers.

    *at* are the evaluation times (ms, `[T]`) where an offset or `@` makes them differ from *ends*.
    """
    kept = without_stale(samples)
    if kept.times.size == 0:  # one sample that no window holds, so that any gather is legal
        kept = SeriesSamples(kept.first_row, kept.offsets, np.zeros(1, dtype=np.int64), np.zeros(1))
    starts = ends - range_ms - rules.closed_left
    own = _own_starts(starts, ends)
    positions, timed = _positions_after(kept, np.concatenate([starts[:own], ends]))
    return Windows(
        samples=kept,
        ends=ends,
        range_ms=range_ms,
        lo=positions[:, : ends.size],
        hi=positions[:, own:],
        at=ends if at is None else at,
        timed=timed,
        rules=rules,
    )


def _own_starts(starts: Ints, ends: Ints) -> int:
    """Return how many windows begin before the first end; the others begin where one ends.

    That is so where the range is a multiple of the step; elsewhere all count as beginning alone.
    """
    own = int(np.searchsorted(starts, ends[0]))
    return own if (starts[own:] == ends[: ends.size - own]).all() else ends.size


def last(
    samples: SeriesSamples, ends: Ints, lookback_ms: int, *, rules: WindowRules = PROMETHEUS_3
) -> tuple[Floats, Bools, Ints]:
    """Return the newest sample of each series in `(end - lookback_ms, end]` for each end.

    Returns values and presence, each `[n, T]`, and the samples' times in ms, `[n, T]` or one row
    for all. A series whose newest sample is the stale marker is absent; *samples* must therefore
    still hold the markers.
    """
    shape = (samples.count, ends.size)
    if samples.times.size == 0:
        return np.zeros(shape), np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.int64)
    starts = ends - lookback_ms - rules.closed_left
    hi, timed = _positions_after(samples, ends)
    newest = np.maximum(hi - 1, 0)
    times = samples.times[newest[timed]]
    within = times > starts
    within &= hi[timed] > samples.offsets[:-1, None][timed]
    values = samples.values[newest]
    return values, within & is_real(values), times


def without_stale(samples: SeriesSamples) -> SeriesSamples:
    """Return *samples* without stale markers; the same object if there are none."""
    stale = is_stale(samples.values)
    if not stale.any():
        return samples
    kept = ~stale
    before = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(kept)])
    return SeriesSamples(
        samples.first_row, before[samples.offsets], samples.times[kept], samples.values[kept]
    )


def from_matrix(matrix: StepMatrix, times: Ints) -> SeriesSamples:
    """Return the present values of a subquery's result as samples at its steps' *times* (ms)."""
    counts = np.count_nonzero(matrix.present, axis=1)
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
    grid = np.broadcast_to(times, matrix.present.shape)
    return SeriesSamples(0, offsets, grid[matrix.present], matrix.values[matrix.present])


def _positions_after(samples: SeriesSamples, bounds: Ints) -> tuple[Ints, slice]:
    """Return, for each series and bound, the position after its last sample at or before it.

    Also returns the rows that stand for all in what depends on times only: the first one if every
    series has samples at the same times. Else it is one binary search over all series at once: the
    key of a sample is (series, time) as one number.
    """
    offsets, times, count = samples.offsets, samples.times, samples.count
    every = slice(None)
    if not (times.size and bounds.size and count):
        return np.repeat(offsets[:-1, None], bounds.size, axis=1), every
    same = _same_times(samples)
    if same is not None:
        return offsets[:-1, None] + np.searchsorted(same, bounds, side="right"), slice(0, 1)
    first, newest = int(times.min()), int(times.max())
    if ((bounds < first) | (bounds >= newest)).all():  # what was read for one step is its window
        return np.where(bounds >= newest, offsets[1:, None], offsets[:-1, None]), every
    span = newest - first + 2
    wanted = np.clip(bounds, first - 1, first + span - 2) - (first - 1)
    found = np.empty((count, bounds.size), dtype=np.int64)
    rows = max(1, _MAX_KEY // span)
    for start in range(0, count, rows):
        stop = min(start + rows, count)
        part = offsets[start : stop + 1]
        base = np.arange(stop - start, dtype=np.int64) * span
        keys = times[part[0] : part[-1]] - (first - 1)
        keys += np.repeat(base, np.diff(part))
        found[start:stop] = part[0] + np.searchsorted(keys, base[:, None] + wanted, side="right")
    return found, every


def _same_times(samples: SeriesSamples) -> Ints | None:
    """Return the times that every series has, None if not all have the same."""
    count, offsets = samples.count, samples.offsets
    size = samples.times.size // count
    if size == 0 or (offsets[1:] - offsets[:-1] != size).any():
        return None
    times = samples.times.reshape(count, size)
    common: Ints = times[0]
    if (times[:, 0] != common[0]).any():  # seen without looking at all of them
        return None
    return common if (times[1:] == common).all() else None
