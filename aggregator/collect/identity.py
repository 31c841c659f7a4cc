"""Ids of raw copies: the label sets of an answer as ids, at the cost of what is new in it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import xxhash

from aggregator.collect.budget import Admitted, NewSeries, admit, blamed, fair_places, sampled
from aggregator.collect.context import Context
from aggregator.fleet.health import Dropped
from aggregator.fleet.registry import Cluster
from aggregator.model.arrays import Bools, Ids, Ints
from aggregator.model.labels import METRIC_NAME
from aggregator.profile.answer import parsed_labels
from aggregator.profile.raw import raw_labels

# New series are named in chunks, between which other threads get the interpreter.
_CHUNK = 500
# New series that had to wait are looked at again once there is room for this share of the limit.
_RETRIED_AT = 20
_LONGEST_BYTES = 65_536
_NAME = b'"__name__":"'


@dataclass(frozen=True, slots=True)
class RawLayout:
    """How an answer's rows become stored series, valid while its digest stays the same.

    `ids` has one entry for each row, 0 where `kept` is False; no kept id is there twice.
    `dropped` tells what the cluster's budget leaves out.
    """

    digest: bytes
    generation: int
    ids: Ids
    kept: Bools
    dropped: Dropped | None = None

    @property
    def count(self) -> int:
        """How many series are kept."""
        return int(np.count_nonzero(self.kept))


@dataclass(slots=True)
class SeriesCache:
    """Ids by the hash of the label set's raw bytes, for what the last two new lists had.

    The hash is a key of this cache alone; a collision that a cluster makes up hurts only itself.
    `new` is what the cluster may still bring.
    """

    cluster: Cluster
    context: Context
    new: NewSeries
    _now: dict[int, int] = field(default_factory=dict)
    _before: dict[int, int] = field(default_factory=dict)
    _generation: int = -1

    def digest(self, layout: RawLayout | None) -> bytes | None:
        """Return the digest of *layout* if it still tells what to store.

        It does not if ids were forgotten since, or if new series that it left out may come in.
        """
        current = self.context.series.generation
        if layout is None or layout.generation != current:
            return None
        dropped = layout.dropped
        waits = dropped is not None and dropped.new
        if waits and self.new.left() >= max(1, self.new.limit // _RETRIED_AT):
            return None
        return layout.digest

    def layout(
        self, digest: bytes, metrics: Sequence[bytes], room: int
    ) -> tuple[RawLayout, frozenset[str]]:
        """Return the layout of a new list of label sets, and the metric names new in it.

        There is *room* for so many series; what is left out is counted.
        """
        generation = self.context.series.generation
        if generation != self._generation:
            self._now, self._before, self._generation = {}, {}, generation
            self.new.begin()
        keys = [xxhash.xxh3_128_intdigest(metric) for metric in metrics]
        seen = self._now.keys() | self._before.keys()
        known = np.fromiter((key in seen for key in keys), np.bool_, len(keys))
        admitted = admit(known, lambda: _places(metrics), room, self.new)
        counts = {"series_limit": admitted.over, "new_series_limit": admitted.churned}
        self.context.reject(self.cluster.name, counts)
        rows = np.flatnonzero(admitted.kept).tolist()
        found, names = self._find([keys[row] for row in rows], [metrics[row] for row in rows])
        ids = np.full(len(metrics), -1, np.int64)
        ids[rows] = found
        _, first = np.unique(ids, return_index=True)
        kept = np.zeros(ids.size, np.bool_)
        kept[first] = True  # rows that became one series: the first speaks
        kept &= ids >= 0
        stored = np.where(kept, ids, 0).astype(np.uint32)
        dropped = self._blamed(metrics, admitted)
        return RawLayout(digest, generation, stored, kept, dropped), names

    def _blamed(self, metrics: Sequence[bytes], admitted: Admitted) -> Dropped | None:
        left_out = (metrics[row] for row in sampled(np.flatnonzero(~admitted.kept)))
        short = [metric for metric in left_out if len(metric) <= _LONGEST_BYTES]
        labels = [labels for labels in parsed_labels(short) if labels is not None]
        return blamed(labels, admitted, self.new.limit)

    def _find(
        self, keys: Sequence[int], metrics: Sequence[bytes]
    ) -> tuple[list[int], frozenset[str]]:
        """Return an id for each label set, -1 for one that is refused."""
        now, known, before = {}, self._now, self._before
        new: dict[int, bytes] = {}
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


def _places(metrics: Sequence[bytes]) -> Ints:
    """Return in which order series are let in; their names are read without a parser."""
    names = [metric.partition(_NAME)[2].partition(b'"')[0] for metric in metrics]
    return fair_places(names, metrics)
