"""Writes what the aggregator itself knows of every cluster into the store, whatever they answer."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import structlog

from aggregator.collect.context import Context, QueueFullError
from aggregator.collect.staleness import markers, vanished
from aggregator.errors import QueryError, StoreError
from aggregator.fleet.credentials import CredentialExpiry
from aggregator.fleet.derived import (
    RegionSums,
    kubernetes_minors,
    place_warnings,
    workload_infos,
)
from aggregator.fleet.facts import Gauge, Labels, gauges, info_series
from aggregator.fleet.freshness import Freshness, State
from aggregator.fleet.registry import Cluster, Registry
from aggregator.fleet.subjects import LOKI, PROMETHEUS
from aggregator.fleet.view import cluster_state
from aggregator.model.arrays import Floats, Ids
from aggregator.model.samples import SampleBlock
from aggregator.profile.format import Profile

_LOG = structlog.get_logger(__name__)
_SHORTEST_MS = 5_000
_LONGEST_MS = 60_000
_WORKLOADS_MS = 60_000

_Key = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class RegistrySeries:
    """The series of our own: one block for the whole fleet at each instant of the grid.

    `_infos` keeps the ids of each cluster's series of value 1, which seldom change, `_ids` those
    of the others by label set, and `_live` all that were written last.
    """

    freshness: Freshness
    profile: Profile
    context: Context
    _qualities: dict[tuple[str, str], str] = field(default_factory=dict)
    _regions: RegionSums = field(default_factory=RegionSums)
    _credentials: CredentialExpiry = field(default_factory=CredentialExpiry)
    _infos: dict[str, tuple[tuple[object, ...], Ids]] = field(default_factory=dict)
    _ids: dict[_Key, int] = field(default_factory=dict)
    _generation: int = -1
    _live: Ids = field(default_factory=lambda: np.empty(0, np.uint32))
    _workloads: tuple[int, list[Labels]] = (0, [])
    _derived: list[Gauge] = field(default_factory=list)
    _time_ms: int = 0

    def __post_init__(self) -> None:
        self._qualities = {
            key: str(bound.candidate.quality) for key, bound in self.profile.bounds.items()
        }

    def step(self, stopping: threading.Event) -> None:
        """Write at the next instant of the grid."""
        interval_ms = self.interval_ms()
        now_ms = self.context.now()
        if now_ms // interval_ms * interval_ms != self._time_ms:
            self.write(now_ms // interval_ms * interval_ms)
            now_ms = self.context.now()
        stopping.wait((interval_ms - now_ms % interval_ms) / 1000)

    def interval_ms(self) -> int:
        """Return how often to write: as often as the fastest cluster is collected."""
        fastest = (cluster.collect.interval for cluster in self.freshness.registry)
        return max(_SHORTEST_MS, min(fastest, default=_LONGEST_MS))

    def write(self, time_ms: int) -> None:
        """Write every series at *time_ms*; what is not among them any more ends there."""
        self._time_ms = time_ms
        generation = self.context.series.generation
        if generation != self._generation:
            self._ids, self._infos, self._generation = {}, {}, generation
        registry = self.freshness.registry
        self._derive(registry, time_ms)
        infos, found = self._clusters(registry, time_ms)
        named, values = self._gauges([*found, *self._derived])
        ids, first = np.unique(np.concatenate([*infos, named]), return_index=True)
        values = np.concatenate([np.ones(sum(part.size for part in infos)), values])[first]
        block = SampleBlock(ids, np.full(ids.size, time_ms, np.int64), values)
        gone = vanished(self._live, ids)
        try:
            self.context.store(
                SampleBlock.concat([block, markers(gone, time_ms)]), lambda: self._stored(ids)
            )
        except (StoreError, QueueFullError) as error:
            _LOG.warning("series of our own are not stored", error=str(error))

    def _stored(self, ids: Ids) -> None:
        self._live = ids

    def _clusters(self, registry: Registry, time_ms: int) -> tuple[list[Ids], list[Gauge]]:
        """Return the ids of the series of value 1, and the other series with their values."""
        for name in self._infos.keys() - {cluster.name for cluster in registry}:
            del self._infos[name]
        infos: list[Ids] = []
        found: list[Gauge] = []
        for cluster in registry:
            units = self.freshness.units(cluster, time_ms)
            infos.append(self._info_ids(cluster, cluster_state(units)))
            health = {PROMETHEUS: self.freshness.health.get(cluster.name)}
            if cluster.loki is not None:
                health[LOKI] = self.freshness.logs.health.get(cluster.name)
            found += gauges(cluster, units, health, time_ms)
            found += self._credentials.gauges(cluster)
        return infos, found

    def _info_ids(self, cluster: Cluster, state: State) -> Ids:
        """Return the ids of a cluster's series of value 1, which are named anew if they change."""
        bindings = self.context.bindings.of(cluster.name)
        series = (
            cluster.region,
            cluster.labels,
            state,
            tuple((one.metric, one.candidates) for one in bindings.values()),
        )
        known = self._infos.get(cluster.name)
        if known is None or known[0] != series:
            labels = info_series(cluster, state.value, bindings, self._qualities)
            known = series, self.context.series.series_ids(labels)
            self._infos[cluster.name] = known
        return known[1]

    def _derive(self, registry: Registry, time_ms: int) -> None:
        """Look at what follows from stored series; if that fails the last answer stays."""
        query = self.context.query
        try:
            if not 0 <= time_ms - self._workloads[0] < _WORKLOADS_MS:
                self._workloads = time_ms, workload_infos(registry, query, time_ms)
                self._warn(place_warnings(registry, query, time_ms))
            self._derived = [
                *kubernetes_minors(registry, query, time_ms),
                *self._regions.gauges(registry, query, time_ms),
                *((labels, 1.0) for labels in self._workloads[1]),
            ]
        except QueryError as error:
            _LOG.warning("derived series are those of the last time", error=str(error))

    def _warn(self, places: Mapping[str, str]) -> None:
        """Say once what is odd about where the nodes of clusters are."""
        for cluster, text in places.items():
            if self.context.health.place(cluster, text) and text:
                _LOG.warning("a cluster is not where it should be", cluster=cluster, what=text)

    def _gauges(self, found: Sequence[Gauge]) -> tuple[Ids, Floats]:
        """Return ids and values, giving ids to label sets that are new."""
        series = {_key(labels): labels for labels, _ in found}
        new = [key for key in series if key not in self._ids]
        named = self.context.series.series_ids([series[key] for key in new])
        known = {**self._ids, **dict(zip(new, named.tolist(), strict=True))}
        self._ids = {key: known[key] for key in series}
        ids = np.array([known[_key(labels)] for labels, _ in found], np.uint32)
        return ids, np.array([value for _, value in found], np.float64)


def _key(labels: Mapping[str, str]) -> _Key:
    return tuple(sorted(labels.items()))
