"""The label index: label sets to ids, matchers to series, all in memory.

Readers never wait: what they see is replaced as a whole or only grows.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from aggregator.model.arrays import Codes, Ids, Ints
from aggregator.model.labels import METRIC_NAME, LabelTable, Matcher, Strings
from aggregator.store.blocks import Block, IdBlocks
from aggregator.store.cardinality import Cardinality, Census
from aggregator.store.identity import Identity
from aggregator.store.interface import SeriesSelection
from aggregator.store.lifetimes import NEVER_LAST, Lifetimes
from aggregator.store.matching import Matching, Test, compiled, distinct
from aggregator.store.tables import MetricTable, TableView, filtered

# ids of the series whose label `name` matches an RE2 pattern, None if only the columns know
Postings = Callable[[str, str], Ids | None]
_ALL_TIME = (np.iinfo(np.int64).min, np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True)
class Located:
    """Rows of one metric's table, and the dictionary of its codes."""

    metric: str
    view: TableView
    rows: Ints
    strings: Strings

    def codes(self, name: str) -> Codes:
        """Return the codes of one label, row for row; zeros if no series has it."""
        column = self.view.column(name)
        return np.zeros(self.rows.size, np.int32) if column is None else column[self.rows]


@dataclass(frozen=True, slots=True)
class _State:
    """What readers see; replaced as a whole when it shrinks."""

    strings: Strings
    tables: dict[str, MetricTable]
    lives: Lifetimes


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The ids that were forgotten, and which blocks of rows were kept (see `Lifetimes`)."""

    ids: Ids
    kept: Ints


class LabelIndex:
    """Every series by its labels, and when it had samples."""

    def __init__(self, blocks: Iterable[Block] = (), postings: Postings | None = None) -> None:
        self._lock = threading.Lock()
        self._state = _State(Strings(), {}, Lifetimes.empty())
        self._identity = Identity()
        self._blocks = IdBlocks(blocks)
        self._new: list[Ids] = []
        self._postings = postings
        self._unwritten: Ids = np.empty(0, np.uint32)

    @property
    def series_count(self) -> int:
        """How many series have an id."""
        return sum(table.view.ids.size for table in list(self._state.tables.values()))

    @property
    def lives(self) -> Lifetimes:
        """The rows and lifetimes of all series."""
        return self._state.lives

    def strings(self) -> Strings:
        """Return a dictionary for one query."""
        return self._state.strings.overlay()

    # -- label sets to ids

    def ids(self, series: Sequence[Mapping[str, str]]) -> Ids:
        """Return the id of each label set, giving new ones an id."""
        shapes: dict[tuple[str, ...], list[int]] = {}
        for row, labels in enumerate(series):
            shapes.setdefault(tuple(labels), []).append(row)
        found = np.empty(len(series), np.uint32)
        with self._lock:
            for shape, rows in shapes.items():
                found[rows] = self._shape_ids(tuple(sorted(shape)), [series[row] for row in rows])
        return found

    def load(self, ids: Ids, metric: str, columns: Mapping[str, Codes]) -> None:
        """Take series of one metric that have an id (ascending), with columns of our codes."""
        with self._lock:
            names, codes = tuple(columns), list(columns.values())
            self._state = replace(self._state, lives=self._state.lives.with_ids(ids))
            metric_codes = np.full(ids.size, self._state.strings.intern(metric), np.int32)
            hashes = self._identity.hashes((*names, METRIC_NAME), [*codes, metric_codes])
            self._identity.add(*hashes, ids)
            self._table(metric).append(ids, names, codes)

    def intern(self, texts: Sequence[str]) -> Codes:
        """Return our codes of label values, for `load`."""
        with self._lock:
            return self._state.strings.intern_all(texts)

    def drain(self) -> tuple[list[Block], Ids]:
        """Return the blocks and the ids added since the last call."""
        with self._lock:
            new, self._new = self._new, []
            return self._blocks.drain(), np.concatenate([*new, np.empty(0, np.uint32)])

    def locate(self, ids: Ids) -> list[Located]:
        """Return where the series *ids* are; those that are not known any more are left out."""
        state, found = self._state, []
        ids = np.sort(ids)
        for metric, table in list(state.tables.items()):
            rows = _rows_of(table.view, ids)
            if rows.size:
                found.append(Located(metric, table.view, rows, state.strings))
        return found

    def partial_blocks(self) -> list[Block]:
        """Return the last block of each metric, with how many of its ids were given."""
        with self._lock:
            return self._blocks.partial()

    def touch(self, rows: Ints, first: Ints, last: Ints) -> None:
        """Widen the lifetimes of series (rows of `lives`) to samples that were stored."""
        with self._lock:
            self._state.lives.touch(rows, first, last)

    # -- matchers to series

    def select(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, strings: Strings
    ) -> SeriesSelection:
        """Return the series that match and may have a sample in [start_ms, end_ms]."""
        state = self._state
        tables, ids = [], []
        for metric, view, rows in self._matching(state, matchers, start_ms, end_ms):
            code = state.strings.find(metric)
            labels = [column[rows] for column in view.columns]
            labels.append(np.full(rows.size, code, np.int32))
            names = (*view.names, METRIC_NAME)
            order = sorted(range(len(names)), key=names.__getitem__)
            codes = np.stack([labels[column] for column in order], axis=1)
            adopted = strings.adopt(codes, state.strings)
            tables.append(LabelTable(tuple(names[column] for column in order), adopted, strings))
            ids.append(view.ids[rows])
        if not tables:
            return SeriesSelection(np.empty(0, np.uint32), LabelTable.empty(strings))
        joined, table = np.concatenate(ids), LabelTable.concat(tables, strings)
        if len(tables) == 1:
            return SeriesSelection(joined, table)
        order_of_ids = np.argsort(joined)
        return SeriesSelection(joined[order_of_ids], table.take(order_of_ids))

    def label_names(
        self, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int
    ) -> list[str]:
        """Return the label names of the series that match any selector, sorted."""
        state, found = self._state, set()
        for selector in selectors or ((),):
            for metric, view, rows in self._matching(state, selector, start_ms, end_ms):
                if metric:
                    found.add(METRIC_NAME)
                found.update(
                    name
                    for name, column in zip(view.names, view.columns, strict=True)
                    if name not in found and column[rows].any()
                )
        return sorted(found)

    def label_values(
        self, name: str, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int
    ) -> list[str]:
        """Return the values of the label *name* among them, sorted."""
        state = self._state
        metrics, codes = set(), [np.zeros(0, np.int32)]
        for selector in selectors or ((),):
            for metric, view, rows in self._matching(state, selector, start_ms, end_ms):
                metrics.add(metric)
                column = view.column(name)
                if column is not None:
                    codes.append(column[rows])
        if name == METRIC_NAME:
            return sorted(metrics - {""})
        texts = state.strings.texts(distinct(np.concatenate(codes)))
        return sorted(text for text in texts if text)

    def value_count(self, name: str) -> int:
        """Return how many different values the label *name* has."""
        views = [table.view.column(name) for table in list(self._state.tables.values())]
        columns = [column for column in views if column is not None]
        return int(distinct(np.concatenate(columns)).size) if columns else 0

    def cardinality(self, matchers: Sequence[Matcher], limit: int) -> Cardinality:
        """Return how many series match, and the *limit* names and values that most of them have."""
        state = self._state
        census = Census(state.strings)
        census.add(self._matching(state, matchers, *_ALL_TIME), state.lives)
        return census.result(limit)

    # -- retention

    def forget(self, before_ms: int) -> Forgotten:
        """Forget the series whose last sample is older than *before_ms*.

        A series that never had a sample goes at the second call that finds it so.
        """
        with self._lock:
            state = self._state
            dead_ids, unwritten, lives = [], [], state.lives
            views = {metric: table.view for metric, table in state.tables.items()}
            tables: dict[str, TableView] = {}
            for metric, view in views.items():
                last = lives.last[lives.rows(view.ids)]
                never = last == NEVER_LAST
                unwritten.append(view.ids[never])
                dead = np.where(never, np.isin(view.ids, self._unwritten), last < before_ms)
                dead_ids.append(view.ids[dead])
                tables[metric] = filtered(view, ~dead) if dead.any() else view
            self._unwritten = np.concatenate([*unwritten, np.empty(0, np.uint32)])
            forgotten = np.concatenate([*dead_ids, np.empty(0, np.uint32)])
            if not forgotten.size:
                return Forgotten(forgotten, np.arange(lives.blocks))
            gone = np.zeros(lives.known.size, np.bool_)
            gone[lives.rows(forgotten)] = True
            shrunk, kept = lives.without(gone)
            self._rebuild({m: view for m, view in tables.items() if view.ids.size}, shrunk)
            self._blocks.forget(views.keys() - self._state.tables.keys())
            return Forgotten(forgotten, kept)

    # -- inside

    def _matching(
        self, state: _State, matchers: Sequence[Matcher], start_ms: int, end_ms: int
    ) -> Iterator[tuple[str, TableView, Ints]]:
        """Yield (metric, its table, matching rows that live in the window), never empty."""
        tests = [compiled(matcher) for matcher in matchers]
        named = [test for test in tests if test.name == METRIC_NAME]
        matching = Matching([test for test in tests if test.name != METRIC_NAME], state.strings)
        lives = state.lives
        for metric, view, candidates in self._candidates(state, named, tests):
            rows = matching.rows(view, candidates)
            rows = rows[lives.alive(view.ids[rows], start_ms, end_ms)]
            if rows.size:
                yield metric, view, rows

    def _candidates(
        self, state: _State, named: Sequence[Test], tests: Sequence[Test]
    ) -> Iterator[tuple[str, TableView, Ints | None]]:
        exact = [test.literals for test in named if test.literals is not None and not test.negated]
        if exact:
            metrics = sorted(frozenset.intersection(*exact) & state.tables.keys())
        else:
            metrics = list(state.tables)
        for test in named:
            accepted = test.accepts(metrics)
            metrics = [metric for metric, yes in zip(metrics, accepted, strict=True) if yes]
        ids = None if exact else self._posted(tests)
        for metric in metrics:
            view = state.tables[metric].view
            if ids is None:
                yield metric, view, None
            else:
                rows = _rows_of(view, ids)
                if rows.size:
                    yield metric, view, rows

    def _posted(self, tests: Sequence[Test]) -> Ids | None:
        """Return the ids that a bare regex on a label with very many values matches."""
        if self._postings is None:
            return None
        for test in tests:
            usable = test.literals is None and not test.negated and test.name != METRIC_NAME
            if usable and not test.accepts_absent:
                ids = self._postings(test.name, test.pattern)
                if ids is not None:
                    return ids
        return None

    def _shape_ids(self, names: tuple[str, ...], group: Sequence[Mapping[str, str]]) -> Ints:
        """Return the ids of label sets that have the same label names."""
        strings = self._state.strings
        columns = [strings.intern_all([labels[name] for labels in group]) for name in names]
        first, second = self._identity.hashes(names, columns)
        if not names:
            first, second = np.repeat(first, len(group)), np.repeat(second, len(group))
        ids = self._identity.find(first, second)
        missing = np.flatnonzero(ids < 0)
        if missing.size:
            _, once, inverse = np.unique(first[missing], return_index=True, return_inverse=True)
            fresh = missing[np.sort(once)]
            rank = np.argsort(np.argsort(once))
            given = self._add(names, columns, fresh, group)
            self._identity.add(first[fresh], second[fresh], given)
            ids[missing] = given[rank[inverse]]
        return ids

    def _add(
        self,
        names: tuple[str, ...],
        columns: list[Codes],
        fresh: Ints,
        group: Sequence[Mapping[str, str]],
    ) -> Ids:
        """Give ids to the rows *fresh* of *group*, whose codes *columns* holds."""
        metrics = [group[row].get(METRIC_NAME, "") for row in fresh.tolist()]
        ids = np.empty(fresh.size, np.uint32)
        by_metric: dict[str, list[int]] = {}
        for place, metric in enumerate(metrics):
            by_metric.setdefault(metric, []).append(place)
        for metric, places in by_metric.items():
            ids[places] = self._blocks.take(metric, len(places))
        self._state = replace(self._state, lives=self._state.lives.with_ids(ids))
        shape = tuple(name for name in names if name != METRIC_NAME)
        kept = [
            column[fresh]
            for name, column in zip(names, columns, strict=True)
            if name != METRIC_NAME
        ]
        for metric, places in by_metric.items():
            self._table(metric).append(ids[places], shape, [codes[places] for codes in kept])
        self._new.append(ids)
        return ids

    def _table(self, metric: str) -> MetricTable:
        table = self._state.tables.get(metric)
        if table is None:
            table = self._state.tables[metric] = MetricTable()
        return table

    def _rebuild(self, views: Mapping[str, TableView], lives: Lifetimes) -> None:
        """Replace the state by *views*, with a dictionary of only the strings they use."""
        old = self._state.strings
        used = np.zeros(len(old), np.bool_)
        for view in views.values():
            for column in view.columns:
                used[column] = True
        used[0] = True
        codes = np.flatnonzero(used).astype(np.int32)
        renamed = np.zeros(len(old), np.int32)
        renamed[codes] = np.arange(codes.size, dtype=np.int32)
        strings = old.compacted(codes)
        tables, identity = {}, Identity()
        for metric, view in views.items():
            columns = tuple(renamed[column] for column in view.columns)
            tables[metric] = MetricTable.of(TableView(view.names, columns, view.ids))
            name = np.full(view.ids.size, strings.intern(metric), np.int32)
            identity.add(*identity.hashes((*view.names, METRIC_NAME), [*columns, name]), view.ids)
        self._identity = identity
        self._state = _State(strings, tables, lives)


def _rows_of(view: TableView, ids: Ids) -> Ints:
    """Return the rows of those of *ids* (ascending) that the table holds."""
    if not view.ids.size:
        return np.empty(0, np.int64)
    low, high = np.searchsorted(ids, view.ids[[0, -1]])
    wanted = ids[low : high + 1]
    rows = np.minimum(np.searchsorted(view.ids, wanted), view.ids.size - 1)
    found: Ints = rows[view.ids[rows] == wanted]
    return found
