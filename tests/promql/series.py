"""Random series for property tests, and their form as columns."""

import math

import numpy as np
from hypothesis import strategies as st

from aggregator.model.samples import STALE, SeriesSamples


def samples_of(series) -> SeriesSamples:
    """Return lists of (time in ms, value), one a series, as a run of samples."""
    offsets = np.cumsum([0, *(len(points) for points in series)], dtype=np.int64)
    times = np.array([time for points in series for time, _ in points], dtype=np.int64)
    values = np.array([value for points in series for _, value in points], dtype=np.float64)
    return SeriesSamples(0, offsets, times, values)


def values():
    """Return values as counters and gauges have them, and the odd ones."""
    return st.one_of(
        st.integers(-3, 6).map(float),
        st.floats(-1e6, 1e6),
        st.sampled_from(
            [
                math.nan,
                math.inf,
                -math.inf,
                STALE,
                1.7e308,
                -1.7e308,
                1e300,
                1e17,
                5e-324,
                0.1,
                -0.0,
            ]
        ),
    )


@st.composite
def one_series(draw):
    """Return a series: scrape interval with jitter, gaps, a constant or counter stretch."""
    count = draw(st.integers(0, 25))
    interval = draw(st.sampled_from([1_000, 15_000, 30_000]))
    jitter = draw(st.integers(0, 400))
    kind = draw(st.sampled_from(["wild", "counter", "constant", "tame"]))
    time, level, points = draw(st.integers(0, 60_000)), 0.0, []
    constant = draw(values())
    for _ in range(count):
        time += interval * draw(st.sampled_from([1, 1, 1, 1, 7])) + draw(
            st.integers(-jitter, jitter)
        )
        if kind == "counter":
            level = draw(st.sampled_from([level + 1, level + 5.5, level, 0.0]))
            points.append((time, level))
        elif kind == "constant":
            points.append((time, constant))
        elif kind == "tame":
            points.append((time, draw(st.floats(-100, 100))))
        else:
            points.append((time, draw(values())))
    return points


@st.composite
def series_lists(draw):
    """Return a few series, sometimes all with the same times."""
    series = draw(st.lists(one_series(), min_size=1, max_size=5))
    if draw(st.booleans()):
        return series
    times = [time for time, _ in min(series, key=len)]
    return [
        [(time, value) for time, (_, value) in zip(times, points, strict=False)]
        for points in series
    ]


def alike_series(seed: int, count: int = 7):
    """Return series with samples at the same times: counters with resets, gauges, odd values."""
    generator = np.random.default_rng(seed)
    times = np.cumsum(generator.choice([10_000, 10_000, 35_000], 60)).tolist()
    odd = np.array([math.nan, math.inf, -math.inf, 1e308, 0.0, -0.0])
    levels = np.cumsum(generator.poisson(2.0, (count, len(times))) * 0.1, axis=1)
    levels -= np.maximum.accumulate(np.where(generator.random(levels.shape) < 0.05, levels, 0), 1)
    levels[::3] = generator.normal(size=levels[::3].shape)
    levels[1::3] = np.where(
        generator.random(levels[1::3].shape) < 0.05,
        generator.choice(odd, levels[1::3].shape),
        levels[1::3],
    )
    return [list(zip(times, level, strict=True)) for level in levels.tolist()]


def many_series(seed: int, count: int = 40):
    """Return series of up to ten minutes with jitter, gaps, resets and the odd values."""
    generator = np.random.default_rng(seed)
    odd = np.array([math.nan, math.inf, -math.inf, STALE, 1e308, 0.0, -0.0])
    result = []
    for number in range(count):
        size = int(generator.integers(2, 60))
        steps = generator.choice([10_000, 10_000, 10_000, 35_000], size)
        times = np.cumsum(steps) + generator.integers(-900, 900, size)
        if number % 2:
            level = np.cumsum(generator.poisson(2.0, size) * generator.choice([1.0, 0.1]))
            level -= np.maximum.accumulate(np.where(generator.random(size) < 0.05, level, 0))
        else:
            level = generator.normal(size=size) * 10.0 ** generator.integers(-3, 9)
        if number % 4 == 3:
            level = np.where(generator.random(size) < 0.1, generator.choice(odd, size), level)
        result.append(list(zip(times.tolist(), level.tolist(), strict=True)))
    return result
