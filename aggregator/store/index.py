"""The label index: gives label sets their ids, and keeps the catalog that readers ask."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from aggregator.model.arrays import Codes, Ids, Ints
from aggregator.model.labels import METRIC_NAME, Strings
from aggregator.store.blocks import Block, IdBlocks
from aggregator.store.catalog import Catalog, Postings
from aggregator.store.identity import Identity
from aggregator.store.lifetimes import NEVER_LAST, Lifetimes
from aggregator.store.tables import Tables, TableView, filtered


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The ids that were forgotten, and which blocks of rows were kept (see `Lifetimes`)."""

    ids: Ids
    kept: Ints


class LabelIndex:
    """Every series by its labels, and when it had samples.

    Whatever changes takes turns. Readers never wait: they take `catalog` once for each question;
    it only grows, or is replaced as a whole.
    """

    def __init__(self, blocks: Iterable[Block] = (), postings: Postings | None = None) -> None:
        self._lock = threading.Lock()
        self._catalog = Catalog.of(Strings(), Tables(), Lifetimes.empty(), postings)
        self._identity = Identity()
        self._blocks = IdBlocks(blocks)
        self._new: list[Ids] = []
        self._unwritten: Ids = np.empty(0, np.uint32)

    @property
    def catalog(self) -> Catalog:
        """All series as they are now."""
        return self._catalog

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
            self._catalog = replace(self._catalog, lives=self._catalog.lives.with_ids(ids))
            metric_codes = np.full(ids.size, self._catalog.strings.intern(metric), np.int32)
            hashes = self._identity.hashes((*names, METRIC_NAME), [*codes, metric_codes])
            self._identity.add(*hashes, ids)
            self._catalog.tables.append(metric, ids, names, codes)

    def intern(self, texts: Sequence[str]) -> Codes:
        """Return our codes of label values, for `load`."""
        with self._lock:
            return self._catalog.strings.intern_all(texts)

    def drain(self) -> tuple[list[Block], Ids]:
        """Return the blocks and the ids added since the last call."""
        with self._lock:
            new, self._new = self._new, []
            return self._blocks.drain(), np.concatenate([*new, np.empty(0, np.uint32)])

    def partial_blocks(self) -> list[Block]:
        """Return the last block of each metric, with how many of its ids were given."""
        with self._lock:
            return self._blocks.partial()

    def touch(self, rows: Ints, first: Ints, last: Ints) -> None:
        """Widen the lifetimes of series (rows of `lives`) to samples that were stored."""
        with self._lock:
            self._catalog.lives.touch(rows, first, last)

    def forget(self, before_ms: int) -> Forgotten:
        """Forget the series whose last sample is older than *before_ms*.

        A series that never had a sample goes at the second call that finds it so.
        """
        with self._lock:
            catalog = self._catalog
            dead_ids, unwritten, lives = [], [], catalog.lives
            tables: dict[str, TableView] = {}
            for metric, view in catalog.tables.views():
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
            self._blocks.forget(m for m, view in tables.items() if not view.ids.size)
            return Forgotten(forgotten, kept)

    # -- inside

    def _shape_ids(self, names: tuple[str, ...], group: Sequence[Mapping[str, str]]) -> Ints:
        """Return the ids of label sets that have the same label names."""
        strings = self._catalog.strings
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
        self._catalog = replace(self._catalog, lives=self._catalog.lives.with_ids(ids))
        shape = tuple(name for name in names if name != METRIC_NAME)
        kept = [
            column[fresh]
            for name, column in zip(names, columns, strict=True)
            if name != METRIC_NAME
        ]
        for metric, places in by_metric.items():
            columns_of_metric = [codes[places] for codes in kept]
            self._catalog.tables.append(metric, ids[places], shape, columns_of_metric)
        self._new.append(ids)
        return ids

    def _rebuild(self, views: Mapping[str, TableView], lives: Lifetimes) -> None:
        """Have a catalog of *views*, with a dictionary of only the strings they use."""
        old = self._catalog.strings
        used = np.zeros(len(old), np.bool_)
        for view in views.values():
            used[view.codes] = True
        used[0] = True
        codes = np.flatnonzero(used).astype(np.int32)
        renamed = np.zeros(len(old), np.int32)
        renamed[codes] = np.arange(codes.size, dtype=np.int32)
        strings = old.compacted(codes)
        tables, identity = Tables(), Identity()
        for metric, view in views.items():
            columns = list(renamed[view.codes])
            tables.append(metric, view.ids, view.names, columns)
            name = np.full(view.ids.size, strings.intern(metric), np.int32)
            identity.add(*identity.hashes((*view.names, METRIC_NAME), [*columns, name]), view.ids)
        self._identity = identity
        self._catalog = Catalog.of(strings, tables, lives, self._catalog.postings)
