"""The label sets of one metric as dictionary-encoded columns that only grow."""

from dataclasses import dataclass

import numpy as np

from aggregator.model.arrays import Bools, Codes, Ids

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

    @staticmethod
    def of(view: TableView) -> "MetricTable":
        """Return a table with the rows of *view*; labels that nobody has are left out."""
        table = MetricTable()
        table.append(view.ids, view.names, list(view.columns))
        return table

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


def filtered(view: TableView, keep: Bools) -> TableView:
    """Return the rows of *view* that *keep* marks."""
    return TableView(view.names, tuple(column[keep] for column in view.columns), view.ids[keep])


def _with_room(array: np.ndarray, rows: int, room: int) -> np.ndarray:
    """Return a copy of the first *rows* entries with room for more, zero beyond them."""
    roomy = np.zeros(room, array.dtype)
    roomy[:rows] = array[:rows]
    return roomy
