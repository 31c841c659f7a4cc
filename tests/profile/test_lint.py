import re
from pathlib import Path

import pytest

from aggregator.profile.format import Candidate, Profile
from aggregator.profile.lint import lint
from aggregator.profile.load import load_profile
from aggregator.profile.outputs import output_labels
from aggregator.promql.parse import parse
from tests.profile.profiles import candidate, metric


def test_the_bundled_profile_has_no_problems():
    """Its expressions parse, carry $sel, return the declared labels and canonical units."""
    assert lint(load_profile("kubernetes")) == []


@pytest.mark.parametrize(
    ("expr", "message"),
    [
        ("sum by (a) (", "does not parse"),
        ("sum by (a) (x)", "the selector of x does not end with $sel"),
        ('sum by (a) (x{b="c"})', "the selector of x does not end with $sel"),
        ("rate(x{$sel}[5m])", "returns any labels; aggregate by the metric's own"),
        ("sum by (a, b) (x{$sel})", "returns the label b, which nothing uses"),
        ("sum by (c) (x{$sel})", "returns the label c, which nothing uses"),
        (
            "avg by (a) (histogram_quantile(0.9, sum by (le, a) (x{$sel})))",
            "takes avg over quantiles",
        ),
        ('sum by (a) (x{quantile="0.9",$sel})', "takes sum over quantiles"),
        ("avg by (a) (latency_p99{$sel})", "takes avg over quantiles"),
        ("max by (a) (x_milliseconds{$sel})", "x_milliseconds is in milliseconds: scale must"),
        ("max by (a) (x_usec{$sel})", "x_usec is in usec: scale must"),
        ("max by (a) (rate(x{$sel}[1m]))", "the range of x may hold fewer than two samples"),
        ('max by (a) ({b="c",$sel})', "a selector names no metric"),
    ],
)
def test_mistakes_in_expressions_are_found(expr: str, message: str):
    """Each mistake in an expression is one problem that names metric and candidate."""
    wrong = metric("x_seconds", ["a"], candidate("c", expr=expr), unit="seconds")
    [problem] = lint(Profile((wrong,)))
    assert str(problem).startswith("fleet:x_seconds / c: ")
    assert message in problem.message


def test_a_map_names_labels_that_are_returned():
    """A label that is mapped from what the expression does not return is a problem."""
    wrong = metric(
        "x", ["a"], candidate("c", expr="sum by (b) (x{$sel})", map={"a": "z"}), unit="count"
    )
    assert [problem.message for problem in lint(Profile((wrong,)))] == [
        "a comes from z, which the expression does not return",
        "returns the label b, which nothing uses",
    ]


@pytest.mark.parametrize(
    ("name", "unit", "message"),
    [
        ("x_ratio", "count", "the name says ratio, the unit count"),
        ("x_per_second", "bytes", "the name says per_second, the unit bytes"),
        ("x", "seconds", "the unit is seconds, so the name must say seconds"),
        ("x_percent", "count", "the name carries a unit that the fleet does not use"),
    ],
)
def test_names_say_the_unit(name: str, unit: str, message: str):
    """A metric's name and its unit agree, and the unit is a canonical one."""
    wrong = metric(name, [], candidate("c", expr="sum(x{$sel})"), unit=unit)
    assert [problem.message for problem in lint(Profile((wrong,)))] == [message]


def test_presence_is_checked():
    """The presence expression is held to the same rules."""
    wrong = metric("x", [], candidate("c", expr="sum(x{$sel})"), presence="x")
    [problem] = lint(Profile((wrong,)))
    assert str(problem) == "fleet:x: presence: the selector of x does not end with $sel"
    wrong = metric(
        "x",
        [],
        candidate("c", expr="sum(x{$sel})", presence="rate(x{$sel}[5m])"),
        empty_means="zero",
        presence="x{$sel}",
    )
    [problem] = lint(Profile((wrong,)))
    assert str(problem) == "fleet:x / c: presence: must be one selector, which costs little"


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ((candidate("a"), candidate("b", expr="a{$sel}")), "b asks for the same as a"),
        (
            (candidate("a"), candidate("b", merge="union")),
            "candidates with merge: union come first, those for where none of them has data last",
        ),
    ],
)
def test_candidates_can_be_chosen_from(candidates: tuple[Candidate, ...], message: str):
    """Candidates differ, and what is bound together stands before what is not."""
    summed = [one.model_copy(update={"expr": f"sum({one.expr})"}) for one in candidates]
    assert [problem.message for problem in lint(Profile((metric("x", [], *summed),)))] == [message]


def test_names_that_the_aggregator_writes_itself_are_reserved():
    """Every series of our own, as the documentation lists them, is refused in a profile."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "own-series.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `fleet:")]
    names = [name for row in rows for name in re.findall(r"`fleet:(\w+)`", row)]
    assert len(names) > 15
    for name in names:
        own = metric(name, [], candidate("c", expr="sum(x{$sel})"))
        messages = [problem.message for problem in lint(Profile((own,)))]
        assert "the aggregator writes series of this name itself" in messages


@pytest.mark.parametrize(
    ("expr", "message"),
    [
        ('sum by (a) (rate({b="c",$sel}[$window])', "does not parse"),
        ('sum by (a) (rate({b="c,$sel}[$window]))', "does not parse"),
        ('rate({b="c",$sel}[$window])', "must begin with an aggregation"),
        ('sum by (a) (rate({b="c"}[$window]))', "does not end with $sel"),
        ("sum by (a) (rate({$sel}[$window]))", "selects every stream"),
        ('sum by (a) (rate({b="c",$sel}[5m]))', "reads [5m]; write [$window] and set window"),
        ('sum by (d) (rate({b="c",$sel}[$window]))', "returns the label d, which nothing uses"),
        ("sum by (a) (rate(x[$window]))", "selects no streams"),
    ],
)
def test_mistakes_in_log_queries_are_found(expr: str, message: str):
    """What is asked of Loki is checked too, as far as that goes without its parser."""
    wrong = metric("x", ["a"], candidate("c", expr=expr), source="loki", window="5m", interval="5m")
    assert any(message in problem.message for problem in lint(Profile((wrong,))))


@pytest.mark.parametrize(
    ("expr", "labels"),
    [
        ("x", None),
        ("sum(x)", set()),
        ("sum by (a, b) (x)", {"a", "b"}),
        ("sum without (a) (sum by (a, b) (x))", {"b"}),
        ("topk(3, sum by (a) (x))", {"a"}),
        ('count_values("v", x)', {"v"}),
        ("1 - max by (a) (x) / max by (a) (y)", {"a"}),
        ("sum by (a, b) (x) / on (a) max by (a) (y)", {"a"}),
        ("sum by (a, b) (x) / ignoring (b) max by (a) (y)", {"a"}),
        ("sum by (a) (x) * on (a) group_left (c) max by (a, c) (y)", {"a", "c"}),
        ("max by (a) (x) * on (a) group_right (c) max by (a, b) (y)", {"a", "b", "c"}),
        ("sum by (a) (x) or sum by (b) (y)", {"a", "b"}),
        ("sum by (a) (x) and on () y", {"a"}),
        ("histogram_quantile(0.9, sum by (le, a) (x))", {"a"}),
        ('label_replace(sum by (a) (x), "b", "$1", "a", "(.*)")', {"a", "b"}),
        ("time() - max by (a) (x)", {"a"}),
        ("vector(0)", set()),
        ("-sum by (a) (x)", {"a"}),
        ("clamp_max(sum by (a) (x), 1)", {"a"}),
        ("max_over_time(sum by (a) (x)[5m:1m])", {"a"}),
    ],
)
def test_returned_labels_are_read_off_the_expression(expr: str, labels: set[str] | None):
    """The labels an expression returns follow from its tree."""
    assert output_labels(parse(expr)) == labels
