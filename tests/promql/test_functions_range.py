"""Kernels over range vectors against plain loops, and the cases worth a name."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.errors import QueryExecutionError
from aggregator.promql import windows
from aggregator.promql.annotations import Annotations
from aggregator.promql.functions import FUNCTIONS, ValueType, ragged
from aggregator.promql.windows import PROMETHEUS_2, PROMETHEUS_3
from tests.promql import reference
from tests.promql.series import alike_series, many_series, samples_of, series_lists

KERNELS = sorted(name for name, function in FUNCTIONS.items() if function.kernel is not None)
STALE_BITS = 0x7FF0000000000002


def run(name, series, ends, range_ms, params=(), *, at=None, rules=PROMETHEUS_3):
    """Return what kernel *name* gives, as lists with None for absent."""
    built = windows.build(samples_of(series), np.array(ends), range_ms, at=at, rules=rules)
    scalars = [np.broadcast_to(np.asarray(p, dtype=np.float64), len(ends)) for p in params]
    values, present = FUNCTIONS[name].kernel(built, scalars)
    assert values.shape == present.shape == (len(series), len(ends))
    assert values.dtype == np.float64
    return [
        [value if there else None for value, there in zip(*rows, strict=True)]
        for rows in zip(values.tolist(), present.tolist(), strict=True)
    ]


def expected(name, series, ends, range_ms, params=(), *, at=None, rules=PROMETHEUS_3):
    """Return what the plain loop gives."""
    function = reference.FUNCTIONS[name]
    result = []
    for points in series:
        row = []
        for step, end in enumerate(ends):
            now = reference.Moment(
                end - range_ms, end, int((ends if at is None else at)[step]), rules.zero_point_first
            )
            window = [
                (time, value)
                for time, value in points
                if now.start - rules.closed_left < time <= end
                and np.float64(value).view(np.uint64) != STALE_BITS
            ]
            row.append(function(window, now, *params) if window else None)
        result.append(row)
    return result


# Sorting leaves the order of -0 and 0 open, so which of them is a quantile is open too.
UNSIGNED = {"quantile_over_time", "mad_over_time"}


def assert_same(name, got, wanted):
    """Compare bit by bit, the sign of zero included; any NaN equals any other."""
    assert [[v is None for v in row] for row in got] == [[v is None for v in row] for row in wanted]
    flat = np.array([v for row in got for v in row if v is not None])
    loop = np.array([v for row in wanted for v in row if v is not None])
    np.testing.assert_array_equal(flat, loop)
    zero = (flat == 0) & (name not in UNSIGNED)
    np.testing.assert_array_equal(np.signbit(flat[zero]), np.signbit(loop[zero]))


PARAMETERS = {
    "quantile_over_time": st.tuples(
        st.one_of(st.floats(0, 1), st.sampled_from([-1.0, 2.0, math.nan, 0.0, 0.5, 1.0]))
    ),
    "predict_linear": st.tuples(st.sampled_from([0.0, 60.0, -7.5, 3600.0])),
    "double_exponential_smoothing": st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99)),
    "holt_winters": st.tuples(st.just(0.3), st.just(0.1)),
}


@pytest.mark.parametrize("name", KERNELS)
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_kernel_equals_plain_loop(name, data):
    """Each kernel gives, bit by bit, what a loop over the window's samples gives."""
    series = data.draw(series_lists())
    start = data.draw(st.integers(0, 300_000))
    step_ms = data.draw(st.sampled_from([0, 1, 15_000, 60_000]))
    ends = [start + step * step_ms for step in range(4)]
    range_ms = data.draw(st.sampled_from([1_000, 45_000, 120_000, 300_000]))
    params = data.draw(PARAMETERS.get(name, st.just(())))
    rules = data.draw(st.sampled_from([PROMETHEUS_3, PROMETHEUS_2]))
    at = np.array(ends) + data.draw(st.sampled_from([0, 60_000]))
    assert_same(
        name,
        run(name, series, ends, range_ms, params, at=at, rules=rules),
        expected(name, series, ends, range_ms, params, at=at, rules=rules),
    )


@pytest.mark.parametrize("name", KERNELS)
def test_kernel_equals_plain_loop_on_many_windows(name):
    """Each kernel gives the loop's results on more than a thousand windows at once."""
    series = many_series(seed=5)
    ends = list(range(30_000, 700_000, 21_000))
    scalars = sum(kind is ValueType.SCALAR for kind in FUNCTIONS[name].arguments)
    for rules in (PROMETHEUS_3, PROMETHEUS_2):
        case = (name, series, ends, 95_000, [0.37] * scalars)
        assert_same(name, run(*case, rules=rules), expected(*case, rules=rules))


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("range_ms", [95_000, 84_000])
def test_kernel_equals_plain_loop_on_series_with_the_same_times(name, range_ms):
    """Computing what depends on times once for all series gives what the loop gives of each.

    One of the ranges is a multiple of the step, so that windows begin where others end.
    """
    series = alike_series(seed=3)
    ends = list(range(-30_000, 1_300_000, 21_000))
    scalars = sum(kind is ValueType.SCALAR for kind in FUNCTIONS[name].arguments)
    for rules in (PROMETHEUS_3, PROMETHEUS_2):
        case = (name, series, ends, range_ms, [0.37] * scalars)
        assert_same(name, run(*case, rules=rules), expected(*case, rules=rules))


@pytest.mark.parametrize("name", KERNELS)
def test_small_batches_change_nothing(name, monkeypatch):
    """Windows split over many batches give what they give in one."""
    generator = np.random.default_rng(1)
    series = [
        [(int(t), float(v)) for t, v in zip(times, generator.normal(size=times.size), strict=True)]
        for times in (np.unique(generator.integers(0, 100_000, size)) for size in (1, 7, 40, 90))
    ]
    ends = list(range(5_000, 105_000, 4_000))
    params = [0.4] * sum(kind is ValueType.SCALAR for kind in FUNCTIONS[name].arguments)
    whole = run(name, series, ends, 30_000, params)
    monkeypatch.setattr(ragged, "WALK_WINDOWS", 3)
    monkeypatch.setattr(ragged, "BLOCK_VALUES", 20)
    assert_same(name, run(name, series, ends, 30_000, params), whole)


@pytest.mark.parametrize("name", KERNELS)
def test_windows_cut_into_pieces_give_the_same(name, monkeypatch):
    """Windows that are longer than a piece give the loop's results but for rounding."""
    monkeypatch.setattr(ragged, "PIECE_SAMPLES", 3)
    case = (name, many_series(seed=6), list(range(30_000, 700_000, 33_000)), 180_000)
    scalars = sum(kind is ValueType.SCALAR for kind in FUNCTIONS[name].arguments)
    got, wanted = (function(*case, [0.37] * scalars) for function in (run, expected))
    for row, loop in zip(got, wanted, strict=True):
        for value, other in zip(row, loop, strict=True):
            assert (value is None) == (other is None)
            if value is not None:
                np.testing.assert_allclose(value, other, rtol=1e-9, atol=1e-12)


def test_every_kernel_has_a_plain_loop():
    """The reference covers every kernel in the table."""
    assert sorted(reference.FUNCTIONS) == KERNELS


def test_rate_caps_the_spacing_before_the_zero_point():
    """Prometheus 3 compares the distance to the start with the spacing before the zero point."""
    series = [[(40_000, 7.5), (60_000, 17.5)]]
    assert run("increase", series, [80_000], 80_000) == [[10 * (20 + 10 + 20) / 20]]
    old = run("increase", series, [80_000], 80_000, rules=PROMETHEUS_2)
    assert old == [[10 * (20 + 15 + 20) / 20]]


def test_one_huge_reset_does_not_spoil_later_windows():
    """A counter that fell from 1e300 or +Inf has right rates once the fall is out of the window."""
    for spike in (1e300, math.inf):
        points = [(t * 1000, float(t)) for t in range(100)]
        points[10] = (10_000, spike)
        assert run("increase", [points], [80_000], 20_000) == [[20.0]]


def test_sums_are_compensated():
    """Terms that cancel leave the small ones, and integers are summed exactly."""
    series = [[(1, 1e100), (2, 1.0), (3, -1e100)], [(1, 3.0), (2, 4.0)]]
    assert run("sum_over_time", series, [3], 10) == [[1.0], [7.0]]
    assert run("avg_over_time", series, [3], 10) == [[1 / 3], [3.5]]


def test_mean_of_values_whose_sum_overflows():
    """The mean of huge values is finite; an infinity stays one; both make NaN."""
    top = 1.7e308
    series = [
        [(1, top), (2, top), (3, top)],
        [(1, 1.0), (2, math.inf), (3, 2.0)],
        [(1, math.inf), (2, -math.inf), (3, 2.0)],
    ]
    (mean,), (infinite,), (undefined,) = run("avg_over_time", series, [3], 10)
    assert mean == pytest.approx(top)
    assert infinite == math.inf
    assert math.isnan(undefined)


def test_deriv_of_a_constant_is_exactly_zero():
    """A constant window has slope 0 and predicts its value, a constant infinity nothing."""
    series = [[(t, 0.1) for t in (1, 7_777, 15_001)], [(1, math.inf), (2, math.inf)]]
    (zero,), (undefined,) = run("deriv", series, [20_000], 20_000)
    assert zero == 0
    assert math.isnan(undefined)
    assert run("predict_linear", series[:1], [20_000], 20_000, (3600,)) == [[0.1]]


def test_prediction_starts_at_the_evaluation_time():
    """With an offset the line is continued from the evaluation time, not the window's end."""
    series = [[(0, 0.0), (10_000, 10.0), (20_000, 20.0)]]
    result = run("predict_linear", series, [20_000], 30_000, (5,), at=np.array([80_000]))
    assert result == [[pytest.approx(85)]]


def test_smoothing_factors_must_lie_between_0_and_1():
    """Factors of 0 and 1 are an error that names the factor."""
    check = FUNCTIONS["double_exponential_smoothing"].check
    check([np.array([0.5]), np.array([0.5])], Annotations())
    with pytest.raises(QueryExecutionError, match=r"invalid smoothing factor.*0 < sf < 1.*1\.0"):
        check([np.array([1.0]), np.array([0.5])], Annotations())
    with pytest.raises(QueryExecutionError, match=r"invalid trend factor.*0 < tf < 1.*0\.0"):
        check([np.array([0.5]), np.array([0.0])], Annotations())


def test_quantiles_outside_0_to_1_are_warned_of():
    """Each such quantile is named once, as Go prints it."""
    annotations = Annotations()
    FUNCTIONS["quantile_over_time"].check(
        [np.array([0.0, 1.0, 99.0, 99.0, math.nan, 1e6])], annotations
    )
    assert list(annotations.warnings) == [
        f"PromQL warning: quantile value should be between 0 and 1, got {q}"
        for q in ("99", "1e+06", "NaN")
    ]


@pytest.mark.parametrize("name", ["deriv", "predict_linear", "sum_over_time", "avg_over_time"])
@pytest.mark.parametrize("scale", [1.0, 0.1])
@pytest.mark.parametrize("largest", [3, 10**6, 10**12, 2**60])
def test_whole_numbers_on_a_grid_are_added_as_a_loop_adds_them(name, largest, scale):
    """Running sums of whole numbers give, bit by bit, what adding sample by sample gives."""
    generator = np.random.default_rng(largest)
    start = 1_700_000_000_123
    series = [
        [
            (start + 1000 * row + 30_000 * index, value * scale)
            for index, value in enumerate(generator.integers(-largest, largest, 200).tolist())
        ]
        for row in range(7)
    ]
    ends = [start + 60_000 * step for step in range(-2, 110, 3)]
    params = [3600.0] if name == "predict_linear" else []
    for range_ms in (90_000, 1_800_000, 10**10):
        case = (name, series, ends, range_ms, params)
        assert_same(name, run(*case), expected(*case))
