"""Which series match, and what labels they have: everything that readers ask of the label index."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from aggregator.model.arrays import Codes, Ids
from aggregator.model.labels import METRIC_NAME, LabelTable, Matcher, Strings
from aggregator.store.interface import SeriesSelection
from aggregator.store.inverted import Inverted, InvertedLabels, Witnesses
from aggregator.store.lifetimes import Lifetimes
from aggregator.store.matching import Matching, Test, compiled, distinct
from aggregator.store.tables import Part, Tables, TableView

# ids of the series whose label `name` matches an RE2 pattern, None if only the columns know
Postings = Callable[[str, str], Ids | None]
# up to so many values of a label a regex sees each of them; more are a case for `Postings`
_FEW_VALUES = 10_000
# fewer rows than this are gone through; of more, those that one label finds if they are a quarter
_FEW_ROWS, _SELECTIVE = 20_000, 4


@dataclass(frozen=True, slots=True)
class Catalog:
    """What readers of the index see: it only grows, and is replaced as a whole when it shrinks."""

    strings: Strings
    tables: Tables
    lives: Lifetimes
    inverted: InvertedLabels
    witnesses: Witnesses
    postings: Postings | None

    @staticmethod
    def of(
        strings: Strings, tables: Tables, lives: Lifetimes, postings: Postings | None
    ) -> "Catalog":
        """Return the catalog of *tables*."""
        return Catalog(strings, tables, lives, InvertedLabels(tables), Witnesses(), postings)

    def select(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, strings: Strings
    ) -> SeriesSelection:
        """Return the series that match and may have a sample in [start_ms, end_ms]."""
        parts = self.matching(matchers, start_ms, end_ms)
        if not parts:
            return SeriesSelection(np.empty(0, np.uint32), LabelTable.empty(strings))
        ids = np.concatenate([part.ids for part in parts])
        names = tuple(sorted({METRIC_NAME}.union(*(part.view.names for part in parts))))
        places = {name: place for place, name in enumerate(names)}
        codes = np.zeros((ids.size, len(names)), np.int32)
        first = 0
        for part in parts:
            rows = codes[first : first + part.rows.size]
            first += part.rows.size
            rows[:, places[METRIC_NAME]] = self.strings.find(part.metric) or 0
            for name, column in zip(part.view.names, part.view.codes, strict=True):
                rows[:, places[name]] = column[part.rows]
        if len(parts) > 1 and not (ids[1:] > ids[:-1]).all():
            order = np.argsort(ids)
            ids, codes = ids[order], codes[order]
        return SeriesSelection(ids, LabelTable(names, strings.adopt(codes, self.strings), strings))

    def label_names(
        self, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int
    ) -> list[str]:
        """Return the label names of the series that match any selector (all if none), sorted."""
        if not selectors:
            names = [*self.tables.names, METRIC_NAME]
            return sorted(
                self.witnesses.living(names, self._with_label, self.lives, start_ms, end_ms)
            )
        found: set[str] = set()
        for selector in selectors:
            for part in self.matching(selector, start_ms, end_ms):
                if part.metric:
                    found.add(METRIC_NAME)
                view = part.view
                found.update(
                    name
                    for name, column in zip(view.names, view.codes, strict=True)
                    if name not in found and column[part.rows].any()
                )
        return sorted(found)

    def label_values(
        self, name: str, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int
    ) -> list[str]:
        """Return the values of the label *name* among them, sorted."""
        if selectors:
            parts = [p for each in selectors for p in self.matching(each, start_ms, end_ms)]
            if name == METRIC_NAME:
                return sorted({part.metric for part in parts} - {""})
            columns = [part.codes(name) for part in parts]
            codes = distinct(np.concatenate([*columns, np.zeros(0, np.int32)]))
            return sorted(text for text in self.strings.texts(codes) if text)
        if name == METRIC_NAME:
            metrics = [metric for metric in self.tables.metrics() if metric]
            return sorted(
                self.witnesses.living(metrics, self._of_metric, self.lives, start_ms, end_ms)
            )
        living = self.inverted.label(name).living(self.lives, start_ms, end_ms)
        return sorted(self.strings.texts(living))

    def matching(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> list[Part]:
        """Return where the series are that match and live in the window, no part empty."""
        tests = [compiled(matcher) for matcher in matchers]
        named = [test for test in tests if test.name == METRIC_NAME]
        others = [test for test in tests if test.name != METRIC_NAME]
        found: list[Part] = []
        views = self._views(named)
        rows_to_see = sum(view.ids.size for _, view in views)
        narrowed = self._narrowed(others, rows_to_see) if rows_to_see > _FEW_ROWS else None
        if narrowed is None:
            matching = Matching(others, self.strings)
            for metric, view in views:
                rows = matching.rows(view)
                if rows.size:
                    found.append(Part(metric, view, rows))
        else:
            done, ids = narrowed
            matching = Matching([test for test in others if test is not done], self.strings)
            wanted = {metric for metric, _ in views}
            for part in self.tables.parts(ids):
                rows = matching.rows(part.view, part.rows)
                if rows.size and part.metric in wanted:
                    found.append(Part(part.metric, part.view, rows))
        return self._living(found, start_ms, end_ms)

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
        exact = [test.literals for test in named if test.literals is not None and not test.negated]
        metrics = sorted(frozenset.intersection(*exact)) if exact else self.tables.metrics()
        for test in named:
            accepted = test.accepts(metrics)
            metrics = [metric for metric, yes in zip(metrics, accepted, strict=True) if yes]
        return [(metric, view) for metric in metrics if (view := self.tables.view(metric))]

    def _narrowed(self, tests: Sequence[Test], rows: int) -> tuple[Test, Ids] | None:
        """Return the most selective of *tests* and what it finds, None if none finds few."""
        best: tuple[Test, Inverted, Codes] | None = None
        fewest = rows // _SELECTIVE
        finding = [test for test in tests if not test.negated and not test.accepts_absent]
        for test in finding:
            label = self.inverted.label(test.name)
            codes = self._accepted(test, label)
            if codes is not None and label.count(codes) <= fewest:
                best, fewest = (test, label, codes), label.count(codes)
        if best is not None:
            return best[0], best[1].ids(best[2])
        if self.postings is not None:
            for test in finding:
                ids = self.postings(test.name, test.pattern) if test.literals is None else None
                if ids is not None:
                    return test, ids
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

    def _of_metric(self, metric: str) -> Iterator[Ids]:
        """Yield the series of a metric."""
        view = self.tables.view(metric)
        if view is not None:
            yield view.ids

    def _with_label(self, name: str) -> Iterator[Ids]:
        """Yield the series that have a label."""
        for metric, view in self.tables.views():
            column = view.column(name)
            if name == METRIC_NAME and metric:
                yield view.ids
            elif column is not None:
                yield view.ids[column != 0]
