"""What the label index finds among tens of thousands of series, against a plain loop."""

from collections.abc import Iterable

import numpy as np
import pytest

from aggregator.model.budget import Budget
from aggregator.model.labels import METRIC_NAME, Matcher
from aggregator.store.index import LabelIndex
from tests.store.model import accepts, matcher

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
    index.touch(index.catalog.lives.rows(ids), first, last)


@pytest.fixture(scope="module")
def index() -> LabelIndex:
    """Return an index that was asked between two halves of its series, so that it extends."""
    made = LabelIndex()
    added(made, range(SERIES // 2))
    for name in ("pod", "team", "job"):
        made.catalog.label_values(name, (), 0, 9 * DAY_MS, Budget())
    for start in range(SERIES // 2, SERIES, 5_000):
        added(made, range(start, start + 5_000))
    return made


def expected(selectors: Iterable[Selector], start_ms: int, end_ms: int) -> list[dict[str, str]]:
    """Return the label sets that match any of *selectors* and live in the window."""
    found = []
    for number in range(SERIES):
        first, last = lifetime(number)
        labels = labels_of(number)
        alive = last >= start_ms and first <= end_ms
        if alive and any(accepts(each, labels) for each in selectors):
            found.append(labels)
    return found


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
    selection = index.catalog.select(selector, *window, index.catalog.strings.overlay(), Budget())
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
    found = index.catalog.label_values(name, selectors, *window, Budget())
    wanted = expected(selectors or [()], *window)
    assert found == sorted({labels[name] for labels in wanted if name in labels})
    names = index.catalog.label_names(selectors, *window, Budget())
    assert names == sorted({name for labels in wanted for name in labels})


def test_a_value_lives_on_with_another_series():
    """A witness that died is replaced, and one that was missing is found when it comes back."""
    made = LabelIndex()
    ids = made.ids([{METRIC_NAME: "up", "job": "a", "n": str(n)} for n in range(3)])
    rows = made.catalog.lives.rows(ids)
    for row, hour in ((0, 1), (2, 2), (1, 9)):
        made.touch(rows[[row]], np.array([hour]), np.array([hour]))
        assert made.catalog.label_values("job", (), hour, hour, Budget()) == ["a"]
        assert made.catalog.label_names((), hour, hour, Budget()) == [METRIC_NAME, "job", "n"]
        assert made.catalog.label_values(METRIC_NAME, (), hour, hour, Budget()) == ["up"]
    assert made.catalog.label_values("job", (), 3, 8, Budget()) == []
    assert made.catalog.label_names((), 3, 8, Budget()) == []


def sorted_items(labels: dict[str, str]) -> list[tuple[str, str]]:
    """Return labels in the order of their names."""
    return sorted(labels.items())
