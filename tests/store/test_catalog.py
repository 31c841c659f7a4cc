"""What the label index finds among tens of thousands of series, against a plain loop."""

import re
from collections.abc import Iterable

import numpy as np
import pytest

from aggregator.model.labels import METRIC_NAME, Matcher, MatchOp
from aggregator.store.index import LabelIndex

SERIES, METRICS, DAY_MS = 30_000, 40, 86_400_000
Selector = tuple[Matcher, ...]


def labels_of(number: int) -> dict[str, str]:
    """Return the label set of a series; every third has no job."""
    named = {METRIC_NAME: f"metric_{number % METRICS}_total", "pod": f"pod-{number:05}"}
    named["team"] = f"team-{number % 300}"
    if number % 3:
        named["job"] = f"job-{number % 7}"
    return named


def lifetime(number: int) -> tuple[int, int]:
    """Return the first and last sample's time of a series."""
    return number % 5 * DAY_MS, (number % 5 + 1 + number % 2) * DAY_MS


def added(index: LabelIndex, numbers: range) -> None:
    """Give *index* the series *numbers* and their lifetimes."""
    ids = index.ids([labels_of(number) for number in numbers])
    first, last = np.array([lifetime(number) for number in numbers]).T
    index.touch(index.lives.rows(ids), first, last)


@pytest.fixture(scope="module")
def index() -> LabelIndex:
    """Return an index that was asked between two halves of its series, so that it extends."""
    made = LabelIndex()
    added(made, range(SERIES // 2))
    for name in ("pod", "team", "job"):
        made.label_values(name, (), 0, 9 * DAY_MS)
    for start in range(SERIES // 2, SERIES, 5_000):
        added(made, range(start, start + 5_000))
    return made


def accepts(matcher: Matcher, labels: dict[str, str]) -> bool:
    """Match by Python's own means."""
    value = labels.get(matcher.name, "")
    if matcher.op in (MatchOp.EQUAL, MatchOp.NOT_EQUAL):
        return (value == matcher.value) is (matcher.op is MatchOp.EQUAL)
    return (re.fullmatch(matcher.value, value) is not None) is (matcher.op is MatchOp.REGEX)


def expected(selectors: Iterable[Selector], start_ms: int, end_ms: int) -> list[dict[str, str]]:
    """Return the label sets that match any of *selectors* and live in the window."""
    found = []
    for number in range(SERIES):
        first, last = lifetime(number)
        labels = labels_of(number)
        alive = last >= start_ms and first <= end_ms
        if alive and any(all(accepts(m, labels) for m in each) for each in selectors):
            found.append(labels)
    return found


def matcher(text: str) -> Matcher:
    """Return a matcher written as in PromQL, without quotes."""
    name, op, value = re.fullmatch(r"(\w+)(=~|!~|!=|=)(.*)", text).groups()
    return Matcher(name, MatchOp(op), value)


SELECTORS = [
    ("pod=pod-00007",),
    ("pod=~pod-0001.",),
    ("pod=~pod-00017|pod-29999|nobody",),
    ("team=team-7",),
    ("team=team-7", "job=~job-[12]"),
    ("team=~team-1..", "job!=job-3", "pod!~.*9"),
    ("team=team-7", "job="),
    ("job=",),
    ("job!=",),
    ("team=nobody",),
    ("nothing=x",),
    ("nothing=", "team=team-12"),
    ("__name__=metric_7_total", "team=~team-.7"),
    ("__name__=~metric_1.?_total", "team=team-11"),
    ("__name__!=metric_1_total", "team=team-1"),
]
WINDOWS = [(0, 9 * DAY_MS), (0, DAY_MS // 2), (5 * DAY_MS + 1, 9 * DAY_MS), (20 * DAY_MS, 9**15)]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("texts", SELECTORS, ids=",".join)
def test_selectors_find_what_a_loop_finds(index, texts, window):
    """Whatever way is taken: rows of a metric, series of a value, or all of them."""
    selector = tuple(matcher(text) for text in texts)
    selection = index.select(selector, *window, index.strings())
    wanted = expected([selector], *window)
    assert (np.diff(selection.ids.astype(np.int64)) > 0).all()
    assert sorted(map(str, map(sorted_items, selection.labels.dicts()))) == sorted(
        map(str, map(sorted_items, wanted))
    )


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("texts", [(), *SELECTORS[3:7], SELECTORS[-1]], ids=",".join)
@pytest.mark.parametrize("name", ["pod", "team", "job", METRIC_NAME, "nothing"])
def test_values_are_those_of_the_series_in_the_window(index, name, texts, window):
    """With and without selectors, of labels that all or some series have."""
    selectors = [tuple(matcher(text) for text in texts)] if texts else []
    found = index.label_values(name, selectors, *window)
    wanted = expected(selectors or [()], *window)
    assert found == sorted({labels[name] for labels in wanted if name in labels})
    names = index.label_names(selectors, *window)
    assert names == sorted({name for labels in wanted for name in labels})


def test_a_value_lives_on_with_another_series():
    """A witness that died is replaced, and one that was missing is found when it comes back."""
    made = LabelIndex()
    ids = made.ids([{METRIC_NAME: "up", "job": "a", "n": str(n)} for n in range(3)])
    rows = made.lives.rows(ids)
    for row, hour in ((0, 1), (2, 2), (1, 9)):
        made.touch(rows[[row]], np.array([hour]), np.array([hour]))
        assert made.label_values("job", (), hour, hour) == ["a"]
        assert made.label_names((), hour, hour) == [METRIC_NAME, "job", "n"]
        assert made.label_values(METRIC_NAME, (), hour, hour) == ["up"]
    assert made.label_values("job", (), 3, 8) == []
    assert made.label_names((), 3, 8) == []


def sorted_items(labels: dict[str, str]) -> list[tuple[str, str]]:
    """Return labels in the order of their names."""
    return sorted(labels.items())
