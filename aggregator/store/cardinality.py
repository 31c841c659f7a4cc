"""How many series, label names and values there are, and which have most of them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import nlargest
from typing import TypeAlias

import numpy as np

from aggregator.model.arrays import Ints
from aggregator.model.labels import METRIC_NAME, Strings
from aggregator.store.lifetimes import NEVER_FIRST, NEVER_LAST, Lifetimes
from aggregator.store.tables import Part

Ranking: TypeAlias = Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Cardinality:
    """What series there are. Rankings are (name, count), largest first and cut at a limit.

    `pairs` is how many different label pairs there are, `first_ms` and `last_ms` the times of the
    oldest and newest sample (0 without any). `bytes_of_label` adds up the UTF-8 bytes of a label's
    different values; `by_pair` names pairs `label=value`; `by_cluster` is all of the clusters.
    """

    series: int
    pairs: int
    first_ms: int
    last_ms: int
    by_metric: Ranking
    values_of_label: Ranking
    bytes_of_label: Ranking
    by_pair: Ranking
    by_cluster: Ranking


def counted(parts: Iterable[Part], lives: Lifetimes, strings: Strings, limit: int) -> Cardinality:
    """Return what the series of *parts* are; rankings hold *limit* entries at most."""
    census = _Census(strings)
    for part in parts:
        census.add(part, lives)
    return census.result(limit)


class _Census:
    """Counts series, those of one metric after the other."""

    def __init__(self, strings: Strings) -> None:
        self._strings = strings
        self._metrics: Counter[str] = Counter()
        # of each label, how many series have each of our codes
        self._codes: dict[str, Ints] = {}
        self._first: int = NEVER_FIRST
        self._last: int = NEVER_LAST

    def add(self, part: Part, lives: Lifetimes) -> None:
        """Count the series of one metric."""
        self._metrics[part.metric] += part.rows.size
        rows = lives.rows(part.ids)
        written = rows[lives.last[rows] != NEVER_LAST]
        self._first = min(self._first, int(lives.first[written].min(initial=self._first)))
        self._last = max(self._last, int(lives.last[written].max(initial=self._last)))
        for name, column in zip(part.view.names, part.view.codes, strict=True):
            self._count(name, np.bincount(column[part.rows]))

    def result(self, limit: int) -> Cardinality:
        """Return what was counted; rankings hold *limit* entries at most."""
        codes = {
            name: (np.flatnonzero(counts[1:]) + 1).astype(np.int32)
            for name, counts in self._codes.items()
        }
        values = {name: distinct.size for name, distinct in codes.items() if distinct.size}
        size = {name: len("".join(self._strings.texts(codes[name])).encode()) for name in values}
        metrics = {metric: count for metric, count in self._metrics.items() if metric}
        if metrics:
            values[METRIC_NAME] = len(metrics)
            size[METRIC_NAME] = sum(len(metric.encode()) for metric in metrics)
        pairs = [(f"{METRIC_NAME}={metric}", count) for metric, count in metrics.items()]
        for name in codes:
            pairs += [(f"{name}={text}", count) for text, count in self._top(name, limit)]
        seen = self._last != NEVER_LAST
        return Cardinality(
            series=self._metrics.total(),
            pairs=sum(values.values()),
            first_ms=self._first if seen else 0,
            last_ms=self._last if seen else 0,
            by_metric=_largest(metrics.items(), limit),
            values_of_label=_largest(values.items(), limit),
            bytes_of_label=_largest(size.items(), limit),
            by_pair=_largest(pairs, limit),
            by_cluster=_largest(self._top("cluster", len(self._strings)), len(self._strings)),
        )

    def _count(self, name: str, counts: Ints) -> None:
        held = self._codes.get(name, np.zeros(0, np.int64))
        if held.size < counts.size:
            held, counts = counts, held
        held[: counts.size] += counts
        self._codes[name] = held

    def _top(self, name: str, limit: int) -> Ranking:
        """Return the *limit* values that most series have, in no order."""
        counts = self._codes.get(name, np.zeros(1, np.int64)).copy()
        counts[:1] = 0  # code 0 is the absent label
        limit = min(limit, counts.size)
        top = np.argpartition(counts, counts.size - limit)[counts.size - limit :]
        top = top[counts[top] > 0]
        texts = self._strings.texts(top.astype(np.int32))
        return list(zip(texts, counts[top].tolist(), strict=True))


def _largest(ranking: Iterable[tuple[str, int]], limit: int) -> Ranking:
    return nlargest(limit, sorted(ranking), key=lambda entry: entry[1])
