"""Functions of instant vectors, scalars and strings: values, labels, order, presence."""

import math

import numpy as np
import pytest

from aggregator.errors import QueryExecutionError
from aggregator.model.labels import LabelTable, Matcher, MatchOp, Strings
from aggregator.model.stepmatrix import StepMatrix, StepRange
from aggregator.promql.annotations import Annotations
from aggregator.promql.functions import FUNCTIONS, Call

INF, NAN = math.inf, math.nan
STEPS = StepRange(60_000, 30_000, 3)


def vector(rows, strings=None):
    """Return a matrix of (labels, values), None standing for absent."""
    strings = Strings() if strings is None else strings
    values = np.array([[0.0 if v is None else v for v in row] for _, row in rows], dtype=float)
    present = np.array([[v is not None for v in row] for _, row in rows], dtype=np.bool_)
    labels = LabelTable.from_dicts([labels for labels, _ in rows], strings)
    return StepMatrix(labels, values, present, np.zeros(len(rows), dtype=np.bool_))


def scalar(*values):
    """Return a scalar at each step."""
    return vector([({}, values)])


def run(name, *args, steps=None, matchers=(), annotations=None):
    """Call function *name*; the steps are as many as the first matrix has."""
    matrices = [arg for arg in args if isinstance(arg, StepMatrix)]
    if steps is None:
        count = matrices[0].values.shape[1] if matrices else STEPS.count
        steps = StepRange(STEPS.start_ms, STEPS.step_ms, count)
    strings = matrices[0].series.strings if matrices else Strings()
    notes = [annotations or Annotations()] * len(args)
    call = Call(name, steps, args, strings, notes, steps, lambda _: None, matchers)
    return FUNCTIONS[name].run(call)


def rows(matrix):
    """Return (labels, values with None for absent) of each row that has any value."""
    return [
        (labels, [v if p else None for v, p in zip(values, present, strict=True)])
        for labels, values, present in zip(
            matrix.series.dicts(), matrix.values.tolist(), matrix.present.tolist(), strict=True
        )
        if any(present)
    ]


def values_of(name, values, *more):
    """Return what *name* makes of a vector of one series."""
    result = run(name, vector([({"__name__": "m", "a": "b"}, values)]), *more)
    assert result.drop_name.all()
    ((labels, got),) = rows(result)
    assert labels == {"__name__": "m", "a": "b"}
    return got


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("abs", [-1.5, NAN, -INF], [1.5, NAN, INF]),
        ("ceil", [1.2, -1.2, INF], [2, -1, INF]),
        ("floor", [1.2, -1.2, NAN], [1, -2, NAN]),
        ("exp", [0, -INF, INF], [1, 0, INF]),
        ("ln", [1, 0, -1], [0, -INF, NAN]),
        ("log2", [8, 0, -1], [3, -INF, NAN]),
        ("log10", [1000, 0, -1], [3, -INF, NAN]),
        ("sqrt", [9, -1, INF], [3, NAN, INF]),
        ("sgn", [-5, 0, NAN], [-1, 0, NAN]),
        ("deg", [math.pi, 0, -math.pi], [180, 0, -180]),
        ("rad", [180, 0, -180], [math.pi, 0, -math.pi]),
        ("sin", [0, math.pi / 2, INF], [0, 1, NAN]),
        ("cos", [0, math.pi, INF], [1, -1, NAN]),
        ("tan", [0, math.pi / 4, NAN], [0, 1, NAN]),
        ("asin", [0, 1, 2], [0, math.pi / 2, NAN]),
        ("acos", [1, -1, 2], [0, math.pi, NAN]),
        ("atan", [0, 1, INF], [0, math.pi / 4, math.pi / 2]),
        ("sinh", [0, INF, -INF], [0, INF, -INF]),
        ("cosh", [0, INF, -INF], [1, INF, INF]),
        ("tanh", [0, INF, -INF], [0, 1, -1]),
        ("asinh", [0, INF, -INF], [0, INF, -INF]),
        ("acosh", [1, INF, 0], [0, INF, NAN]),
        ("atanh", [0, 1, 2], [0, INF, NAN]),
        ("round", [2.5, -2.5, 0.49], [3, -2, 0]),
    ],
)
def test_functions_of_one_value(name, values, expected):
    """Functions of one value follow IEEE 754 and drop the metric name."""
    np.testing.assert_allclose(
        np.array(values_of(name, values), dtype=float),
        expected,
        rtol=1e-15,
        atol=1e-15,
    )


def test_every_function_has_code_of_its_kind():
    """A function of a range vector has a kernel, any other a run, and both know their name."""
    for name, function in FUNCTIONS.items():
        assert function.name == name
        takes_range = any(kind.name == "RANGE" for kind in function.arguments)
        assert (function.kernel is not None) == takes_range
        computed_by_evaluator = name == "info"  # it reads series of its own
        assert (function.kernel is None and function.run is None) == computed_by_evaluator


def test_round_to_a_multiple():
    """The second argument of round may differ from step to step."""
    assert values_of("round", [2.6, 2.6, 17], scalar(0.5, 1, 10)) == [2.5, 3, 20]


def test_clamp():
    """Clamping keeps NaN, and a maximum below the minimum leaves nothing at that step."""
    assert values_of("clamp_min", [1, NAN, 9], scalar(5, 5, 5))[::2] == [5, 9]
    assert math.isnan(values_of("clamp_min", [1, NAN, 9], scalar(5, 5, 5))[1])
    assert values_of("clamp_max", [1, INF, 9], scalar(5, 5, 5)) == [1, 5, 5]
    assert values_of("clamp", [1, 7, 9], scalar(2, 2, 3), scalar(5, 5, 2)) == [2, 5, None]
    assert math.isnan(values_of("clamp", [1], scalar(NAN), scalar(5))[0])
    assert np.signbit(
        values_of("clamp_max", [0.0, -0.0, 0.0], scalar(-0.0, 0.0, 0.0))
    ).tolist() == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("year", [1970, 2024, 1969]),
        ("month", [1, 2, 12]),
        ("day_of_month", [1, 29, 31]),
        ("day_of_week", [4, 4, 3]),
        ("day_of_year", [1, 60, 365]),
        ("days_in_month", [31, 29, 31]),
        ("hour", [0, 23, 23]),
        ("minute", [0, 58, 59]),
    ],
)
def test_dates(name, expected):
    """Dates are in UTC, before 1970 too, and fractions of a second are cut off."""
    assert values_of(name, [0.9, 1709251139.9, -1.5]) == expected
    not_times = values_of(name, [NAN, INF, 1e300])
    assert all(math.isnan(value) for value in not_times)


def test_dates_without_argument_are_of_the_steps():
    """Without an argument the date is that of the evaluation."""
    assert rows(run("minute")) == [({}, [1, 1, 2])]


def test_time_pi_vector_and_timestamp():
    """Scalars have a value at every step, a vector of one no labels."""
    assert rows(run("time")) == [({}, [60, 90, 120])]
    assert rows(run("pi")) == [({}, [math.pi] * 3)]
    assert rows(run("vector", scalar(1, NAN, 3)))[0][1][::2] == [1, 3]
    assert rows(run("timestamp", vector([({"a": "1"}, [5, None, 5])]))) == [
        ({"a": "1"}, [60, None, 120])
    ]


def test_scalar_of_a_vector():
    """A vector of one element is a scalar, any other NaN."""
    result = run("scalar", vector([({"a": "1"}, [5, None, 6]), ({"a": "2"}, [None, None, 7])]))
    assert result.values[0, 0] == 5
    assert np.isnan(result.values[0, 1:]).all()
    assert result.present.all()


def test_absent():
    """Steps without any element give 1, with the labels that the selector fixes."""
    argument = vector([({"a": "1"}, [5, None, None]), ({"a": "2"}, [5, 5, None])])
    matchers = (
        Matcher("__name__", MatchOp.EQUAL, "up"),
        Matcher("job", MatchOp.EQUAL, "x"),
        Matcher("twice", MatchOp.EQUAL, "1"),
        Matcher("twice", MatchOp.EQUAL, "2"),
        Matcher("regex", MatchOp.REGEX, "x"),
    )
    assert rows(run("absent", argument, matchers=matchers)) == [({"job": "x"}, [None, None, 1])]
    assert rows(run("absent", argument)) == [({}, [None, None, 1])]
    nothing = vector([({}, [None])])
    assert rows(run("absent_over_time", nothing)) == [({}, [1])]


def replaced(dst, replacement, src, regex, labels):
    """Return the labels that label_replace makes of *labels*."""
    result = run("label_replace", vector([(labels, [1])]), dst, replacement, src, regex)
    return result.series.labels(0)


@pytest.mark.parametrize(
    ("replacement", "regex", "expected"),
    [
        ("$1", "(.*):.*", "host"),
        ("${1}x$$", "(.*):.*", "hostx$"),
        ("$1x", "(.*):.*", ""),
        ("$p-${h}", "(?P<h>.*):(?P<p>.*)", "80-host"),
        ("$0", ".*", "host:80"),
        ("$01", "(.*):.*", ""),
        ("$9", "(.*)", ""),
        ("a$", ".*", "a$"),
        ("$2", "(host):80|(other)", ""),
        ("x", "host", "old"),
        ("x", "HOST:80", "old"),
        ("x", "(?i)HOST:80", "x"),
    ],
)
def test_label_replace(replacement, regex, expected):
    """The regex is anchored, references are Go's, an empty result removes the label."""
    labels = {"__name__": "m", "instance": "host:80", "dst": "old"}
    wanted = {"__name__": "m", "instance": "host:80"} | ({"dst": expected} if expected else {})
    assert replaced("dst", replacement, "instance", regex, labels) == wanted


def test_label_replace_of_a_missing_label_and_of_lines():
    """An absent source label is the empty string, and a dot matches a line break."""
    assert replaced("dst", "new", "missing", "", {"a": "b"}) == {"a": "b", "dst": "new"}
    assert replaced("dst", "$1", "a", "x(.*)", {"a": "x\ny"}) == {"a": "x\ny", "dst": "\ny"}


def test_label_replace_refuses_what_is_invalid():
    """A bad regex, an empty label name and equal label sets are errors."""
    two = vector([({"a": "1"}, [1]), ({"a": "2"}, [1])])
    with pytest.raises(QueryExecutionError, match=r"invalid regular expression in label_replace"):
        run("label_replace", two, "d", "", "a", "(")
    with pytest.raises(QueryExecutionError, match="invalid destination label name"):
        run("label_replace", two, "", "", "a", ".*")
    with pytest.raises(QueryExecutionError, match="same labelset"):
        run("label_replace", two, "a", "", "a", ".*")


def test_series_that_never_overlap_become_one():
    """Rows that get equal labels are joined where they have no step in common."""
    two = vector([({"a": "1"}, [1, None]), ({"b": "9"}, [3, 3]), ({"a": "2"}, [None, NAN])])
    result = rows(run("label_replace", two, "a", "", "a", ".*"))
    assert result[0][0] == {}
    assert result[0][1][0] == 1
    assert math.isnan(result[0][1][1])
    assert result[1] == ({"b": "9"}, [3, 3])


def test_a_new_metric_name_stays():
    """A name made by label_replace is not dropped any more, an old one still is."""
    matrix = vector([({"__name__": "m", "a": "1"}, [1]), ({"__name__": "m", "a": "2"}, [1])])
    matrix.drop_name[:] = True
    result = run("label_replace", matrix, "__name__", "n", "a", "1")
    assert result.drop_name.tolist() == [False, True]
    assert result.series.labels(0) == {"__name__": "n", "a": "1"}


def test_label_join():
    """Values are joined in the order of the arguments, absent ones as empty strings."""
    matrix = vector([({"a": "1", "b": "2"}, [1]), ({"a": "3"}, [1])])
    result = run("label_join", matrix, "dst", "-", "b", "a", "b")
    assert [labels.get("dst") for labels in result.series.dicts()] == ["2-1-2", "-3-"]
    none = run("label_join", matrix, "b", "-")
    assert none.series.dicts() == [{"a": "1"}, {"a": "3"}]
    with pytest.raises(QueryExecutionError, match="invalid source label name"):
        run("label_join", matrix, "dst", "-", "")
    with pytest.raises(QueryExecutionError, match="invalid destination label name"):
        run("label_join", matrix, "", "-", "a")


@pytest.mark.parametrize(
    ("name", "expected"), [("sort", ["2", "1", "4", "3"]), ("sort_desc", ["4", "1", "2", "3"])]
)
def test_sort_by_value(name, expected):
    """NaN comes last in both directions; absent elements are left out."""
    matrix = vector(
        [
            ({"a": "1"}, [2.0]),
            ({"a": "2"}, [-INF]),
            ({"a": "3"}, [NAN]),
            ({"a": "4"}, [INF]),
            ({"a": "5"}, [None]),
        ]
    )
    assert [labels["a"] for labels in run(name, matrix).series.dicts()] == expected


def test_sort_by_label_is_natural():
    """Digits compare as numbers; equal labels fall back to the whole label set."""
    matrix = vector(
        [
            ({"node": "n10", "x": "a"}, [1]),
            ({"node": "n9", "x": "b"}, [1]),
            ({"node": "n9", "x": "a"}, [1]),
            ({"x": "c"}, [1]),
        ]
    )
    result = run("sort_by_label", matrix, "node").series
    order = [(labels.get("node"), labels["x"]) for labels in result.dicts()]
    assert order == [(None, "c"), ("n9", "a"), ("n9", "b"), ("n10", "a")]
    reverse = run("sort_by_label_desc", matrix, "node").series
    assert [labels.get("node") for labels in reverse.dicts()] == ["n10", "n9", "n9", None]
    by_set = run("sort_by_label", matrix, "missing").series
    assert [labels["x"] for labels in by_set.dicts()] == ["a", "a", "b", "c"]


def test_sorting_a_range_query_changes_nothing():
    """The result of a range query has the order of its labels."""
    matrix = vector([({"a": "1"}, [2, 1]), ({"a": "2"}, [1, 2])])
    for name, more in (("sort", ()), ("sort_desc", ()), ("sort_by_label_desc", ("a",))):
        assert run(name, matrix, *more) is matrix


def test_native_histogram_functions_find_nothing():
    """Functions of native histograms give an empty vector for floats."""
    matrix = vector([({"a": "1"}, [2, 1])])
    for name in ("count", "sum", "avg", "stddev", "stdvar"):
        assert rows(run(f"histogram_{name}", matrix)) == []
