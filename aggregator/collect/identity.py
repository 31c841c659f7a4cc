"""Ids of raw copies: the label sets of an answer as ids, at the cost of what is new in it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import xxhash

from aggregator.collect.context import Context
from aggregator.fleet.registry import Cluster
from aggregator.model.arrays import Bools, Ids
from aggregator.model.labels import METRIC_NAME
from aggregator.profile.raw import raw_labels

# New series are named in chunks, between which other threads get the interpreter.
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class RawLayout:
    """How an answer's rows become stored series, valid while its digest stays the same.

    `ids` has one entry for each row, 0 where `kept` is False; no kept id is there twice.
    `cut` is how many rows the cluster's limit left out.
    """

    digest: bytes
    generation: int
    ids: Ids
    kept: Bools
    cut: int

    @property
    def count(self) -> int:
        """How many series are kept."""
        return int(np.count_nonzero(self.kept))


@dataclass(slots=True)
class SeriesCache:
    """Ids by the hash of the label set's raw bytes, for what the last two new lists had.

    The hash is a key of this cache alone; a collision that a cluster makes up hurts only itself.
    """

    cluster: Cluster
    context: Context
    _now: dict[int, int] = field(default_factory=dict)
    _before: dict[int, int] = field(default_factory=dict)
    _generation: int = -1

    def digest(self, layout: RawLayout | None) -> bytes | None:
        """Return the digest of *layout* if none of its ids was forgotten since."""
        current = self.context.series.generation
        return layout.digest if layout is not None and layout.generation == current else None

    def layout(
        self, digest: bytes, metrics: Sequence[bytes], limit: int
    ) -> tuple[RawLayout, frozenset[str]]:
        """Return the layout of a new list of label sets, and the metric names new in it.

        Of more than *limit* series, those that come first by their raw bytes are kept.
        """
        rows = range(len(metrics))
        cut = max(0, len(metrics) - limit)
        if cut:
            rows = sorted(rows, key=metrics.__getitem__)[:limit]  # type: ignore[assignment]
            self.context.reject(self.cluster.name, {"series_limit": cut})
        generation = self.context.series.generation
        if generation != self._generation:
            self._now, self._before, self._generation = {}, {}, generation
        found, names = self._find([metrics[row] for row in rows])
        ids = np.full(len(metrics), -1, np.int64)
        ids[rows] = found
        _, first = np.unique(ids, return_index=True)
        kept = np.zeros(ids.size, np.bool_)
        kept[first] = True  # rows that became one series: the first speaks
        kept &= ids >= 0
        stored = np.where(kept, ids, 0).astype(np.uint32)
        return RawLayout(digest, generation, stored, kept, cut), names

    def _find(self, metrics: Sequence[bytes]) -> tuple[list[int], frozenset[str]]:
        """Return an id for each label set, -1 for one that is refused."""
        now, known, before = {}, self._now, self._before
        new: dict[int, bytes] = {}
        keys = [xxhash.xxh3_128_intdigest(metric) for metric in metrics]
        for key, metric in zip(keys, metrics, strict=True):
            found = known.get(key)
            if found is None:
                found = before.get(key)
            if found is None:
                new[key] = metric
            else:
                now[key] = found
        names = self._name(new, now.__setitem__)
        ids = [now.get(key, -1) for key in keys]
        self._now, self._before = now, known
        return ids, names

    def _name(self, new: Mapping[int, bytes], put: Callable[[int, int], None]) -> frozenset[str]:
        """Give new label sets their ids, chunk by chunk."""
        names: set[str] = set()
        keys, metrics = list(new), list(new.values())
        cluster = self.cluster
        for start in range(0, len(keys), _CHUNK):
            chunk = metrics[start : start + _CHUNK]
            named = raw_labels(chunk, cluster.name, cluster.region)
            ids = self.context.series.series_ids(named.labels)
            rows = named.rows.tolist()
            taken = dict(zip(rows, ids.tolist(), strict=True))
            # A row that another one shadows may be alone in the next answer: it is not remembered.
            remember = "shadowed" not in named.rejected
            for row in range(len(chunk)):
                if remember or row in taken:
                    put(keys[start + row], taken.get(row, -1))
            names.update(labels[METRIC_NAME] for labels in named.labels)
            self.context.reject(cluster.name, named.rejected)
            self.context.rename(cluster.name, named.renamed)
            time.sleep(0)
        return frozenset(names)
