"""Windows: which samples they hold, and the instant selector's newest sample."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.model.labels import LabelTable, Strings
from aggregator.model.samples import STALE, SeriesSamples, is_stale
from aggregator.model.stepmatrix import StepMatrix
from aggregator.promql import windows
from aggregator.promql.windows import PROMETHEUS_2, PROMETHEUS_3
from tests.promql.series import samples_of, series_lists


def members(samples, ends, range_ms, rules=PROMETHEUS_3):
    """Return the times in each window, by series and step."""
    built = windows.build(samples, np.array(ends), range_ms, rules=rules)
    return [
        [built.samples.times[a:b].tolist() for a, b in zip(lo, hi, strict=True)]
        for lo, hi in zip(built.lo.tolist(), built.hi.tolist(), strict=True)
    ]


def test_window_is_left_open_and_right_closed():
    """A sample at the left end is outside, one at the right end inside."""
    samples = samples_of([[(1000, 1.0), (2000, 2.0), (3000, 3.0)]])
    assert members(samples, [3000], 2000) == [[[2000, 3000]]]
    assert members(samples, [3000], 2000, PROMETHEUS_2) == [[[1000, 2000, 3000]]]


def test_stale_markers_are_in_no_window():
    """A stale marker is no sample of a range vector."""
    samples = samples_of([[(1000, 1.0), (2000, STALE), (3000, math.nan)], [(1500, STALE)]])
    assert members(samples, [3000], 5000) == [[[1000, 3000]], [[]]]


def test_series_may_have_other_times_after_the_same_first_one():
    """As many samples with the same first and last time are not samples at the same times."""
    series = [[(time, 1.0) for time in times] for times in ((1, 5, 9), (1, 7, 9), (1, 5, 9))]
    assert members(samples_of(series), [6, 9], 6) == [
        [[1, 5], [5, 9]],
        [[1], [7, 9]],
        [[1, 5], [5, 9]],
    ]


def test_runs_without_samples_have_empty_windows():
    """Series without samples, and runs without any, have windows without samples."""
    assert members(samples_of([[], []]), [3000, 4000], 5000) == [[[], []], [[], []]]
    assert members(samples_of([[], [(1, 1.0)], []]), [3], 5) == [[[]], [[1]], [[]]]
    assert members(samples_of([]), [3], 5) == []


def test_keys_beyond_64_bits_are_searched_in_parts():
    """Times from one end of int64 to the other do not overflow the search key."""
    far = 2**61
    samples = samples_of([[(-far, 1.0), (far, 2.0)], [(0, 3.0)], [(-far, 4.0), (5, 5.0)]])
    assert members(samples, [0, 10], 100) == [[[], []], [[0], [0]], [[], [5]]]


@settings(deadline=None, max_examples=60)
@given(
    series_lists(),
    st.lists(st.integers(-5_000, 400_000), min_size=1, max_size=6).map(sorted),
    st.integers(1, 200_000),
    st.sampled_from([PROMETHEUS_2, PROMETHEUS_3]),
)
def test_windows_hold_what_a_loop_finds(series, ends, range_ms, rules):
    """Every window holds the samples that a loop over series and steps finds."""
    found = members(samples_of(series), ends, range_ms, rules)
    for points, row in zip(series, found, strict=True):
        for end, times in zip(ends, row, strict=True):
            assert times == [
                time
                for time, value in points
                if end - range_ms - rules.closed_left < time <= end
                and not is_stale(np.array([value]))[0]
            ]


@settings(deadline=None, max_examples=60)
@given(
    series_lists(),
    st.lists(st.integers(-5_000, 400_000), min_size=1, max_size=6).map(sorted),
    st.integers(1, 200_000),
    st.sampled_from([PROMETHEUS_2, PROMETHEUS_3]),
)
def test_last_finds_the_newest_sample_of_the_lookback(series, ends, lookback_ms, rules):
    """The newest sample counts if it is in the lookback window and not the stale marker."""
    samples = samples_of(series)
    values, present, times = windows.last(samples, np.array(ends), lookback_ms, rules=rules)
    times = np.broadcast_to(times, values.shape)
    for row, points in enumerate(series):
        for step, end in enumerate(ends):
            inside = [p for p in points if end - lookback_ms - rules.closed_left < p[0] <= end]
            if not inside or is_stale(np.array([inside[-1][1]]))[0]:
                assert not present[row, step]
                continue
            assert present[row, step]
            assert times[row, step] == inside[-1][0]
            np.testing.assert_array_equal(values[row, step], inside[-1][1])


def test_last_of_a_run_without_samples_is_absent():
    """A run without samples has nothing present, in the right shape."""
    values, present, times = windows.last(samples_of([[], []]), np.array([1, 2, 3]), 5)
    assert values.shape == present.shape == times.shape == (2, 3)
    assert not present.any()


def test_without_stale_returns_clean_samples_untouched():
    """Samples without stale markers are not copied."""
    samples = samples_of([[(1, math.nan), (2, 1.0)]])
    assert windows.without_stale(samples) is samples


def test_from_matrix_keeps_what_is_present():
    """The present values of a subquery's result become samples at the times of its steps."""
    present = np.array([[True, False, True], [False, False, False]])
    values = np.array([[1.0, 2.0, math.nan], [4.0, 5.0, 6.0]])
    matrix = StepMatrix(
        LabelTable.empty(Strings(), rows=2), values, present, np.zeros(2, dtype=np.bool_)
    )
    samples = windows.from_matrix(matrix, np.array([10, 20, 30]))
    assert isinstance(samples, SeriesSamples)
    assert samples.offsets.tolist() == [0, 2, 2]
    assert samples.times.tolist() == [10, 30]
    np.testing.assert_array_equal(samples.values, [1.0, math.nan])
