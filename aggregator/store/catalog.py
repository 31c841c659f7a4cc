"""What the store knows of its series' labels: everything that readers ask."""

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from aggregator.model.arrays import Codes, Ids
from aggregator.model.budget import Budget
from aggregator.model.labels import METRIC_NAME, LabelTable, Matcher, Strings
from aggregator.store.cardinality import Cardinality, counted
from aggregator.store.interface import SeriesSelection
from aggregator.store.inverted import Inverted, InvertedLabels
from aggregator.store.lifetimes import Lifetimes
from aggregator.store.matching import Matching, Test, compiled, distinct
from aggregator.store.selections import Basis, Found, Key, Selections, is_small
from aggregator.store.tables import Part, Tables, TableView
from aggregator.store.witnesses import Witnesses

# up to so many values of a label a regex sees each of them; more are a case for `Postings`
_FEW_VALUES = 10_000
# fewer rows than this are gone through; of more, those that one label finds if they are a quarter
_FEW_ROWS, _SELECTIVE = 20_000, 4
# the tables of so many metrics are looked at one by one for new series
_FEW_METRICS = 16


_ALL_TIME = (np.iinfo(np.int64).min, np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True)
class Located:
    """Where series are, and the dictionary of their codes."""

    parts: Sequence[Part]
    strings: Strings


class Postings(Protocol):
    """Finds series by wide labels; `written` changes when series came."""

    @property
    def written(self) -> int:
        """How often series were written."""
        ...

    def ids(self, name: str, pattern: str, budget: Budget) -> Ids | None:
        """Return the series whose label *name* matches *pattern*, None if only columns know."""
        ...


@dataclass(frozen=True, slots=True)
class Catalog:
    """All series at one time and since: it only grows, and is replaced when series are forgotten.

    Readers on many threads share it without a lock; `LabelIndex` is its one writer.
    """

    strings: Strings
    tables: Tables
    lives: Lifetimes
    inverted: InvertedLabels
    metric_names: Witnesses
    names: Witnesses
    selections: Selections
    postings: Postings | None

    @staticmethod
    def of(
        strings: Strings, tables: Tables, lives: Lifetimes, postings: Postings | None
    ) -> "Catalog":
        """Return the catalog of *tables*."""
        return Catalog(
            strings,
            tables,
            lives,
            InvertedLabels(tables, strings),
            Witnesses.of_metrics(tables),
            Witnesses.of_labels(tables),
            Selections(),
            postings,
        )

    def select(
        self,
        matchers: Sequence[Matcher],
        start_ms: int,
        end_ms: int,
        strings: Strings,
        budget: Budget,
    ) -> SeriesSelection:
        """Return the series that match and may have a sample in [start_ms, end_ms]."""
        found = self._found(matchers, budget)
        if isinstance(found, Found):
            found = found.living(self.lives, start_ms, end_ms)
        else:
            found = Found.of(self._living(found, start_ms, end_ms), self.strings)
        codes = found.codes
        if not strings.shares(self.strings, found.highest):
            codes = strings.adopt(codes, self.strings)
        return SeriesSelection(found.ids, LabelTable(found.names, codes, strings))

    def label_names(
        self,
        selectors: Sequence[Sequence[Matcher]],
        start_ms: int,
        end_ms: int,
        budget: Budget,
    ) -> Sequence[str]:
        """Return the label names of the series that match any selector (all if none), sorted."""
        if not selectors:
            return self.names.living(self.lives, start_ms, end_ms)
        names: set[str] = set()
        for selector in selectors:
            found = self._found(selector, budget)
            if isinstance(found, Found):
                names.update(found.living(self.lives, start_ms, end_ms).label_names())
            else:
                for part in self._living(found, start_ms, end_ms):
                    names.update(_label_names(part, names))
        return sorted(names)

    def label_values(
        self,
        name: str,
        selectors: Sequence[Sequence[Matcher]],
        start_ms: int,
        end_ms: int,
        budget: Budget,
    ) -> Sequence[str]:
        """Return the values of the label *name* among them, sorted."""
        if not selectors:
            if name == METRIC_NAME:
                return self.metric_names.living(self.lives, start_ms, end_ms)
            return self.inverted.label(name).texts(self.lives, start_ms, end_ms)
        answers = [self._values(name, each, start_ms, end_ms, budget) for each in selectors]
        return answers[0] if len(answers) == 1 else sorted(set().union(*answers))

    def cardinality(self, matchers: Sequence[Matcher], limit: int, budget: Budget) -> Cardinality:
        """Return how many series match, and the *limit* names and values that most of them have."""
        parts, _ = self._parts([compiled(matcher) for matcher in matchers], budget)
        return counted(self._living(parts, *_ALL_TIME), self.lives, self.strings, limit)

    def value_count(self, name: str) -> int:
        """Return how many different values the label *name* has."""
        found = [view.column(name) for _, view in self.tables.views()]
        columns = [column for column in found if column is not None]
        return int(distinct(np.concatenate(columns)).size) if columns else 0

    def located(self, ids: Ids) -> Located:
        """Return where the series *ids* are; those that are not known any more are left out."""
        return Located(list(self.tables.parts(np.sort(ids))), self.strings)

    def _values(
        self,
        name: str,
        selector: Sequence[Matcher],
        start_ms: int,
        end_ms: int,
        budget: Budget,
    ) -> Sequence[str]:
        """Return the values of a label among the series that match, sorted."""
        found = self._found(selector, budget)
        if isinstance(found, Found):
            return found.living(self.lives, start_ms, end_ms).values(name, self.strings)
        parts = self._living(found, start_ms, end_ms)
        if name == METRIC_NAME:
            return sorted({part.metric for part in parts} - {""})
        columns = [part.codes(name) for part in parts]
        codes = distinct(np.concatenate([*columns, np.zeros(0, np.int32)]))
        return sorted(self.strings.texts(codes[codes != 0]))

    def _found(self, matchers: Sequence[Matcher], budget: Budget) -> Found | list[Part]:
        """Return the series that match, whenever they live; only where they are if they are many.

        What was found before serves again while no series came that matches too.
        """
        key = tuple(matchers)
        held = self.selections.get(key)
        current = None if held is None else self._current(key, *held)
        if current is not None:
            return current
        tests = [compiled(matcher) for matcher in matchers]
        metrics, posted = _metrics(tests), self._posted()
        rows = self._rows(metrics)
        parts, by_postings = self._parts(tests, budget)
        if not is_small(parts):
            return parts
        found = Found.of(parts, self.strings)
        self.selections.put(key, Basis(metrics, rows, posted if by_postings else None), found)
        return found

    def _current(self, key: Key, basis: Basis, found: Found) -> Found | None:
        """Return *found*, once found in *basis*, with what came since; None: look for it anew."""
        rows = self._rows(basis.metrics)
        if basis.posted is not None and basis.posted != self._posted():
            return None
        if rows == basis.rows:
            return found
        fresh = self._since(basis)
        if fresh is None:
            return None
        more = self._passing([compiled(matcher) for matcher in key], fresh)
        if not is_small(more, found):
            return None
        if more:
            found = found.joined(Found.of(more, self.strings))
        self.selections.put(key, replace(basis, rows=rows), found)
        return found

    def _rows(self, metrics: tuple[str, ...] | None) -> tuple[int, ...]:
        """Return how many series each of *metrics* has, or how many there are."""
        if metrics is None:
            return (self.tables.series_count,)
        views = [self.tables.view(metric) for metric in metrics]
        return tuple(0 if view is None else view.ids.size for view in views)

    def _since(self, basis: Basis) -> Iterable[Part] | None:
        """Return the series that came since *basis*, None if they are many."""
        if basis.metrics is None:
            fresh = self.tables.added(basis.rows[0])
            return self.tables.parts(np.sort(fresh)) if fresh.size <= _FEW_ROWS else None
        views = [(metric, self.tables.view(metric)) for metric in basis.metrics]
        return [
            Part(metric, view, np.arange(rows, view.ids.size))
            for (metric, view), rows in zip(views, basis.rows, strict=True)
            if view is not None
        ]

    def _posted(self) -> int:
        return 0 if self.postings is None else self.postings.written

    def _parts(self, tests: Sequence[Test], budget: Budget) -> tuple[list[Part], bool]:
        """Return where the series are that pass, no part empty, and whether `postings` knew."""
        named = [test for test in tests if test.name == METRIC_NAME]
        others = [test for test in tests if test.name != METRIC_NAME]
        views = self._views(named) if named else None
        rows = self.tables.series_count if views is None else sum(v.ids.size for _, v in views)
        narrowed = self._narrowed(others, rows, budget) if rows > _FEW_ROWS else None
        if narrowed is not None:
            done, ids, by_postings = narrowed
            rest = [test for test in tests if test is not done]
            return self._passing(rest, self.tables.parts(ids)), by_postings
        matching = Matching(others, self.strings)
        found = [
            Part(metric, view, matching.rows(view))
            for metric, view in (self.tables.views() if views is None else views)
        ]
        return [part for part in found if part.rows.size], False

    def _passing(self, tests: Sequence[Test], parts: Iterable[Part]) -> list[Part]:
        """Return the rows of *parts* that pass, no part empty."""
        matching = Matching([test for test in tests if test.name != METRIC_NAME], self.strings)
        found = [
            Part(part.metric, part.view, matching.rows(part.view, part.rows)) for part in parts
        ]
        found = [part for part in found if part.rows.size]
        for test in tests:
            if test.name == METRIC_NAME:
                accepted = test.accepts([part.metric for part in found]).tolist()
                found = list(itertools.compress(found, accepted))
        return found

    def _living(self, parts: list[Part], start_ms: int, end_ms: int) -> list[Part]:
        """Return the rows of *parts* that may have a sample in [start_ms, end_ms]."""
        if not parts:
            return []
        ids = np.concatenate([part.ids for part in parts])
        alive = self.lives.alive(ids, start_ms, end_ms)
        if alive.all():
            return parts
        kept, first = [], 0
        for part in parts:
            rows = part.rows[alive[first : first + part.rows.size]]
            first += part.rows.size
            if rows.size:
                kept.append(Part(part.metric, part.view, rows))
        return kept

    def _views(self, named: Sequence[Test]) -> list[tuple[str, TableView]]:
        """Return the tables of the metrics whose name passes."""
        exact = _exact(named)
        metrics = self.tables.metrics() if exact is None else sorted(exact)
        for test in named:
            if test.literals is None or test.negated:
                metrics = list(itertools.compress(metrics, test.accepts(metrics).tolist()))
        return [(metric, view) for metric in metrics if (view := self.tables.view(metric))]

    def _narrowed(
        self, tests: Sequence[Test], rows: int, budget: Budget
    ) -> tuple[Test, Ids, bool] | None:
        """Return the most selective of *tests*, what it finds, and whether `postings` knew.

        None if no test finds few.
        """
        best: tuple[Test, Inverted, Codes] | None = None
        fewest = rows // _SELECTIVE
        finding = [test for test in tests if not test.negated and not test.accepts_absent]
        for test in finding:
            label = self.inverted.label(test.name)
            codes = self._accepted(test, label)
            count = label.count(codes) if codes is not None else rows
            if codes is not None and count <= fewest:
                best, fewest = (test, label, codes), count
        if best is not None:
            return best[0], best[1].ids(best[2]), False
        if self.postings is not None:
            for test in finding:
                if test.literals is not None:
                    continue
                ids = self.postings.ids(test.name, test.pattern, budget)
                if ids is not None:
                    return test, ids, True
        return None

    def _accepted(self, test: Test, label: Inverted) -> Codes | None:
        """Return the values that pass, None if there are too many to look at."""
        if test.literals is not None:
            found = [self.strings.find(text) for text in test.literals]
            return np.array([code for code in found if code is not None], np.int32)
        if label.size > _FEW_VALUES:
            return None
        values = label.values()
        return values[test.accepts(self.strings.texts(values))]


def _exact(tests: Sequence[Test]) -> frozenset[str] | None:
    """Return the only metric names that can pass, None if no test lists them."""
    named = [test for test in tests if test.name == METRIC_NAME and not test.negated]
    listed = [test.literals for test in named if test.literals is not None]
    return frozenset.intersection(*listed) if listed else None


def _metrics(tests: Sequence[Test]) -> tuple[str, ...] | None:
    """Return the few metrics whose tables decide what *tests* find, None for all tables."""
    exact = _exact(tests)
    return None if exact is None or len(exact) > _FEW_METRICS else tuple(exact)


def _label_names(part: Part, known: Collection[str]) -> Iterator[str]:
    """Yield the labels of the rows of *part* that are not *known*."""
    if part.metric:
        yield METRIC_NAME
    for name, column in zip(part.view.names, part.view.codes, strict=True):
        if name not in known and column[part.rows].any():
            yield name
