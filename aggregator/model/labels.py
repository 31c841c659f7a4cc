"""Matchers, and label sets as dictionary-encoded columns.

A label value is an `int32` code in a `Strings` dictionary; code 0 is the empty string, which in
Prometheus's data model is the same as an absent label. Equal codes in tables that share one
dictionary are equal strings, so grouping and vector matching are integer work.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from aggregator.model.arrays import Codes, Ints
from aggregator.model.record import record

METRIC_NAME = "__name__"
_MAX_KEY = 2**62


class MatchOp(StrEnum):
    """How a matcher compares; regexes are RE2 and fully anchored."""

    EQUAL = "="
    NOT_EQUAL = "!="
    REGEX = "=~"
    NOT_REGEX = "!~"


class Matcher(NamedTuple):
    """One comparison of a label with a constant; what hashes it again and again hashes a tuple."""

    name: str
    op: MatchOp
    value: str

    def __str__(self) -> str:
        quoted = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.name}{self.op.value}"{quoted}"'


class Strings:
    """A growing dictionary of label values; code 0 is the empty string.

    A dictionary with a `parent` is an overlay for one query: what the parent knew when the overlay
    was made keeps its code, everything else gets a negative one, so that strings a query makes up
    never grow the parent.
    """

    __slots__ = ("_codes", "_parent", "_parent_size", "_texts")

    def __init__(self, parent: "Strings | None" = None) -> None:
        self._parent = parent
        self._parent_size = 0 if parent is None else len(parent)
        self._texts: list[str] = [""]
        self._codes: dict[str, int] = {"": 0}

    def __len__(self) -> int:
        return len(self._texts)

    def overlay(self) -> "Strings":
        """Return a dictionary for one query on top of this one."""
        return Strings(self)

    def find(self, text: str) -> int | None:
        """Return the code of *text*, or None if it was never interned."""
        if self._parent is not None:
            code = self._parent.find(text)
            if code is not None and code < self._parent_size:
                return code
            local = self._codes.get(text)
            return None if local is None else -local
        return self._codes.get(text)

    def intern(self, text: str) -> int:
        """Return the code of *text*, adding it if it is new. A root is added to by one thread."""
        code = self.find(text)
        if code is not None:
            return code
        local = len(self._texts)
        self._texts.append(text)
        self._codes[text] = local
        return local if self._parent is None else -local

    def text(self, code: int) -> str:
        """Return the string of *code*."""
        if self._parent is None:
            return self._texts[code]
        return self._texts[-code] if code <= 0 else self._parent.text(code)

    def texts(self, codes: Codes) -> list[str]:
        """Return the string of each code."""
        if self._parent is None:
            texts = self._texts
            return [texts[code] for code in codes.tolist()]
        if codes.min(initial=0) == 0:  # nothing that a query made up
            return self._parent.texts(codes)
        return [self.text(code) for code in codes.tolist()]

    def intern_all(self, texts: Iterable[str]) -> Codes:
        """Return the code of each string, adding the new ones."""
        if self._parent is not None:
            return np.fromiter((self.intern(text) for text in texts), dtype=np.int32)
        codes, known = self._codes, self._texts
        wanted = list(texts)
        for text in wanted:
            if text not in codes:
                known.append(text)
                codes[text] = len(known) - 1
        return np.array([codes[text] for text in wanted], dtype=np.int32)

    def compacted(self, codes: Codes) -> "Strings":
        """Return a root dictionary of the strings of *codes* (the first is 0), numbered anew."""
        kept = Strings()
        kept._texts = self.texts(codes)
        # the old numbers serve again: new ones would settle in the holes among the strings that
        # go, and keep the memory around them from being given back
        kept._codes = dict(zip(kept._texts, self._codes.values(), strict=False))
        return kept

    def shares(self, origin: "Strings", highest: int) -> bool:
        """Tell whether the codes of *origin*, up to the *highest* used, are this overlay's too."""
        return origin is self._parent and highest < self._parent_size

    def adopt(self, codes: Codes, origin: "Strings | None" = None) -> Codes:
        """Return *codes* of the dictionary *origin* (the parent, if None) as codes of this overlay.

        The parent may have grown since the overlay was made, or its owner may have begun a new
        dictionary; such codes are interned here, so that one string never has two codes within a
        query.
        """
        source = self._parent if origin is None else origin
        if source is None or codes.size == 0:
            return codes
        shared = self._parent_size if source is self._parent else 0
        if int(codes.max()) < shared:
            return codes
        distinct, inverse = np.unique(codes, return_inverse=True)
        mapped = [
            code if code < shared else self.intern(source.text(code)) for code in distinct.tolist()
        ]
        return np.array(mapped, dtype=np.int32)[inverse].reshape(codes.shape)


@record
class LabelTable:
    """Label sets as columns: `codes[row, column]` is the value of `names[column]`, 0 if absent."""

    names: tuple[str, ...]
    codes: Codes
    strings: Strings

    @staticmethod
    def from_dicts(rows: Sequence[Mapping[str, str]], strings: Strings) -> "LabelTable":
        """Encode *rows*; meant for tests and for small tables."""
        names = tuple(sorted({name for row in rows for name in row}))
        codes = np.zeros((len(rows), len(names)), dtype=np.int32)
        for column, name in enumerate(names):
            codes[:, column] = [strings.intern(row.get(name, "")) for row in rows]
        return LabelTable(names, codes, strings)

    @staticmethod
    def empty(strings: Strings, rows: int = 0) -> "LabelTable":
        """Return *rows* label sets without labels."""
        return LabelTable((), np.zeros((rows, 0), dtype=np.int32), strings)

    @staticmethod
    def concat(tables: Sequence["LabelTable"], strings: Strings) -> "LabelTable":
        """Stack tables that share one dictionary; the columns are the union of theirs."""
        if len(tables) == 1:
            return tables[0]
        if len({table.names for table in tables}) == 1:
            joined = np.concatenate([table.codes for table in tables])
            return LabelTable(tables[0].names, joined, strings)
        names = tuple(sorted({name for table in tables for name in table.names}))
        codes = np.zeros((sum(len(table) for table in tables), len(names)), dtype=np.int32)
        position = {name: column for column, name in enumerate(names)}
        row = 0
        for table in tables:
            columns = [position[name] for name in table.names]
            codes[row : row + len(table), columns] = table.codes
            row += len(table)
        return LabelTable(names, codes, strings)

    def __len__(self) -> int:
        return int(self.codes.shape[0])

    def column(self, name: str) -> Codes:
        """Return the codes of one label; zeros if no row has it."""
        if name in self.names:
            return self.codes[:, self.names.index(name)]
        return np.zeros(len(self), dtype=np.int32)

    def take(self, rows: "Ints | slice") -> "LabelTable":
        """Return the chosen rows, in that order."""
        return LabelTable(self.names, self.codes[rows], self.strings)

    def keep(self, names: Iterable[str]) -> "LabelTable":
        """Return the table with only the labels *names* (those of them it has)."""
        wanted = set(names)
        columns = [column for column, name in enumerate(self.names) if name in wanted]
        return self._columns(columns)

    def drop(self, names: Iterable[str]) -> "LabelTable":
        """Return the table without the labels *names*."""
        unwanted = set(names)
        columns = [column for column, name in enumerate(self.names) if name not in unwanted]
        return self._columns(columns)

    def with_column(self, name: str, codes: Codes) -> "LabelTable":
        """Return the table with the label *name* replaced by *codes*."""
        rest = self.drop((name,))
        names = (*rest.names, name)
        order = sorted(range(len(names)), key=names.__getitem__)
        joined = np.column_stack([rest.codes, codes]).astype(np.int32, copy=False)
        return LabelTable(tuple(sorted(names)), joined[:, order], self.strings)

    def groups(self) -> tuple[Ints, Ints]:
        """Return which rows share a label set.

        Returns `(group, first)`: the group number of each row (int64, `[rows]`), numbered in order
        of first appearance, and the first row of each group (int64, `[groups]`).
        """
        rows = len(self)
        differing = self.differing()
        if not differing:
            return np.zeros(rows, dtype=np.int64), np.zeros(min(rows, 1), dtype=np.int64)
        _, first, group = np.unique(self._keys(differing), return_index=True, return_inverse=True)
        if (first[1:] > first[:-1]).all():  # numbered in order of appearance already
            return group, first
        order = np.argsort(first, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(order.size)
        return rank[group], first[order]

    def differing(self) -> list[int]:
        """Return the columns in which not all rows have the same value."""
        if len(self) < 2:
            return []
        return np.flatnonzero((self.codes != self.codes[0]).any(axis=0)).tolist()

    def distinct(self, name: str) -> Codes:
        """Return the different codes of one label, ascending; 0 is among them if a row lacks it."""
        codes = self.column(name)
        alike = codes.size > 0 and (codes == codes[0]).all()
        return codes[:1] if alike else np.unique(codes)

    def labels(self, row: int) -> dict[str, str]:
        """Return one label set, without absent labels, by name."""
        codes = self.codes[row].tolist()
        return {
            name: self.strings.text(code)
            for name, code in zip(self.names, codes, strict=True)
            if code
        }

    def dicts(self) -> list[dict[str, str]]:
        """Return every label set; for answers and tests, not for a hot path."""
        return [self.labels(row) for row in range(len(self))]

    def _keys(self, columns: list[int]) -> Ints:
        """Return a number for each row, equal where the codes in *columns* are, int64 `[rows]`."""
        keys, number = np.zeros(len(self), dtype=np.int64), 1  # keys are below `number`
        for column in columns:
            codes = self.codes[:, column].astype(np.int64)
            codes -= codes.min()
            width = int(codes.max()) + 1
            if number * width > _MAX_KEY:
                _, keys = np.unique(keys, return_inverse=True)
                number = len(self)
            keys = keys * width + codes if number > 1 else codes
            number *= width
        return keys

    def _columns(self, columns: list[int]) -> "LabelTable":
        if len(columns) == len(self.names):
            return self
        names = tuple(self.names[column] for column in columns)
        return LabelTable(names, self.codes.take(columns, axis=1), self.strings)
