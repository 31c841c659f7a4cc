"""Results as JSON."""

import math

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.api import encode
from aggregator.api.labelsets import label_sets
from aggregator.errors import QueryExecutionError
from aggregator.model.budget import Budget
from aggregator.model.labels import LabelTable, Strings
from aggregator.model.samples import SeriesSamples
from aggregator.model.stepmatrix import StepMatrix


def _matrix(labels, values, present):
    table = LabelTable.from_dicts(labels, Strings())
    return StepMatrix(
        table, np.array(values, dtype=float), np.array(present), np.zeros(len(labels), bool)
    )


def _wide(count):
    labels = [{"a": str(number)} if number % 3 else {} for number in range(count)]
    return labels, [[1]] * count, [[True]] * count


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (-0.0, "-0"), (0.1, "0.1"), (1504.0, "1504"), (11.123999999999999,) * 2,
     (1e6, "1000000"), (1e15, "1000000000000000"), (1e16, "10000000000000000"),
     (1.2345678901234568e17, "123456789012345680"), (-1e20, "-100000000000000000000"),
     (1e21, "1e+21"), (1.5e300, "1.5e+300"), (1e-5, "0.00001"), (1.5e-6, "0.0000015"),
     (1e-6, "0.000001"), (9.9e-7, "9.9e-07"), (-2.5e-9, "-2.5e-09"), (1e-10, "1e-10"),
     (5e-324, "5e-324"), (math.nan, "NaN"), (math.inf, "+Inf"), (-math.inf, "-Inf")],
)  # fmt: skip
def test_number(value, text):
    """A value is written as Prometheus writes it, one alone and among many."""
    assert encode.number(value) == str(text)
    many = _matrix([{}], [[value] * 200], [[True] * 200])
    body = encode.matrix(many, np.arange(200), Budget())
    assert {each[1] for each in orjson.loads(body)[0]["values"]} == {str(text)}


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.floats(), min_size=1, max_size=50))
def test_every_float_comes_back(values):
    """What was written parses to the same value, and is the same text among few and many."""
    many = values * 101
    texts = []
    for each in (values, many):
        matrix = _matrix([{"a": "b"}], [each], [[True] * len(each)])
        body = encode.matrix(matrix, np.arange(len(each)), Budget())
        texts.append([text for _, text in orjson.loads(body)[0]["values"]])
    np.testing.assert_array_equal([float(text) for text in texts[0]], values)
    assert texts[1] == texts[0] * 101


@pytest.mark.parametrize(
    ("time_ms", "text"),
    [(0, "0"), (1, "0.001"), (-1_500, "-1.500"), (1_795_328_222_000, "1795328222"),
     (1_795_328_222_120, "1795328222.120")],
)  # fmt: skip
def test_seconds(time_ms, text):
    """A time is written in seconds, with three decimals if there are any."""
    assert encode.seconds(np.array([time_ms])).to_pylist() == [encode.second(time_ms)] == [text]


def test_matrix():
    """Absent points and series without any are left out."""
    labels = [{"a": "x"}, {"a": "y"}, {"b": 'a "quoted" ünicode \\ value\n'}]
    present = [[True, False, True], [False] * 3, [False, True, False]]
    matrix = _matrix(labels, [[1, 2, math.nan], [4, 5, 6], [7, 8, 9]], present)
    body = encode.matrix(matrix, np.array([1_000, 2_000, 3_500]), Budget())
    assert orjson.loads(body) == [
        {"metric": {"a": "x"}, "values": [[1, "1"], [3.5, "NaN"]]},
        {"metric": labels[2], "values": [[2, "8"]]},
    ]


def test_vector():
    """An instant vector has one value a series, and an empty one is an empty array."""
    matrix = _matrix([{}, {"a": "x"}], [[1], [2.5]], [[True], [True]])
    assert encode.vector(matrix, 1_500, Budget()) == (
        b'[{"metric":{},"value":[1.500,"1"]},{"metric":{"a":"x"},"value":[1.500,"2.5"]}]'
    )
    many = encode.vector(_matrix(*_wide(150)), 1_500, Budget())
    assert (
        many
        == b"["
        + b",".join(
            encode.vector(_matrix([labels], [[1]], [[True]]), 1_500, Budget())[1:-1]
            for labels in _wide(150)[0]
        )
        + b"]"
    )
    nothing = _matrix([{"a": "x"}], [[1]], [[False]])
    assert encode.vector(nothing, 0, Budget()) == b"[]"


def test_ranges():
    """A range selector's samples keep their own times."""
    table = LabelTable.from_dicts([{"a": "x"}, {"a": "y"}, {"a": "z"}], Strings())
    samples = SeriesSamples(
        0, np.array([0, 2, 2, 3]), np.array([5_001, 6_000, 5_001]), np.array([1.0, 2.0, 3.0])
    )
    assert orjson.loads(encode.ranges(table, samples, Budget())) == [
        {"metric": {"a": "x"}, "values": [[5.001, "1"], [6, "2"]]},
        {"metric": {"a": "z"}, "values": [[5.001, "3"]]},
    ]


def test_large_answer_is_refused():
    """An answer above the byte budget is refused before it is written."""
    matrix = _matrix([{}], [np.zeros(1_000)], [[True] * 1_000])
    with pytest.raises(QueryExecutionError, match="MiB"):
        encode.matrix(matrix, np.arange(1_000), Budget(max_bytes=10_000))


def test_many_values_cross_the_chunks():
    """An answer larger than one encoder call is the same as the sum of its parts."""
    values = np.random.default_rng(1).normal(size=(3, 50_000))
    matrix = _matrix([{"a": str(i)} for i in range(3)], values, np.ones((3, 50_000), bool))
    series = orjson.loads(encode.matrix(matrix, 1_000 * np.arange(50_000), Budget()))
    assert [[float(text) for _, text in each["values"]] for each in series] == values.tolist()


def test_label_sets():
    """Label sets come sorted, as many as wanted."""
    table = LabelTable.from_dicts([{"a": "y"}, {"b": "z"}, {"a": "x"}], Strings())
    assert label_sets(table, 2) == b'[{"a":"x"},{"a":"y"}]'
    assert label_sets(LabelTable.empty(Strings(), 0), 5) == b"[]"
