"""What selectors found, kept for as long as no new series changes it."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from aggregator.model.arrays import Codes, Ids
from aggregator.model.labels import METRIC_NAME, Matcher, Strings
from aggregator.store.lifetimes import UNPROVEN, Lifetimes, Span
from aggregator.store.matching import distinct
from aggregator.store.tables import Part

MAX_BYTES, TOTAL_BYTES = 3 << 20, 12 << 20
# what an entry takes beside its arrays, and the longest selector that is kept
_ENTRY_BYTES, _MAX_CHARACTERS = 2_000, 2_000
_MAX_ENTRIES, _FEW_TEXTS = 1_024, 5_000

Key = tuple[Matcher, ...]


@dataclass(slots=True)
class Found:
    """Series with all their labels: `codes[k, j]` is label `names[j]` of `ids[k]`; read-only.

    Ids and names ascend. `highest` is the largest of the codes. `span` and `texts` are found out
    when they are asked for; a span that was true stays true.
    """

    ids: Ids
    names: tuple[str, ...]
    codes: Codes
    highest: int
    span: Span = UNPROVEN
    texts: dict[str, list[str]] = field(default_factory=dict)

    @staticmethod
    def of(parts: Sequence[Part], strings: Strings) -> "Found":
        """Return the series of *parts*, whose codes are of *strings*."""
        if not parts:
            return Found.sealed(np.empty(0, np.uint32), (), np.zeros((0, 0), np.int32))
        alike: dict[tuple[str, ...], list[Part]] = {}  # most metrics have the same labels
        for part in parts:
            alike.setdefault(part.view.names, []).append(part)
        names = tuple(sorted({METRIC_NAME}.union(*alike)))
        ids = _joined([part.ids for some in alike.values() for part in some])
        codes = np.zeros((ids.size, len(names)), np.int32)
        first = 0
        for labels, some in alike.items():
            block = _joined([part.view.codes.take(part.rows, axis=1) for part in some])
            last = first + block.shape[1]
            codes[first:last, [names.index(name) for name in labels]] = block.T
            metrics = [strings.find(part.metric) or 0 for part in some]
            counts = [part.rows.size for part in some]
            codes[first:last, names.index(METRIC_NAME)] = np.repeat(metrics, counts)
            first = last
        return Found.sealed(ids, names, codes)

    @staticmethod
    def sealed(ids: Ids, names: tuple[str, ...], codes: Codes) -> "Found":
        """Return series, in any order, whose arrays nobody else holds."""
        if not (ids[1:] > ids[:-1]).all():
            order = np.argsort(ids, kind="stable")  # there are long runs that ascend
            ids, codes = ids[order], codes[order]
        ids.flags.writeable = codes.flags.writeable = False
        return Found(ids, names, codes, int(codes.max(initial=0)))

    def living(self, lives: Lifetimes, start_ms: int, end_ms: int) -> "Found":
        """Return those that may have a sample in [start_ms, end_ms]."""
        if self.span.covers(start_ms, end_ms):
            return self
        first, last = lives.times(lives.rows_of(self.ids))
        alive = (last >= start_ms) & (first <= end_ms)
        if alive.all():
            self.span = Span.of(first, last)
            return self
        return Found.sealed(self.ids[alive], self.names, self.codes[alive])

    def joined(self, more: "Found") -> "Found":
        """Return these series and those of *more* that are not among them."""
        places = np.minimum(np.searchsorted(self.ids, more.ids), self.ids.size - 1)
        fresh = self.ids[places] != more.ids if self.ids.size else np.ones(more.ids.size, np.bool_)
        if not fresh.any():
            return self
        names = tuple(sorted({*self.names, *more.names}))
        ids = np.concatenate([self.ids, more.ids[fresh]])
        codes = np.zeros((ids.size, len(names)), np.int32)
        codes[: self.ids.size, [names.index(name) for name in self.names]] = self.codes
        codes[self.ids.size :, [names.index(name) for name in more.names]] = more.codes[fresh]
        return Found.sealed(ids, names, codes)

    def values(self, name: str, strings: Strings) -> list[str]:
        """Return the different values of a label, sorted."""
        if name not in self.names:
            return []
        known = self.texts.get(name)
        if known is None:
            codes = distinct(self.codes[:, self.names.index(name)])
            known = sorted(strings.texts(codes[codes != 0]))
            if len(known) <= _FEW_TEXTS:
                self.texts[name] = known
        return known

    def label_names(self) -> list[str]:
        """Return the names of the labels that any of the series has."""
        used = np.flatnonzero(self.codes.any(axis=0))
        return [self.names[place] for place in used.tolist()]


def _joined(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Return columns, or blocks of them, one after the other."""
    return columns[0] if len(columns) == 1 else np.concatenate(columns, axis=-1)


@dataclass(frozen=True, slots=True)
class Basis:
    """What there was to be found: the `rows` of the tables of `metrics`, or of all if None.

    `posted` is how often the postings had been written, None if they were not asked.
    """

    metrics: tuple[str, ...] | None
    rows: tuple[int, ...]
    posted: int | None


class Selections:
    """The selections that were asked for last, at most `TOTAL_BYTES` of them.

    What they come to know of their texts is not counted: it is at most twice as much again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, tuple[Basis, Found, int]] = OrderedDict()
        self._bytes = 0

    def get(self, key: Key) -> tuple[Basis, Found] | None:
        """Return what was found for *key*, and in what."""
        with self._lock:
            held = self._kept.get(key)
            if held is None:
                return None
            self._kept.move_to_end(key)
        return held[0], held[1]

    def put(self, key: Key, basis: Basis, found: Found) -> None:
        """Keep what was found, at the price of what was not asked for the longest time."""
        characters = sum(len(matcher.name) + len(matcher.value) for matcher in key)
        if characters > _MAX_CHARACTERS:
            return
        size = _ENTRY_BYTES + characters + found.ids.nbytes + found.codes.nbytes
        with self._lock:
            old = self._kept.pop(key, None)
            self._bytes += size - (old[2] if old else 0)
            self._kept[key] = basis, found, size
            while self._bytes > TOTAL_BYTES or len(self._kept) > _MAX_ENTRIES:
                self._bytes -= self._kept.popitem(last=False)[1][2]


def is_small(parts: Sequence[Part], found: Found | None = None) -> bool:
    """Tell whether the series of *parts*, and those *found* already, may be kept."""
    # a row for each series, a column for each label that any of the metrics has
    names = {METRIC_NAME}.union(found.names if found else (), *(part.view.names for part in parts))
    rows = sum(part.rows.size for part in parts) + (found.ids.size if found else 0)
    return 4 * rows * (len(names) + 1) <= MAX_BYTES
