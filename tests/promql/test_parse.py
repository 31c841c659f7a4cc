"""Reading queries: what is accepted, how it prints, where it is refused."""

import re
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aggregator.errors import QuerySyntaxError
from aggregator.model.budget import Budget
from aggregator.model.labels import Matcher, MatchOp
from aggregator.promql.cursor import QueryTimes
from aggregator.promql.engine import Engine
from aggregator.promql.functions import FUNCTIONS
from aggregator.promql.numbers import format_duration, format_float, format_plain, parse_duration
from aggregator.promql.parse import MAX_CHARACTERS, MAX_DEPTH, MAX_NESTING, parse, parse_selector
from aggregator.promql.plan import (
    Aggregate,
    AtEdge,
    Binary,
    Call,
    MatrixSelector,
    Subquery,
    VectorSelector,
)
from aggregator.store.memory import MemoryStore
from tests.promql.other_parser import other_shape, our_shape
from tests.promql.queries import Writer

PRINTED = (
    ("up", "up"),
    ('up{job="a",env!="b",x=~"c",y!~"d"}', 'up{job="a",env!="b",x=~"c",y!~"d"}'),
    ("{__name__='up'}", '{__name__="up"}'),
    ('{"up.time","host.name"="a"}', '{__name__="up.time","host.name"="a"}'),
    ("up offset 90s", "up offset 1m30s"),
    ("up offset -1w @ 12.5", "up @ 12.500 offset -1w"),
    ("rate(up[5m] @ start())", "rate(up[5m] @ start())"),
    ("max_over_time(up[1h:] @ end() offset 1d)", "max_over_time(up[1h:] @ end() offset 1d)"),
    ("sum(up)by(job,env)", "sum by (job, env) (up)"),
    ("sum without()(up)", "sum without () (up)"),
    ("topk by(a)(5,up)", "topk by (a) (5, up)"),
    ('count_values("v",up)', 'count_values("v", up)'),
    ('sum by ("a.b") (up)', 'sum by ("a.b") (up)'),
    ("a+on(x)group_left(y)b", "a + on (x) group_left (y) b"),
    ("a>bool ignoring(x)b", "a > bool ignoring (x) b"),
    ("a*on()group_right()b", "a * on () group_right () b"),
    ("a - fill(1) b", "a - fill (1) b"),
    ("a - fill_right(2) fill_left(1) b", "a - fill_left (1) fill_right (2) b"),
    ('"\\xff\\ta\\u200b"', '"\\xff\\ta\\u200b"'),
    ('count_values("a\\xc5z", up)', 'count_values("a\\xc5z", up)'),
    ("a and b or c unless d", "a and b or c unless d"),
    ("-(a+1)^2", "-(a + 1) ^ 2"),
    ("1e6", "1e+06"),
    ("5m", "300"),
    ("`a\\d`", '"a\\\\d"'),
    (
        "label_replace(up,'a','$1','b',`(.*)\\.x`)",
        'label_replace(up, "a", "$1", "b", "(.*)\\\\.x")',
    ),
)


@pytest.mark.parametrize(("query", "printed"), PRINTED)
def test_plan_prints_as_prometheus_formats(query, printed):
    """A plan prints in Prometheus's form, and that form reads back as the same plan."""
    plan = parse(query)
    assert str(plan) == printed
    assert parse(printed) == plan


def _expressions():
    """Return a strategy of random expressions."""
    return st.integers(0, 2**32).map(lambda seed: Writer(Random(seed)).expression())


@given(query=_expressions())
def test_random_queries_read_back_from_their_print(query):
    """What a plan prints reads back as the same plan."""
    assume("NaN" not in query)  # it is not equal to itself
    assume("Inf ^" not in query)  # prints with a sign as in Prometheus, and reads as +(Inf ^ …)
    plan = parse(query)
    assert parse(str(plan)) == plan


@given(query=_expressions())
def test_random_queries_have_the_structure_another_parser_sees(query):
    """Precedence and modifiers are those of the parser of GreptimeDB."""
    assert our_shape(parse(query)) == other_shape(query)


def test_precedence_binds_as_documented():
    """`^` binds tightest and to the right, then signs, then products, sums, comparisons, sets."""
    assert parse("a or b and c") == parse("a or b and c")
    plan = parse("a or b and c == d + e * -f ^ g ^ h")
    printed = []
    while isinstance(plan, Binary):
        printed.append(plan.op)
        plan = plan.rhs
    assert printed == ["or", "and", "==", "+", "*"]
    assert str(plan) == "-f ^ g ^ h"


def test_left_associative_operators_group_to_the_left():
    """`a - b - c` is `(a - b) - c`, `a ^ b ^ c` is `a ^ (b ^ c)`."""
    minus, power = parse("a - b - c"), parse("a ^ b ^ c")
    assert isinstance(minus, Binary)
    assert isinstance(minus.lhs, Binary)
    assert isinstance(power, Binary)
    assert isinstance(power.rhs, Binary)


def test_nodes_know_their_place():
    """Start and end of a node are its part of the text."""
    query = "sum by (a) (rate(up{b='c'}[5m] offset 1m)) + 1"
    plan = parse(query)
    assert isinstance(plan, Binary)
    aggregate = plan.lhs
    assert isinstance(aggregate, Aggregate)
    assert query[aggregate.start : aggregate.end] == "sum by (a) (rate(up{b='c'}[5m] offset 1m))"
    call = aggregate.expr
    assert isinstance(call, Call)
    assert query[call.args[0].start : call.args[0].end] == "up{b='c'}[5m] offset 1m"


def test_modifiers_reach_the_selector():
    """Offset and @ end up on the selector or subquery they follow."""
    plan = parse("up @ end() offset 5m")
    assert plan == VectorSelector(
        "up", (Matcher("__name__", MatchOp.EQUAL, "up"),), offset_ms=300_000, at=AtEdge.END
    )
    plan = parse("up[5m:1m] offset -1m @ 60")
    assert isinstance(plan, Subquery)
    assert (plan.range_ms, plan.step_ms, plan.offset_ms, plan.at) == (
        300_000,
        60_000,
        -60_000,
        60_000,
    )


def test_errors_count_lines_and_columns():
    """The place of a mistake is line:column, both from 1."""
    with pytest.raises(QuerySyntaxError, match=r"^3:6: parse error: unexpected"):
        parse("sum(\n  up # all\n) by [job]")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("(" * 300 + "up" + ")" * 300, f"nested deeper than {MAX_NESTING} levels"),
        ("-" * 300 + "up", f"nested deeper than {MAX_NESTING} levels"),
        ("abs(" * 300 + "up", f"nested deeper than {MAX_NESTING} levels"),
        ("up ^ " * 300 + "up", f"nested deeper than {MAX_NESTING} levels"),
        ("up" + " + up" * 300, f"more than {MAX_DEPTH} operators in a row"),
    ],
)
def test_deep_expressions_are_refused(query, message):
    """Nesting that would exhaust the stack is an error of the query."""
    with pytest.raises(QuerySyntaxError, match=message):
        parse(query)


def test_long_queries_are_refused_unread():
    """A query longer than any that people write is refused for its length, not for what it says."""
    longest = "up " + "#" * (MAX_CHARACTERS - 3)
    assert str(parse(longest)) == "up"
    with pytest.raises(QuerySyntaxError, match=f"longer than {MAX_CHARACTERS} characters"):
        parse(longest + "#")
    with pytest.raises(QuerySyntaxError, match=f"longer than {MAX_CHARACTERS} characters"):
        Engine(MemoryStore()).instant("up + " * MAX_CHARACTERS + "up", 0, Budget())


def test_deepest_expressions_are_evaluated():
    """What the limits allow, the engine can evaluate."""
    calls = "abs(" * (MAX_NESTING - 2) + "vector(1)" + ")" * (MAX_NESTING - 2)
    chain = calls + " + vector(1)" * (MAX_DEPTH - MAX_NESTING)
    result = Engine(MemoryStore()).instant(chain, 0, Budget())
    assert result.matrix is not None
    assert result.matrix.values.tolist() == [[MAX_DEPTH - MAX_NESTING + 1.0]]


@pytest.mark.parametrize(
    "query",
    ["rate(up[5m] smoothed)", "up anchored", "up[5m::1m]", "up </ 5", "up >/ 5"],
)
def test_experimental_syntax_is_refused_with_its_name(query):
    """Extended ranges and trimming of histograms say that they are not supported."""
    with pytest.raises(QuerySyntaxError, match=r"^1:\d+: parse error: .* not supported$"):
        parse(query)


@pytest.mark.parametrize(
    "query",
    [
        "up[5m + 1m]",
        "up[step()] offset (range() / 2)",
        "up[min(1h, step()):step() * 2] @ end() offset -step()",
        "up offset (0 * 1m)",
    ],
)
def test_duration_expressions_print_as_they_were_written(query):
    """The print of a plan keeps the arithmetic, which a literal could not always replace."""
    assert str(parse(query)) == query


def test_times_of_the_query_are_part_of_its_plan():
    """A plan with step() or range() is good for one query's times."""
    plan = parse("up[step() * 2] offset range()", QueryTimes(step_ms=15_000, range_ms=60_000))
    assert isinstance(plan, MatrixSelector)
    assert (plan.range_ms, plan.selector.offset_ms) == (30_000, 60_000)


def refusal(query: str) -> str:
    """Return why *query* is refused; empty if it is not."""
    try:
        parse(query)
    except QuerySyntaxError as error:
        return str(error)
    return ""


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    """Whatever the text, the only exception is `QuerySyntaxError` with a place."""
    assert re.match(r"$|\d+:\d+: parse error: ", refusal(text))


FRAGMENTS = (
    "up", "{", "}", "(", ")", "[", "]", "5m", ":", ",", "=", "=~", '"a"', "sum", "by", "rate",
    "offset", "@", "start()", "on", "group_left", "bool", "==", "+", "-", "^", "and", "1", "`x`",
)  # fmt: skip


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=14))
def test_any_sequence_of_tokens_is_read_or_refused(fragments):
    """Tokens in any order never crash the parser."""
    assert re.match(r"$|\d+:\d+: parse error: ", refusal(" ".join(fragments)))


def test_selectors_of_the_api_have_no_modifiers():
    """`match[]` takes a series selector and nothing else."""
    assert parse_selector('up{a="b"}') == (
        Matcher("a", MatchOp.EQUAL, "b"),
        Matcher("__name__", MatchOp.EQUAL, "up"),
    )
    for query in ("up offset 5m", "up @ 1", "rate(up[5m])", "1"):
        with pytest.raises(QuerySyntaxError):
            parse_selector(query)


def test_every_function_can_be_called():
    """Each function of the table parses with as many arguments as it wants."""
    samples = {"scalar": "1", "instant vector": "up", "range vector": "up[5m]", "string": '"a"'}
    for function in FUNCTIONS.values():
        if function.name == "info":
            continue
        args = ", ".join(samples[wanted.value] for wanted in function.arguments)
        assert str(parse(f"{function.name}({args})")).startswith(function.name)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("5m", 300_000), ("1h30m", 5_400_000), ("1y2w3d", 33_004_800_000)],
)
def test_durations_read_back(text, milliseconds):
    """Durations add up their units."""
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize("text", ["", "5", "m", "1m1h", "5m5m", "-5m", "1.5h", "5M"])
def test_other_durations_are_refused(text):
    """Only whole units in descending order are a duration."""
    with pytest.raises(ValueError, match="not a valid duration"):
        parse_duration(text)


@given(st.integers(1, 9 * 10**12))
def test_durations_print_and_read_back(milliseconds):
    """A printed duration reads back as the same milliseconds."""
    assert parse_duration(format_duration(milliseconds)) == milliseconds


@pytest.mark.parametrize(
    ("value", "plain", "short"),
    [
        (0.0, "0", "0"),
        (-0.0, "-0", "-0"),
        (1.0, "1", "1"),
        (100000.0, "100000", "100000"),
        (1e6, "1000000", "1e+06"),
        (123456789.0, "123456789", "1.23456789e+08"),
        (0.0001, "0.0001", "0.0001"),
        (1.5e-05, "0.000015", "1.5e-05"),
        (1e21, "1000000000000000000000", "1e+21"),
        (float("nan"), "NaN", "NaN"),
        (float("-inf"), "-Inf", "-Inf"),
    ],
)
def test_numbers_print_as_go_prints_them(value, plain, short):
    """`%f` with the fewest digits, and `%v`."""
    assert format_plain(value) == plain
    assert format_float(value) == short
