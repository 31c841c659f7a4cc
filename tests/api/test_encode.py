"""Results as JSON."""

import math
from dataclasses import replace

import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aggregator.api import encode
from aggregator.api.labelsets import label_objects, label_sets
from aggregator.errors import QueryExecutionError
from aggregator.model.budget import Budget
from aggregator.model.labels import LabelTable, Matcher, MatchOp, Strings
from aggregator.model.samples import SampleBlock, SeriesSamples
from aggregator.model.stepmatrix import StepMatrix
from aggregator.store.days import DAY_MS
from aggregator.store.memory import MemoryStore


def _matrix(labels, values, present):
    table = LabelTable.from_dicts(labels, Strings())
    return StepMatrix(
        table, np.array(values, dtype=float), np.array(present), np.zeros(len(labels), bool)
    )


def _json(matrix, times=None, budget=None):
    """Return the answer: of a range query at *times*, of an instant one without."""
    budget = budget or Budget()
    if times is None:
        return b"".join(encode.vector(matrix, 1_500, budget))
    return b"".join(encode.matrix(matrix, np.array(times), budget))


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
    """A value is written as Prometheus writes it: one alone, among few, and among many."""
    assert encode.number(value) == str(text)
    for count in (1, 100, 5_000):
        body = _json(_matrix([{}], [[value] * count], [[True] * count]), range(count))
        assert {each[1] for each in orjson.loads(body)[0]["values"]} == {str(text)}


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.floats(), min_size=1, max_size=50))
def test_every_float_comes_back(values):
    """What was written parses to the same value, and is the same text among few and many."""
    texts = []
    for each in (values, values * 9, values * 3_001):
        matrix = _matrix([{"a": "b"}], [each], [[True] * len(each)])
        body = _json(matrix, range(len(each)))
        texts.append([text for _, text in orjson.loads(body)[0]["values"]])
    np.testing.assert_array_equal([float(text) for text in texts[0]], values)
    assert texts[1:] == [texts[0] * 9, texts[0] * 3_001]


@pytest.mark.parametrize(
    ("times", "texts"),
    [([0], ["0"]), ([-1_500, 1], ["-1.500", "0.001"]), ([-2_000, 5_000], ["-2", "5"]),
     ([1_795_328_222_000], ["1795328222"]),
     ([1_795_328_222_000, 1_795_328_222_120, 1_795_000_000_001],
      ["1795328222", "1795328222.120", "1795000000.001"])],
)  # fmt: skip
def test_seconds(times, texts):
    """A time is written in seconds, with three decimals if there are any."""
    assert [encode.second(time) for time in times] == texts
    points = ",".join(f'[{text},"0"]' for text in texts)
    matrix = _matrix([{}], [[0] * len(times)], [[True] * len(times)])
    assert _json(matrix, times).decode() == f'[{{"metric":{{}},"values":[{points}]}}]'


def test_matrix():
    """Absent points and series without any are left out."""
    labels = [{"a": "x"}, {"a": "y"}, {"b": 'a "quoted" ünicode \\ value\n'}]
    present = [[True, False, True], [False] * 3, [False, True, False]]
    matrix = _matrix(labels, [[1, 2, math.nan], [4, 5, 6], [7, 8, 9]], present)
    body = _json(matrix, [1_000, 2_000, 3_500])
    assert orjson.loads(body) == [
        {"metric": {"a": "x"}, "values": [[1, "1"], [3.5, "NaN"]]},
        {"metric": labels[2], "values": [[2, "8"]]},
    ]


def test_vector():
    """An instant vector has one value a series, and an empty one is an empty array."""
    matrix = _matrix([{}, {"a": "x"}], [[1], [2.5]], [[True], [True]])
    assert _json(matrix) == (
        b'[{"metric":{},"value":[1.500,"1"]},{"metric":{"a":"x"},"value":[1.500,"2.5"]}]'
    )
    assert _json(_matrix([{"a": "x"}], [[1]], [[False]])) == b"[]"


@pytest.mark.parametrize("count", [1, 8, 9, 80, 81])
def test_values_lie_in_memory_as_they_like(count):
    """One value repeated, every second one, and a column turned round are written like any."""
    wide = np.arange(2.0 * count).reshape(count, 2)
    for values in (np.broadcast_to(wide[:1, 1:], (count, 1)), wide[:, 1:], wide[::-1, :1]):
        labels = [{"a": str(row)} for row in range(count)]
        matrix = replace(_matrix(labels, values, [[True]] * count), values=values)
        body = orjson.loads(_json(matrix))
        assert [float(each["value"][1]) for each in body] == values[:, 0].tolist()


def _labels(draw):
    """Return label sets that need escapes, miss labels, and share them."""
    text = st.sampled_from(["x", "y", "", ",", '","', '"', "\\", "a\n", "ü", '{"metric":'])
    return draw(st.lists(st.dictionaries(st.sampled_from(["a", 'b"', "c,"]), text), min_size=1))


@settings(deadline=None)
@given(st.data())
def test_many_are_written_as_few(data):
    """Whatever is absent, an answer of many series is made of the answers of each."""
    labels = _labels(data.draw) * 90
    steps = data.draw(st.integers(1, 3))
    present = np.array(
        data.draw(st.lists(st.lists(st.booleans(), min_size=steps, max_size=steps), min_size=1))
        * len(labels)
    )[: len(labels)]
    values = np.arange(present.size).reshape(present.shape) * 0.5
    times = [1_000 * step for step in range(steps)] if steps > 1 else None
    alone = [
        _json(_matrix([each], [value], [some]), times)[1:-1]
        for each, value, some in zip(labels, values, present, strict=True)
    ]
    joined = b"[" + b",".join(filter(None, alone)) + b"]"
    assert _json(_matrix(labels, values, present), times) == joined


def test_ranges():
    """A range selector's samples keep their own times."""
    table = LabelTable.from_dicts([{"a": "x"}, {"a": "y"}, {"a": "z"}], Strings())
    samples = SeriesSamples(
        0, np.array([0, 2, 2, 3]), np.array([5_001, 6_000, 5_001]), np.array([1.0, 2.0, 3.0])
    )
    assert orjson.loads(b"".join(encode.ranges(table, samples, Budget()))) == [
        {"metric": {"a": "x"}, "values": [[5.001, "1"], [6, "2"]]},
        {"metric": {"a": "z"}, "values": [[5.001, "3"]]},
    ]


def test_large_answer_is_refused():
    """An answer above the byte budget is refused before it is written."""
    matrix = _matrix([{}], [np.zeros(1_000)], [[True] * 1_000])
    with pytest.raises(QueryExecutionError, match="MiB"):
        _json(matrix, range(1_000), Budget(max_bytes=10_000))


def test_many_values_cross_the_blocks():
    """An answer larger than one block is the same as the sum of its parts."""
    values = np.random.default_rng(1).normal(size=(3, 50_000))
    matrix = _matrix([{"a": str(i)} for i in range(3)], values, np.ones((3, 50_000), bool))
    series = orjson.loads(_json(matrix, 1_000 * np.arange(50_000)))
    assert [[float(text) for _, text in each["values"]] for each in series] == values.tolist()


ODD = ['"', "\\", ",", '","', "%", "%b", "%%", "\n", "\x00", "\x7f", "ä", "😀", "{", "}", ":", "a"]
TEXT = st.lists(st.sampled_from(ODD), min_size=1, max_size=6).map("".join)
NAMES = st.lists(TEXT, min_size=1, max_size=4, unique=True)


@settings(deadline=None)
@example([{"a": '",', "b": "x"}])
@given(NAMES.flatmap(lambda names: st.lists(st.fixed_dictionaries(dict.fromkeys(names, TEXT)))))
def test_every_label_comes_back(labels):
    """Whatever a cluster writes into labels that all its series have, it stays within them."""
    table = LabelTable.from_dicts(labels, Strings())
    assert [orjson.loads(text) for text in label_objects(table)] == labels


def test_label_sets_follow_the_series():
    """Kept ones are those of the series, also after some were forgotten and new ones took over."""
    store = MemoryStore()
    for day in range(1, 12):
        now = day * DAY_MS
        labels = [
            {"__name__": "x", "n": str(row), "day": str(day - row % 2)} for row in range(20 + day)
        ]
        ids = store.series_ids(labels)
        store.write(SampleBlock(ids, np.full(ids.size, now), np.ones(ids.size)))
        for n in ("1|2|3", ".+", "[0-9]", ".+"):
            matchers = [Matcher("n", MatchOp.REGEX, n), Matcher("__name__", MatchOp.EQUAL, "x")]
            for _ in range(2):
                strings = store.strings()
                table = store.select(matchers, now, now, strings, Budget()).labels
                made_up = table.with_column("n", np.full(len(table), strings.intern(f"d{day}")))
                for some in (table, made_up, table.keep(("day",)), table.take([0, 2])):
                    assert [orjson.loads(each) for each in label_objects(some)] == some.dicts()
        store.expire(now)


def test_what_is_kept_of_label_sets_is_bounded():
    """Large ones are written anew each time; those that are kept are the same object again."""
    for size, kept in ((10, True), (100_000, False)):
        table = LabelTable.from_dicts([{"a": "x" * size}], Strings())
        table.codes.flags.writeable = False
        assert (label_objects(table) is label_objects(table)) is kept


def test_label_sets():
    """Label sets come sorted, as many as wanted."""
    table = LabelTable.from_dicts([{"a": "y"}, {"b": "z"}, {"a": "x"}], Strings())
    assert label_sets(table, 2) == b'[{"a":"x"},{"a":"y"}]'
    assert label_sets(LabelTable.empty(Strings(), 0), 5) == b"[]"
