"""The series of each value of a label, built when first asked for and extended as series come."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aggregator.model.arrays import Bools, Codes, Ids, Ints
from aggregator.model.labels import Strings
from aggregator.store.lifetimes import UNPROVEN, Lifetimes, Span
from aggregator.store.tables import Tables

# a segment this many times smaller than the one before it is left alone
_RATIO = 4
_NO_IDS: Ids = np.empty(0, np.uint32)


@dataclass(frozen=True, slots=True)
class Segment:
    """Series that came together: those of value `codes[k]` are `ids[begin(k):begin(k + 1)]`.

    `codes` are different and ascend. `starts` is None if each value has one series. `witness[k]` is
    one of the value's series, changed in place: as long as it lives in the window that is asked
    about, the others need no look.
    """

    codes: Codes
    starts: NDArray[np.int32] | None
    ids: Ids
    witness: Ids

    @staticmethod
    def of(codes: Codes, ids: Ids) -> "Segment":
        """Return the segment of series whose code each is given; 0 is absent and left out."""
        order = np.argsort(codes, kind="stable")
        order = order[np.searchsorted(codes[order], 1) :]
        codes, ids = codes[order], ids[order]
        starts = np.append(np.flatnonzero(np.diff(codes, prepend=0)), codes.size).astype(np.int32)
        if starts.size == codes.size + 1:
            return Segment(codes, None, ids, ids)
        return Segment(codes[starts[:-1]], starts, ids, ids[starts[1:] - 1])

    def begin(self, places: Ints) -> Ints | NDArray[np.int32]:
        """Return where the series of the values at *places* begin."""
        return places if self.starts is None else self.starts[places]

    def counts(self, places: Ints) -> Ints | NDArray[np.int32]:
        """Return how many series the values at *places* have."""
        return self.begin(places + 1) - self.begin(places)

    def merged(self, later: "Segment") -> "Segment":
        """Return both as one segment."""
        codes = [np.repeat(s.codes, s.counts(np.arange(s.codes.size))) for s in (self, later)]
        return Segment.of(np.concatenate(codes), np.concatenate([self.ids, later.ids]))

    def has(self, codes: Codes) -> Bools:
        """Tell which of *codes* are there."""
        places = np.minimum(np.searchsorted(self.codes, codes), self.codes.size - 1)
        there: Bools = self.codes[places] == codes
        return there

    def places(self, codes: Codes) -> Ints:
        """Return where *codes* are, those that are."""
        found: Ints = np.searchsorted(self.codes, codes[self.has(codes)])
        return found

    def rows(self, places: Ints) -> Ints:
        """Return which rows of `ids` belong to the values at *places*, value after value."""
        counts = self.counts(places)
        ends = np.cumsum(counts, dtype=np.int64)
        first = np.repeat(self.begin(places) - (ends - counts), counts)
        found: Ints = np.arange(first.size) + first
        return found

    def living(self, lives: Lifetimes, start_ms: int, end_ms: int) -> Bools:
        """Tell which values a series has that may have a sample in [start_ms, end_ms]."""
        alive = lives.alive(self.witness, start_ms, end_ms)
        unsure = np.flatnonzero(~alive)
        if unsure.size and self.starts is not None:
            rows = self.rows(unsure)
            living = np.where(lives.alive(self.ids[rows], start_ms, end_ms), rows, -1)
            firsts = np.cumsum(np.append(0, self.counts(unsure[:-1])))
            newest = np.maximum.reduceat(living, firsts)
            found = unsure[newest >= 0]
            self.witness[found] = self.ids[newest[newest >= 0]]
            alive[found] = True
        return alive


@dataclass(frozen=True, slots=True)
class _Answer:
    """All values of some segments, sorted; each has a series that lives in what `span` covers."""

    segments: tuple[Segment, ...]
    texts: list[str]
    span: Span


class Inverted:
    """The values of one label, in segments of falling size."""

    def __init__(self, strings: Strings) -> None:
        self._strings = strings
        self._segments: tuple[Segment, ...] = ()
        self._covered = 0
        self._answer = _Answer((), [], UNPROVEN)

    def extend(self, name: str, tables: Tables) -> None:
        """Take the series that came since the last call; callers take turns."""
        came = tables.added(self._covered)
        if not came.size:
            return
        self._covered += came.size
        parts = list(tables.parts(np.sort(came)))
        codes = np.concatenate([part.codes(name) for part in parts])
        fresh = Segment.of(codes, np.concatenate([part.ids for part in parts]))
        if not fresh.ids.size:
            return
        held, answer = self._segments, self._answer
        segments = [*held, fresh]
        while len(segments) > 1 and segments[-2].ids.size < _RATIO * segments[-1].ids.size:
            last = segments.pop()
            segments[-1] = segments[-1].merged(last)
        self._segments = tuple(segments)
        known = [segment.has(fresh.codes) for segment in held]
        if answer.segments is held and held and np.logical_or.reduce(known).all():
            self._answer = replace(answer, segments=self._segments)  # more series, no more values

    @property
    def size(self) -> int:
        """How many values there are at most."""
        return sum(segment.codes.size for segment in self._segments)

    def values(self) -> Codes:
        """Return the different values, ascending."""
        return _union([segment.codes for segment in self._segments])

    def texts(self, lives: Lifetimes, start_ms: int, end_ms: int) -> Sequence[str]:
        """Return the values that a series has that may have a sample in the window, sorted."""
        segments, answer = self._segments, self._answer
        if answer.segments is segments and answer.span.covers(start_ms, end_ms):
            return answer.texts
        alive = [each.living(lives, start_ms, end_ms) for each in segments]
        living = _union([each.codes[yes] for each, yes in zip(segments, alive, strict=True)])
        if living.size < _union([each.codes for each in segments]).size:
            return sorted(self._strings.texts(living))
        known = answer.segments is segments
        texts = answer.texts if known else sorted(self._strings.texts(living))
        proofs = [each.witness[yes] for each, yes in zip(segments, alive, strict=True)]
        self._answer = _Answer(segments, texts, lives.span(np.concatenate([*proofs, _NO_IDS])))
        return texts

    def count(self, codes: Codes) -> int:
        """Return how many series have one of the values *codes*."""
        return sum(int(each.counts(each.places(codes)).sum()) for each in self._segments)

    def ids(self, codes: Codes) -> Ids:
        """Return the series that have one of the values *codes*, ascending."""
        found = [each.ids[each.rows(each.places(codes))] for each in self._segments]
        return np.sort(np.concatenate([*found, _NO_IDS]))


class InvertedLabels:
    """What is inverted of the labels of some tables."""

    def __init__(self, tables: Tables, strings: Strings) -> None:
        self._tables, self._strings = tables, strings
        self._lock = threading.Lock()
        self._labels: dict[str, Inverted] = {}

    def label(self, name: str) -> Inverted:
        """Return the label *name*, up to date; empty if no series has it."""
        if name not in self._tables.names:  # names that users make up are not kept
            return Inverted(self._strings)
        with self._lock:
            inverted = self._labels.get(name)
            if inverted is None:
                inverted = self._labels[name] = Inverted(self._strings)
            inverted.extend(name, self._tables)
            return inverted


def _union(parts: list[Codes]) -> Codes:
    if len(parts) == 1:
        return parts[0]
    return np.unique(np.concatenate([*parts, np.empty(0, np.int32)]))
