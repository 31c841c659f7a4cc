"""Operators on matrices give at every step what plain loops give."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.errors import QueryExecutionError
from aggregator.model.budget import Budget
from aggregator.model.labels import METRIC_NAME, LabelTable, Strings
from aggregator.model.stepmatrix import StepMatrix
from aggregator.promql.annotations import Annotations
from aggregator.promql.numbers import format_plain
from aggregator.promql.operators.aggregate import REDUCERS, aggregate
from aggregator.promql.operators.binary import vector_vector
from aggregator.promql.operators.choose import choose_k, choose_ratio, count_values, quantile
from aggregator.promql.operators.order import label_order
from aggregator.promql.operators.rows import Groups, compact
from aggregator.promql.operators.sets import combine_sets
from aggregator.promql.operators.sums import group_sums
from aggregator.promql.plan import Binary, Cardinality, Matching, NumberLiteral, StringLiteral
from tests.promql import plain

LABELS = ("job", "host")
VALUES = st.one_of(
    st.sampled_from([0.0, 1.0, 2.0, -1.5, 1e100, -1e100, math.nan, math.inf, -math.inf]),
    st.floats(-1e6, 1e6),
)
GROUPINGS = st.sampled_from([(), ("job",), ("host",), ("job", "host"), ("nope",), (METRIC_NAME,)])


@st.composite
def matrices(draw, steps: int, strings: Strings, values=VALUES):
    """Return a matrix of distinct label sets, with or without gaps."""
    names = st.sampled_from(["a", "b"])
    texts = st.sampled_from(["", "x", "y", "z"])
    keys = draw(st.lists(st.tuples(names, texts, texts), max_size=7, unique=True))
    rows = [
        {key: text for key, text in zip((METRIC_NAME, *LABELS), row, strict=True) if text}
        for row in keys
    ]
    cells = values if draw(st.booleans()) else st.one_of(st.none(), values)
    size = len(rows) * steps
    drawn = draw(st.lists(cells, min_size=size, max_size=size))
    shape = (len(rows), steps)
    numbers = np.array([0.0 if cell is None else cell for cell in drawn]).reshape(shape)
    present = np.array([cell is not None for cell in drawn], dtype=np.bool_).reshape(shape)
    series = LabelTable.from_dicts(rows, strings)
    return StepMatrix(series, numbers, present, np.zeros(len(rows), dtype=np.bool_))


@st.composite
def single_matrices(draw, values=VALUES):
    """Return one matrix."""
    return draw(matrices(draw(st.integers(1, 3)), Strings(), values))


@st.composite
def pairs(draw):
    """Return two matrices of the same steps and dictionary."""
    strings, steps = Strings(), draw(st.integers(1, 3))
    return draw(matrices(steps, strings)), draw(matrices(steps, strings))


def vector(matrix: StepMatrix, step: int) -> plain.Vector:
    """Return the elements of one step."""
    return [
        (frozenset(labels.items()), value)
        for labels, value, there in zip(
            matrix.series.dicts(),
            matrix.values[:, step].tolist(),
            matrix.present[:, step],
            strict=True,
        )
        if there
    ]


def summed_in_pairs(values: list[float]) -> tuple[float, float]:
    """Return the sum and what it lost, neighbours added first."""
    pairs = [(value, 0.0) for value in values]
    while len(pairs) > 1:
        added = []
        for (left, left_lost), (right, right_lost) in zip(pairs[::2], pairs[1::2], strict=False):
            grown = left + right
            part = grown - left
            lost = left_lost + ((left - (grown - part)) + (right - part))
            added.append((grown, lost + right_lost))
        pairs = added + pairs[2 * len(added) :]
    return pairs[0]


@pytest.mark.parametrize("sizes", [[1], [7], [4, 4, 4], [3, 5, 4], [1, 1, 40, 3, 9, 1, 17]])
@pytest.mark.parametrize("gaps", [False, True])
def test_groups_of_any_sizes_are_summed_in_pairs(sizes, gaps):
    """The sum of each group is that of its own rows to the bit, whatever groups there are."""
    generator = np.random.default_rng(2)
    number = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    values = generator.normal(size=(number.size, 3)) * 10.0 ** generator.integers(-9, 9, (1, 3))
    present = generator.random(values.shape) < (0.8 if gaps else 1)
    groups = Groups.of(number, len(sizes))
    totals, lost = group_sums(values, present, groups)
    counted = np.where(present, values, 0.0)
    for group in range(len(sizes)):
        for step in range(3):
            wanted = summed_in_pairs(counted[number == group, step].tolist())
            assert (totals[group, step], lost[group, step]) == wanted


def close(got: float, wanted: float) -> bool:
    """Tell whether numbers are equal but for rounding."""
    if math.isnan(got) or math.isnan(wanted):
        return math.isnan(got) == math.isnan(wanted)
    return math.isclose(got, wanted, rel_tol=1e-9, abs_tol=1e-9)


def assert_steps(matrix: StepMatrix, expected: Callable[[int], plain.Vector]) -> None:
    """Check that each step has the expected elements, in any order."""
    for step in range(matrix.values.shape[1]):
        got, wanted = dict(vector(matrix, step)), dict(expected(step))
        assert got.keys() == wanted.keys()
        for labels, value in wanted.items():
            assert close(got[labels], value), (labels, got[labels], value)


@given(single_matrices(), st.sampled_from(sorted(REDUCERS)), GROUPINGS, st.booleans())
def test_aggregations_reduce_each_group(matrix, op, grouping, without):
    """Each group has the reduction of its values of that step."""

    def expected(step: int) -> plain.Vector:
        found = plain.groups(vector(matrix, step), grouping, drop=without)
        return [(key, plain.reduced(op, [v for _, v in part])) for key, part in found.items()]

    if op in {"stddev", "stdvar"} and (np.abs(matrix.values) > 1e50).any():
        return  # squares beyond float64 differ by the order of operations
    assert_steps(aggregate(op, matrix, grouping, without=without), expected)


@given(single_matrices(), st.floats(-0.2, 1.2), GROUPINGS, st.booleans())
def test_quantile_interpolates_between_ranks(matrix, q, grouping, without):
    """Each group has its quantile, NaN counting as smallest."""

    def expected(step: int) -> plain.Vector:
        found = plain.groups(vector(matrix, step), grouping, drop=without)
        return [(key, plain.quantile(q, [v for _, v in part])) for key, part in found.items()]

    qs = np.full(matrix.values.shape[1], q)
    assert_steps(quantile(matrix, grouping, qs, Annotations(), without=without), expected)


@given(
    single_matrices(),
    st.sampled_from(["topk", "bottomk", "limitk"]),
    st.integers(-1, 4),
    GROUPINGS,
    st.booleans(),
)
def test_choosing_keeps_the_best_of_each_group(matrix, op, k, grouping, without):
    """The k best, of equal values the first, are kept with their labels."""

    def expected(step: int) -> plain.Vector:
        found = plain.groups(vector(matrix, step), grouping, drop=without)
        return [element for part in found.values() for element in plain.chosen(op, k, part)]

    matrix = compact(matrix)  # as every operator hands it on
    ks = np.full(matrix.values.shape[1], float(k))
    result = choose_k(op, matrix, grouping, ks, without=without)
    assert_steps(result, expected)
    if matrix.values.shape[1] == 1 and op != "limitk":
        assert [labels for labels, _ in vector(result, 0)] == [e[0] for e in expected(0)]


@given(single_matrices(), st.floats(0, 1))
def test_ratio_and_complement_part_the_series(matrix, ratio):
    """A ratio and its complement share nothing and leave nothing out."""
    steps = matrix.values.shape[1]
    some = choose_ratio(matrix, np.full(steps, ratio), Annotations())
    rest = choose_ratio(matrix, np.full(steps, ratio - 1), Annotations())
    if ratio < 1:
        for step in range(steps):
            both = vector(some, step) + vector(rest, step)
            assert sorted(map(str, both)) == sorted(map(str, vector(matrix, step)))


@given(single_matrices(), GROUPINGS, st.booleans(), st.sampled_from(["value", "job"]))
def test_count_values_counts_by_value(matrix, grouping, without, label):
    """Each value of a group is a series with how often it occurs."""

    def expected(step: int) -> plain.Vector:
        counts: dict[plain.Labels, float] = {}
        for labels, value in vector(matrix, step):
            named = plain.without(labels, (label,)) | {(label, format_plain(value))}
            key = (
                plain.without(named, (*grouping, METRIC_NAME))
                if without
                else plain.only(named, (*grouping, label))
            )
            counts[key] = counts.get(key, 0) + 1
        return list(counts.items())

    counted = count_values(matrix, grouping, StringLiteral(label), Budget(), without=without)
    assert_steps(counted, expected)


@given(
    pairs(),
    st.sampled_from(["and", "or", "unless"]),
    st.booleans(),
    st.sampled_from([(), ("job",), ("host",)]),
)
def test_set_operators_decide_step_by_step(both, op, on, labels):
    """Membership on the other side is that of the same step."""
    left, right = both
    matching = Matching(Cardinality.MANY_TO_MANY, on, labels)

    def expected(step: int) -> plain.Vector:
        return plain.set_operation(op, matching, vector(left, step), vector(right, step))

    assert_steps(combine_sets(op, matching, left, right), expected)


@st.composite
def matchings(draw):
    """Return any vector matching."""
    labels = draw(st.sampled_from([(), ("job",), ("host",), ("job", "host")]))
    on = draw(st.booleans())
    cardinality = draw(
        st.sampled_from([Cardinality.ONE_TO_ONE, Cardinality.MANY_TO_ONE, Cardinality.ONE_TO_MANY])
    )
    include: tuple[str, ...] = ()
    if cardinality is not Cardinality.ONE_TO_ONE:
        allowed = [name for name in LABELS if not (on and name in labels)]
        include = tuple(draw(st.sets(st.sampled_from(allowed)) if allowed else st.just(set())))
    fills = st.sampled_from([None, None, None, 0.0, 7.0])
    return Matching(cardinality, on, labels, include, draw(fills), draw(fills))


@given(pairs(), matchings())
def test_vector_matching_is_that_of_each_step(both, matching):
    """Results and ambiguities are those of one step after the other."""
    left, right = both
    node = Binary("-", NumberLiteral(0), NumberLiteral(0), matching)
    steps = range(left.values.shape[1])
    try:
        expected = [
            plain.difference(matching, vector(left, step), vector(right, step)) for step in steps
        ]
    except plain.AmbiguousError:
        with pytest.raises(QueryExecutionError, match=r"match|labelset"):
            vector_vector(node, matching, left, right, Budget())
        return
    assert_steps(vector_vector(node, matching, left, right, Budget()), lambda step: expected[step])


@given(
    st.lists(st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1", "2", "10"])), max_size=9)
)
def test_rows_are_ordered_as_prometheus_compares_labels(rows):
    """Label lists compare pair by pair, name before value, a prefix first."""
    series = LabelTable.from_dicts(rows, Strings())
    got = [sorted(series.labels(row).items()) for row in label_order(series).tolist()]
    assert got == sorted(sorted(row.items()) for row in rows)


@given(single_matrices(), st.booleans(), st.booleans(), st.integers(0, 2))
def test_counting_everything_is_counting_one_group(matrix, named, without, flip):
    """However many series and steps there are, and whatever is absent or loses its name."""
    drop_name = np.arange(len(matrix.series)) % 3 == flip
    matrix = replace(matrix, drop_name=drop_name & named)
    whole = aggregate("count", matrix, (), without=False)
    every_label = matrix.series.names if without else ("nope",)
    group = aggregate("count", matrix, every_label, without=without)
    assert whole.series.dicts() == group.series.dicts()
    assert len(whole.series) == min(len(matrix.series), 1)
    assert whole.present.tolist() == group.present.tolist()
    assert whole.drop_name.tolist() == group.drop_name.tolist()
    np.testing.assert_array_equal(whole.values[whole.present], group.values[group.present])
    shape = len(whole.series), matrix.values.shape[1]
    for found in (whole, group):
        assert found.values.shape == found.present.shape == shape
        assert found.values.dtype == np.float64
        assert found.present.dtype == found.drop_name.dtype == np.bool_
