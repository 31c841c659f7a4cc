"""histogram_quantile and histogram_fraction on classic buckets, also against plain loops."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.promql.annotations import Annotations
from tests.promql.test_functions_vector import rows, run, scalar, vector

INF, NAN = math.inf, math.nan
BOUNDS = ["-1", "0", "0.1", "0.5", "1", "1.0", "2.5", "1e1", "+Inf"]
MONOTONICITY = (
    "PromQL info: input to histogram_quantile needed to be fixed for monotonicity (see "
    "https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)"
)


def buckets(counts, name="h_bucket", **labels):
    """Return the rows of one histogram: counts by upper bound."""
    return [({"__name__": name, "le": le, **labels}, values) for le, values in counts.items()]


def one(name, matrix, *scalars, annotations=None):
    """Return the values of the only histogram."""
    arguments = [scalar(*values) for values in scalars]
    ((_, values),) = rows(run(name, *arguments, matrix, annotations=annotations))
    return values


def quantile(q, counts):
    """Interpolate one histogram at one step as Prometheus's loop does."""
    merged: dict[float, float] = {}
    for bound, count in sorted(counts, key=lambda pair: pair[0]):
        merged[bound] = merged.get(bound, 0.0) + count
    if math.isnan(q):
        return NAN
    if not 0 <= q <= 1:
        return math.copysign(INF, q)
    bounds, values = list(merged), list(merged.values())
    for index in range(1, len(values)):
        before, here = values[index - 1], values[index]
        close = here != before and abs(here - before) / (abs(here) + abs(before)) < 1e-12
        if (before and here and close) or here < before:
            values[index] = before
    if bounds[-1] != INF or len(bounds) < 2 or values[-1] == 0:
        return NAN
    rank = q * values[-1]
    at = next((i for i, value in enumerate(values[:-1]) if value >= rank), len(values) - 1)
    if at == len(values) - 1:
        return bounds[-2]
    if at == 0 and bounds[0] <= 0:
        return bounds[0]
    start, below = (bounds[at - 1], values[at - 1]) if at else (0.0, 0.0)
    inside = values[at] - below
    share = (rank - below) / inside if inside else NAN
    return start + (bounds[at] - start) * share


def rank_of(value, bounds, values):
    """Return how many observations of one histogram lie below *value*."""
    rank, low = 0.0, -INF if bounds[0] <= 0 else 0.0
    for bound, count in zip(bounds, values, strict=True):
        if low >= value:
            return rank
        if bound > value:
            if low == -INF:
                return count
            return rank + (count - rank) * (value - low) / (bound - low)
        rank, low = count, bound
    return values[-1]


def fraction(lower, upper, counts):
    """Return the share between two bounds of one histogram at one step."""
    merged: dict[float, float] = {}
    for bound, count in sorted(counts, key=lambda pair: pair[0]):
        merged[bound] = merged.get(bound, 0.0) + count
    bounds, values = list(merged), list(merged.values())
    if bounds[-1] != INF or values[-1] == 0 or math.isnan(lower) or math.isnan(upper):
        return NAN
    if lower >= upper:
        return 0.0
    low, high = (min(rank_of(v, bounds, values), values[-1]) for v in (lower, upper))
    return (high - low) / values[-1]


@st.composite
def histograms(draw):
    """Return some histograms as rows, and by (histogram, step) what is present of them."""
    steps = 3
    gaps, least = draw(st.booleans()), draw(st.sampled_from([-1, 0]))
    matrix, present = [], {}
    for number in range(draw(st.integers(1, 4))):
        bounds = draw(st.lists(st.sampled_from(BOUNDS), min_size=1, unique=True))
        level = np.zeros(steps)
        for text in sorted(bounds, key=float):
            level = level + draw(st.lists(st.integers(least, 9), min_size=steps, max_size=steps))
            level = np.maximum(level, 0) * draw(st.sampled_from([1.0, 1.0, 1 + 1e-14]))
            values = [None if gaps and draw(st.integers(0, 9)) == 0 else v for v in level.tolist()]
            matrix.append(({"__name__": "h_bucket", "n": str(number), "le": text}, values))
            for step, value in enumerate(values):
                if value is not None:
                    present.setdefault((number, step), []).append((float(text), value))
    order = draw(st.permutations(range(len(matrix))))
    return [matrix[index] for index in order], present


def compare(result, present, function):
    """Compare each present histogram with the loop, and see that no other is there."""
    got = {
        (int(labels["n"]), step): value
        for labels, values in rows(result)
        for step, value in enumerate(values)
        if value is not None
    }
    assert got.keys() == present.keys()
    for key, counts in present.items():
        np.testing.assert_allclose(got[key], function(key[1], counts), rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=100)
@given(
    histograms(),
    st.lists(
        st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0, -1.0, 2.0, NAN])),
        min_size=3,
        max_size=3,
    ),
)
def test_quantile_equals_plain_loop(case, qs):
    """Every histogram at every step gets the quantile that a loop over its buckets gives."""
    matrix, present = case
    result = run("histogram_quantile", scalar(*qs), vector(matrix))
    compare(result, present, lambda step, counts: quantile(qs[step], counts))


@settings(deadline=None, max_examples=100)
@given(
    histograms(),
    st.lists(st.sampled_from([-INF, -2.0, 0.0, 0.3, 1.0, 7.0, INF, NAN]), min_size=6, max_size=6),
)
def test_fraction_equals_plain_loop(case, edges):
    """Every histogram at every step gets the fraction that a loop over its buckets gives."""
    matrix, present = case
    lower, upper = edges[:3], edges[3:]
    result = run("histogram_fraction", scalar(*lower), scalar(*upper), vector(matrix))
    compare(result, present, lambda step, counts: fraction(lower[step], upper[step], counts))


def test_quantile_interpolates_in_its_bucket():
    """A quantile lies in its bucket in proportion; the labels lose `le` and the name is dropped."""
    matrix = vector(buckets({"1": [10], "2": [20], "+Inf": [20]}, job="x"))
    result = run("histogram_quantile", scalar(0.75), matrix)
    assert rows(result) == [({"__name__": "h_bucket", "job": "x"}, [1.5])]
    assert result.drop_name.tolist() == [True]


@pytest.mark.parametrize(
    ("q", "expected"), [(0.99, 2.0), (1.0, 2.0), (-0.1, -INF), (1.1, INF), (0.25, 0.75)]
)
def test_quantile_at_the_edges(q, expected):
    """The highest bucket gives the bound below it, a φ outside 0 … 1 an infinity."""
    matrix = vector(buckets({"1": [10], "2": [20], "+Inf": [30]}))
    assert one("histogram_quantile", matrix, [q]) == [pytest.approx(expected)]


def test_histograms_that_have_no_quantile():
    """Without the +Inf bucket, with it alone, or without observations there is only NaN."""
    for counts in ({"1": [10], "2": [20]}, {"+Inf": [10]}, {"1": [0], "+Inf": [0]}):
        (value,) = one("histogram_quantile", vector(buckets(counts)), [0.5])
        assert math.isnan(value)


def test_falling_counts_are_repaired_and_noted():
    """A count below the one before is raised to it, with an info that names the metric."""
    annotations = Annotations()
    matrix = vector(buckets({"1": [10], "2": [5], "+Inf": [20]}))
    assert one("histogram_quantile", matrix, [0.5], annotations=annotations) == [1.0]
    assert list(annotations.infos) == [f'{MONOTONICITY} for metric name "h_bucket"']
    rounding = vector(buckets({"1": [10], "2": [10 - 1e-13], "+Inf": [20]}))
    quiet = Annotations()
    assert one("histogram_quantile", rounding, [0.5], annotations=quiet) == [1.0]
    assert not quiet.infos
    rising = vector(buckets({"1": [10], "2": [10], "+Inf": [10 + 1e-13]}))
    assert one("histogram_quantile", rising, [1.0], annotations=quiet) == [1.0]


def test_many_steps_are_looked_through_in_blocks():
    """What is held beside the counts stays small, and a fall is found at the last step."""
    steps = 200_000
    counts = {str(le): [10.0 + le] * steps for le in range(11)} | {"+Inf": [30.0] * steps}
    counts["5"][-1] = 1.0
    annotations, matrix, q = Annotations(), vector(buckets(counts)), scalar(*[0.5] * steps)
    tracemalloc.start()
    result = run("histogram_quantile", q, matrix, annotations=annotations)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert list(annotations.infos) == [f'{MONOTONICITY} for metric name "h_bucket"']
    assert result.values[0, -2:].tolist() == [5.0, 5.5]
    assert peak < 3 * matrix.values.nbytes


def test_rows_without_a_usable_bound_are_left_out_with_a_warning():
    """A missing or malformed `le` is warned of and does not count."""
    annotations = Annotations()
    matrix = vector(
        [
            *buckets({"1": [10], "+Inf": [20], "x y": [7]}),
            ({"__name__": "h_bucket"}, [99.0]),
            ({"__name__": "h_bucket", "le": "1_0"}, [None]),
        ]
    )
    assert one("histogram_quantile", matrix, [0.25], annotations=annotations) == [0.5]
    assert sorted(annotations.warnings) == [
        'PromQL warning: bucket label "le" is missing or has a malformed value of '
        f'{value} for metric name "h_bucket"'
        for value in ('""', '"x y"')
    ]


def test_quantile_outside_the_range_is_warned_of():
    """A φ outside 0 … 1 is warned of."""
    annotations = Annotations()
    matrix = vector(buckets({"1": [10], "+Inf": [20]}))
    one("histogram_quantile", matrix, [1.5], annotations=annotations)
    assert list(annotations.warnings) == [
        "PromQL warning: quantile value should be between 0 and 1, got 1.5"
    ]


def test_a_vector_without_buckets_gives_nothing():
    """No buckets, no histograms, no result."""
    empty = vector([({"a": "1"}, [None])])
    assert rows(run("histogram_quantile", scalar(0.5), empty)) == []
    assert rows(run("histogram_fraction", scalar(0), scalar(1), empty)) == []
