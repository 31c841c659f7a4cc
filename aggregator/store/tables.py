"""The label sets of each metric as dictionary-encoded columns that only grow."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from aggregator.model.arrays import Bools, Codes, Ids, Ints
from aggregator.store.blocks import BLOCK_BITS

_FIRST_ROWS = 16


@dataclass(frozen=True, slots=True)
class TableView:
    """The series of one metric at one moment; `codes[k, j]` is label `names[k]` of `ids[j]`.

    Ids ascend. A label that is not named is absent from every series; code 0 is absent too.
    """

    names: tuple[str, ...]
    codes: Codes
    ids: Ids

    def column(self, name: str) -> Codes | None:
        """Return the codes of one label, None if no series has it."""
        return self.codes[self.names.index(name)] if name in self.names else None


class MetricTable:
    """Grows by one writer at a time; readers take `view`, which never changes under them."""

    def __init__(self) -> None:
        self._ids: Ids = np.empty(0, np.uint32)
        self._codes: Codes = np.zeros((0, 0), np.int32)
        self.view = TableView((), self._codes, self._ids)

    def append(self, ids: Ids, names: tuple[str, ...], columns: list[Codes]) -> None:
        """Add series; *ids* are greater than all before."""
        view = self.view
        start, end = view.ids.size, view.ids.size + ids.size
        known = view.names
        fresh = [
            name
            for name, column in zip(names, columns, strict=True)
            if name not in known and column.any()
        ]
        known = (*known, *fresh)
        self._make_room(len(known), start, end)
        self._ids[start:end] = ids
        for name, column in zip(names, columns, strict=True):
            if name in known:
                self._codes[known.index(name), start:end] = column
        self.view = TableView(known, self._codes[: len(known), :end], self._ids[:end])

    def _make_room(self, labels: int, start: int, end: int) -> None:
        if end > self._ids.size:
            room = max(end, self._ids.size + (self._ids.size >> 1), _FIRST_ROWS)
            self._ids = _with_room(self._ids, start, room)
        held = self._codes.shape
        if labels > held[0] or self._ids.size > held[1]:
            more = labels if labels <= held[0] or not start else labels + (labels >> 1)
            codes = np.zeros((max(held[0], more), self._ids.size), np.int32)
            codes[: held[0], :start] = self._codes[:, :start]
            self._codes = codes


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one metric's table, ascending."""

    metric: str
    view: TableView
    rows: Ints

    @property
    def ids(self) -> Ids:
        """The series' ids, row for row."""
        return self.view.ids[self.rows]

    def codes(self, name: str) -> Codes:
        """Return the codes of one label, row for row; zeros if no series has it."""
        column = self.view.column(name)
        return np.zeros(self.rows.size, np.int32) if column is None else column[self.rows]


class Tables:
    """Every metric's table, and which one an id belongs to; grows by one writer at a time."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self._numbers: dict[str, int] = {}
        self._metrics: list[str] = []
        self._tables: list[tuple[str, MetricTable]] = []
        self._owner: Codes = np.full(_FIRST_ROWS, -1, np.int32)  # block of ids to table
        self._ids: Ids = np.empty(_FIRST_ROWS, np.uint32)
        self._count = 0

    @property
    def series_count(self) -> int:
        """How many series there are."""
        return self._count

    def append(self, metric: str, ids: Ids, names: tuple[str, ...], columns: list[Codes]) -> None:
        """Add series of *metric*; *ids* are greater than all it had before."""
        number = self._numbers.get(metric)
        table = MetricTable() if number is None else self._tables[number][1]
        table.append(ids, names, columns)
        if number is None:
            self._tables.append((metric, table))
            number = self._numbers[metric] = len(self._tables) - 1
            self._metrics.append(metric)
        self.names.update(table.view.names)
        last = int(ids[-1]) >> BLOCK_BITS
        if last >= self._owner.size:
            self._owner = _with_room(self._owner, self._owner.size, last + (last >> 1) + 1, -1)
        self._owner[ids >> np.uint32(BLOCK_BITS)] = number
        end = self._count + ids.size
        if end > self._ids.size:
            self._ids = _with_room(self._ids, self._count, end + (end >> 1))
        self._ids[self._count : end] = ids
        self._count = end  # what is counted is there for readers

    def added(self, since: int) -> Ids:
        """Return the ids of the series in the order they came, from the one numbered *since* on."""
        count = self._count
        return self._ids[since:count]

    def metrics(self) -> list[str]:
        """Return the metric names."""
        return self._metrics.copy()

    def views(self) -> list[tuple[str, TableView]]:
        """Return every metric and its table."""
        return [(metric, table.view) for metric, table in list(self._tables)]

    def view(self, metric: str) -> TableView | None:
        """Return a metric's table, None for an unknown metric."""
        number = self._numbers.get(metric)
        return None if number is None else self._tables[number][1].view

    def parts(self, ids: Ids) -> Iterator[Part]:
        """Yield where the series *ids* (ascending) are; those that are not known are left out."""
        blocks, owner = (ids >> np.uint32(BLOCK_BITS)).astype(np.int64), self._owner
        inside = blocks < owner.size
        owners = np.where(inside, owner[np.where(inside, blocks, 0)], -1)
        order = np.argsort(owners, kind="stable")
        owners = owners[order]
        # blocks of nobody (-1) come first and begin no part
        bounds = np.append(np.flatnonzero(np.diff(owners, prepend=-1)), ids.size)
        for first, last in itertools.pairwise(bounds.tolist()):
            metric, table = self._tables[owners[first]]
            view, wanted = table.view, ids[order[first:last]]
            rows = np.minimum(np.searchsorted(view.ids, wanted), view.ids.size - 1)
            rows = rows[view.ids[rows] == wanted]
            if rows.size:
                yield Part(metric, view, rows)


def filtered(view: TableView, keep: Bools) -> TableView:
    """Return the rows of *view* that *keep* marks."""
    return TableView(view.names, view.codes[:, keep], view.ids[keep])


def _with_room(array: np.ndarray, rows: int, room: int, fill: int = 0) -> np.ndarray:
    """Return a copy of the first *rows* entries with room for more, *fill* beyond them."""
    roomy = np.full(room, fill, array.dtype)
    roomy[:rows] = array[:rows]
    return roomy
