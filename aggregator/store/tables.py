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
    """The series of one metric at one moment; row k of every column belongs to `ids[k]`.

    Ids ascend. A label without a column is absent from every series; code 0 is absent too.
    """

    names: tuple[str, ...]
    columns: tuple[Codes, ...]
    ids: Ids

    def column(self, name: str) -> Codes | None:
        """Return the codes of one label, None if no series has it."""
        return self.columns[self.names.index(name)] if name in self.names else None


class MetricTable:
    """Grows by one writer at a time; readers take `view`, which never changes under them."""

    def __init__(self) -> None:
        self._rows = 0
        self._ids: Ids = np.empty(_FIRST_ROWS, np.uint32)
        self._columns: dict[str, Codes] = {}
        self.view = TableView((), (), self._ids[:0])

    def append(self, ids: Ids, names: tuple[str, ...], columns: list[Codes]) -> None:
        """Add series; *ids* are greater than all before."""
        end = self._rows + ids.size
        if end > self._ids.size:
            room = max(end, self._ids.size + (self._ids.size >> 1))
            self._ids = _with_room(self._ids, self._rows, room)
            self._columns = {
                name: _with_room(column, self._rows, room) for name, column in self._columns.items()
            }
        self._ids[self._rows : end] = ids
        for name, column in zip(names, columns, strict=True):
            if name not in self._columns:
                if not column.any():
                    continue
                self._columns[name] = np.zeros(self._ids.size, np.int32)
            self._columns[name][self._rows : end] = column
        self._rows = end
        ordered = sorted(self._columns)
        self.view = TableView(
            tuple(ordered),
            tuple(self._columns[name][:end] for name in ordered),
            self._ids[:end],
        )


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
        if number is None:
            self._tables.append((metric, MetricTable()))
            number = self._numbers[metric] = len(self._tables) - 1
        table = self._tables[number][1]
        table.append(ids, names, columns)
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
        return [metric for metric, _ in list(self._tables)]

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
    return TableView(view.names, tuple(column[keep] for column in view.columns), view.ids[keep])


def _with_room(array: np.ndarray, rows: int, room: int, fill: int = 0) -> np.ndarray:
    """Return a copy of the first *rows* entries with room for more, *fill* beyond them."""
    roomy = np.full(room, fill, array.dtype)
    roomy[:rows] = array[:rows]
    return roomy
