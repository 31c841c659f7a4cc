"""What was found once is found again, with what came since and without what went."""

import itertools
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from aggregator.model.budget import Budget
from aggregator.model.labels import METRIC_NAME, Matcher, MatchOp, Strings
from aggregator.model.samples import SampleBlock
from aggregator.store import catalog, postings, selections
from aggregator.store.index import LabelIndex
from aggregator.store.interface import SeriesSelection
from aggregator.store.lifetimes import Lifetimes
from aggregator.store.selections import Basis, Found, Selections, is_small
from aggregator.store.settings import Backend
from aggregator.store.tables import Part, Tables, TableView
from aggregator.store.witnesses import Witnesses
from tests.store.conftest import opener
from tests.store.model import accepts, matcher

HOUR_MS = 3_600_000
STAGES = (300, 301, 340, 700, 1_500)
Labels = dict[str, str]
Selector = tuple[Matcher, ...]


def labels_of(number: int) -> Labels:
    """Return the label set of a series; shapes, metrics and values become more as numbers rise."""
    named = {METRIC_NAME: f"metric_{number % (3 + number // 400)}", "pod": f"pod-{number:05}"}
    named["team"] = f"team-{number % (5 + number // 300)}"
    if number % 3:
        named["job"] = f"job-{number % 4}"
    if number > 600:
        named["late"] = f"late-{number % 2}"
    return named


def add(index: LabelIndex, numbers: range, hour: int = 1) -> None:
    """Give *index* the series *numbers*, with a sample at an hour."""
    ids = index.ids([labels_of(number) for number in numbers])
    touch(index, ids, hour)


def touch(index: LabelIndex, ids: np.ndarray, hour: int) -> None:
    """Give the series *ids* a sample at an hour."""
    times = np.full(ids.size, hour * HOUR_MS)
    index.touch(index.catalog.lives.rows(ids), times, times)


def sets(found: list[Labels]) -> list[list[tuple[str, str]]]:
    """Return label sets in an order."""
    return sorted(sorted(labels.items()) for labels in found)


def selected(index: LabelIndex, selector: Selector, hour: int) -> list[Labels]:
    """Return the label sets that *index* finds at an hour."""
    return selection(index, selector, hour * HOUR_MS, hour * HOUR_MS).labels.dicts()


def selection(index: LabelIndex, selector: Selector, start: int, end: int) -> SeriesSelection:
    """Return what *index* finds in a window, ids ascending."""
    found = index.catalog.select(selector, start, end, index.catalog.strings.overlay(), Budget())
    assert (np.diff(found.ids.astype(np.int64)) > 0).all()
    return found


def values_of(
    index: LabelIndex, name: str, selectors: Sequence[Selector], start: int, end: int
) -> Sequence[str]:
    """Return the values of a label that *index* finds in a window."""
    return index.catalog.label_values(name, selectors, start, end, Budget())


def names_of(
    index: LabelIndex, selectors: Sequence[Selector], start: int, end: int
) -> Sequence[str]:
    """Return the label names that *index* finds in a window."""
    return index.catalog.label_names(selectors, start, end, Budget())


SELECTORS = [
    tuple(matcher(text) for text in texts)
    for texts in (
        ("__name__=metric_1",),
        ("__name__=metric_1", "team=team-2"),
        ("__name__=metric_4", "team=~team-.", "job!=job-1"),
        ("__name__=~metric_1|metric_5", "job="),
        ("__name__=~metric_.*", "late=late-1"),
        ("__name__!=metric_0", "pod=~pod-0.*7"),
        ("team=team-4",),
        ("pod=pod-00339",),
        ("late=~late-.*",),
        ("late=", "job=job-2"),
    )
]


@pytest.fixture(params=[20_000, 100], ids=["rows", "values"])
def few_rows(request, monkeypatch) -> None:
    """Look through rows, or through the values of labels where these find few."""
    monkeypatch.setattr(catalog, "_FEW_ROWS", request.param)


@pytest.mark.usefixtures("few_rows")
def test_new_series_are_found_by_selectors_that_were_asked_before():
    """A new metric, a new label, a new value or nothing new: the answer is what a loop finds."""
    index, first = LabelIndex(), 0
    for last in STAGES:
        add(index, range(first, last))
        first = last
        everything = [labels_of(number) for number in range(last)]
        for selector in SELECTORS:
            wanted = [labels for labels in everything if accepts(selector, labels)]
            for _ in range(2):
                assert sets(selected(index, selector, 1)) == sets(wanted)
                assert selected(index, selector, 2) == []
                for name in ("pod", "team", "job", "late", METRIC_NAME):
                    values = {labels[name] for labels in wanted if name in labels}
                    assert values_of(index, name, [selector], 0, HOUR_MS) == sorted(values)
                names = {name for labels in wanted for name in labels}
                assert names_of(index, [selector], 0, HOUR_MS) == sorted(names)
        for name in ("pod", "team", "job", "late", METRIC_NAME):
            values = {labels[name] for labels in everything if name in labels}
            assert values_of(index, name, (), 0, HOUR_MS) == sorted(values)
        names = {name for labels in everything for name in labels}
        assert names_of(index, (), 0, HOUR_MS) == sorted(names)


def test_series_that_come_back_to_life_are_found():
    """What is kept of a selection is who matches, not who lives."""
    index = LabelIndex()
    add(index, range(40))
    ids = index.ids([labels_of(number) for number in range(40)])
    selector = (matcher("__name__=metric_1"),)
    everything = sets(selected(index, selector, 1))
    touch(index, ids[:20], 5)
    some = selected(index, selector, 5)
    assert 0 < len(some) < len(everything)
    assert values_of(index, "pod", [selector], 5 * HOUR_MS, 6 * HOUR_MS) == sorted(
        labels["pod"] for labels in some
    )
    assert values_of(index, "pod", (), 5 * HOUR_MS, 6 * HOUR_MS) == [
        f"pod-{number:05}" for number in range(20)
    ]
    touch(index, ids, 9)
    assert sets(selected(index, selector, 5)) == everything
    assert sets(selected(index, selector, 10)) == []
    assert len(values_of(index, "pod", (), 9 * HOUR_MS, 9 * HOUR_MS)) == 40


def test_what_is_forgotten_is_found_no_more():
    """Neither by selectors that were asked before nor as a value, and new series take no part."""
    index = LabelIndex()
    add(index, range(30), hour=1)
    add(index, range(30, 60), hour=8)
    selector = (matcher("__name__=metric_1"),)
    before = selected(index, selector, 1) + selected(index, selector, 8)
    assert len(before) == 20
    index.forget(4 * HOUR_MS)
    assert selected(index, selector, 1) == []
    assert values_of(index, "pod", (), 0, 9 * HOUR_MS) == [f"pod-{n:05}" for n in range(30, 60)]
    add(index, range(10), hour=8)
    assert {labels["pod"] for labels in selected(index, selector, 8)} == {
        f"pod-{number:05}" for number in (*range(1, 10, 3), *range(31, 60, 3))
    }


def test_a_metric_and_a_label_of_one_name_live_apart():
    """A series with the label does not prove the metric, nor the other way round."""
    index = LabelIndex()
    touch(index, index.ids([{METRIC_NAME: "job", "a": "1"}]), 1)
    touch(index, index.ids([{METRIC_NAME: "up", "job": "x"}]), 5)
    for hour, metric, label in ((1, "job", "a"), (5, "up", "job"), (1, "job", "a")):
        window = hour * HOUR_MS, hour * HOUR_MS
        assert values_of(index, METRIC_NAME, (), *window) == [metric]
        assert names_of(index, (), *window) == sorted([METRIC_NAME, label])


def test_a_question_that_comes_in_between_proves_nothing_for_another_time():
    """Two ask at once, before there is a proof of any name."""

    class Interrupted(Lifetimes):
        """Answers the second question in the midst of the first one."""

        def alive(self, ids: np.ndarray, start_ms: int, end_ms: int) -> np.ndarray:
            found = super().alive(ids, start_ms, end_ms)
            later.extend(() if later else metrics.living(index.catalog.lives, 5, 5))
            return found

    index, later = LabelIndex(), []
    for hour, metric in ((1, "a"), (5, "b")):
        ids = index.ids([{METRIC_NAME: metric}])
        index.touch(index.catalog.lives.rows(ids), np.array([hour]), np.array([hour]))
    tables = Tables()
    for number, metric in enumerate(("a", "b")):
        tables.append(metric, np.array([number << 10], np.uint32), (), [])
    metrics, lives = Witnesses.of_metrics(tables), index.catalog.lives
    fields = lives.dense, lives.blocks, lives.known, lives.first, lives.last
    assert metrics.living(Interrupted(*fields), 1, 1) == ["a"]
    assert later == ["b"]


def test_codes_of_strings_that_came_during_a_query_are_its_own():
    """A dictionary made before a string was known gets the string with the selection."""
    index = LabelIndex()
    add(index, range(10))
    strings = index.catalog.strings.overlay()
    add(index, range(10, 20))
    everything = (matcher("pod!="),)
    for early in (index.catalog.strings.overlay(), strings):
        labels = index.catalog.select(everything, 0, HOUR_MS, early, Budget()).labels
        assert sets(labels.dicts()) == sets([labels_of(number) for number in range(20)])


def test_nobody_can_change_what_is_kept():
    """Arrays that several queries share are read-only."""
    index = LabelIndex()
    add(index, range(10))
    shared = selection(index, (matcher("pod!="),), 0, HOUR_MS)
    for array in (shared.ids, shared.labels.codes):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def found(series: int) -> Found:
    """Return a selection of so many series with one label."""
    return Found.sealed(np.arange(series, dtype=np.uint32), ("a",), np.ones((series, 1), np.int32))


def test_selections_are_kept_up_to_a_limit(monkeypatch):
    """What was not asked for the longest time goes first; long selectors do not stay at all."""
    monkeypatch.setattr(selections, "TOTAL_BYTES", 40_000)
    kept, basis = Selections(), Basis(None, (1,), None)
    keys = [(Matcher("a", MatchOp.EQUAL, str(number)),) for number in range(4)]
    for key in keys[:3]:
        kept.put(key, basis, found(1_000))
    assert kept.get(keys[0])
    kept.put(keys[3], basis, found(1_000))
    assert [kept.get(key) is not None for key in keys] == [True, False, True, True]
    kept.put(keys[0], basis, found(3_000))
    assert [kept.get(key) is not None for key in keys] == [True, False, False, True]
    long = (Matcher("a", MatchOp.EQUAL, "x" * 10_000),)
    kept.put(long, basis, found(1))
    assert kept.get(long) is None


def test_large_selections_are_found_but_not_kept(monkeypatch):
    """Their labels are gathered for the series that live only."""
    monkeypatch.setattr(selections, "MAX_BYTES", 100)
    index = LabelIndex()
    add(index, range(50))
    add(index, range(50, 100), hour=5)
    selector = (matcher("team!=team-1"),)
    for hour, numbers in ((1, range(50)), (5, range(50, 100))):
        wanted = [labels_of(n) for n in numbers if accepts(selector, labels_of(n))]
        assert sets(selected(index, selector, hour)) == sets(wanted)
        window = hour * HOUR_MS, hour * HOUR_MS
        values = {labels["job"] for labels in wanted if "job" in labels}
        assert values_of(index, "job", [selector], *window) == sorted(values)
        assert values_of(index, METRIC_NAME, [selector], *window) == sorted(
            {labels[METRIC_NAME] for labels in wanted}
        )
        assert names_of(index, [selector], *window) == sorted({n for each in wanted for n in each})


def test_a_selection_is_as_large_as_its_labels_gathered(monkeypatch):
    """There is a column for every label of any series, whoever lacks it."""
    monkeypatch.setattr(selections, "MAX_BYTES", 10_000)
    strings = Strings()
    parts, sizes = [], []
    for number in range(40):
        names = ("team", f"own_{number}")
        ids = np.arange(3, dtype=np.uint32) + 3 * number
        view = TableView(names, np.ones((2, 3), np.int32), ids)
        parts.append(Part(f"metric_{number}", view, np.arange(3)))
        whole = Found.of(parts, strings)
        sizes.append(whole.ids.nbytes + whole.codes.nbytes)
        assert is_small(parts) is (sizes[-1] <= 10_000)
        assert is_small(parts[9:], Found.of(parts[:9], strings)) is is_small(parts)
    assert sizes[0] < 10_000 < sizes[-1]


def test_a_regex_on_a_wide_label_finds_series_as_they_are_stored(tmp_path, monkeypatch):
    """The postings know a series once it is written; before, it has no samples."""
    monkeypatch.setattr(postings, "WIDE_VALUES", 50)
    monkeypatch.setattr(catalog, "_FEW_VALUES", 50)
    monkeypatch.setattr(catalog, "_FEW_ROWS", 10)
    selector = (matcher("pod=~pod-.*7"),)
    everything = [labels_of(number) for number in range(300)]
    with opener(Backend.CHDB)(tmp_path) as store:
        for first, last in itertools.pairwise((0, 100, 200, 210, 300)):
            ids = store.series_ids(everything[first:last])
            early = store.select(selector, 0, HOUR_MS, store.strings(), Budget()).labels.dicts()
            assert sets(early) == sets([e for e in everything[:first] if accepts(selector, e)])
            store.write(SampleBlock(ids, np.full(ids.size, HOUR_MS), np.ones(ids.size)))
            wanted = sets([e for e in everything[:last] if accepts(selector, e)])
            for _ in range(2):
                found = store.select(selector, 0, HOUR_MS, store.strings(), Budget()).labels.dicts()
                assert sets(found) == wanted


class Growth:
    """What a writer had begun and finished to add, and what it had begun to forget."""

    begun = done = gone = 0


def grow(index: LabelIndex, growth: Growth) -> None:
    """Add and forget series, and say how far it is."""
    for first in range(0, 6_000, 50):
        growth.begun = first + 50
        add(index, range(first, first + 50), hour=1 + first)
        growth.done = first + 50
        if first % 1_000 == 950:
            growth.gone = first - 500
            index.forget((1 + growth.gone) * HOUR_MS)


@pytest.mark.usefixtures("few_rows")
def test_readers_find_all_that_was_there_and_only_what_matches():
    """Whatever is added and forgotten meanwhile."""
    index, growth, over = LabelIndex(), Growth(), threading.Event()
    failures, names = [], set()
    everything = [labels_of(number) for number in range(6_000)]
    selectors = {
        each: [accepts(each, labels) for labels in everything]
        for each in (SELECTORS[1], (matcher("team=~team-[0-2]"),), (matcher("job=job-1"),))
    }

    def check(pods: Sequence[str], since: int, wanted: list[bool]) -> None:
        found = {int(pod.removeprefix("pod-")) for pod in pods}
        must = {n for n in range(growth.gone, since) if wanted[n]}
        may = {n for n in range(growth.begun) if wanted[n]}
        if not must <= found <= may:
            failures.append((must - found, found - may))

    def reading() -> None:
        while not over.is_set():
            for selector, matching in selectors.items():
                since = growth.done
                strings = index.catalog.strings.overlay()
                found = index.catalog.select(selector, 0, 9**15, strings, Budget())
                if (np.diff(found.ids.astype(np.int64)) <= 0).any():
                    failures.append(found.ids)
                pods = [labels["pod"] for labels in found.labels.dicts()]
                check(pods, since, matching)
                since = growth.done
                check(values_of(index, "pod", [selector], 0, 9**15), since, matching)
            since = growth.done
            check(values_of(index, "pod", (), 0, 9**15), since, [True] * 6_000)
            names.update(names_of(index, (), 0, 9**15))

    readers = [threading.Thread(target=reading) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        grow(index, growth)
    finally:
        over.set()
        for reader in readers:
            reader.join()
    assert not failures
    assert names <= {METRIC_NAME, "pod", "team", "job", "late"}
