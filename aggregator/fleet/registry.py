"""The registry: the clusters of the configuration. It says what must be there; data never does."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from aggregator.fleet.settings import (
    Capacity,
    ClusterSettings,
    CollectSettings,
    Maintenance,
    WorkloadRule,
)
from aggregator.sources.settings import LokiSettings, PrometheusSettings

_SHORTEST_REQUEST_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """A registered cluster; `collect` is the fleet's settings with the cluster's own on top."""

    name: str
    region: str
    labels: Mapping[str, str]
    prometheus: PrometheusSettings
    collect: CollectSettings
    maintenance: Maintenance | None
    capacity: Capacity
    loki: LokiSettings | None = None

    @property
    def request_seconds(self) -> float:
        """How long one request may take: its own limit, and two thirds of an interval at most."""
        longest = max(self.collect.interval / 1_500, _SHORTEST_REQUEST_SECONDS)
        return min(self.collect.limits.timeout / 1_000, longest)

    def in_maintenance(self, time_ms: int) -> bool:
        """Tell whether the cluster is allowed to be away at *time_ms*."""
        window = self.maintenance
        if window is None:
            return False
        return window.begin.timestamp() * 1000 <= time_ms < window.end.timestamp() * 1000


class Registry:
    """The clusters in the order of the configuration; immutable, a reload makes another one."""

    def __init__(
        self,
        clusters: Sequence[ClusterSettings],
        defaults: CollectSettings,
        workloads: Sequence[WorkloadRule] = (),
    ) -> None:
        """Register *clusters*; *workloads* is what the operator knows of workloads anywhere."""
        self.workloads = tuple(workloads)
        self._clusters = {
            own.name: Cluster(
                own.name,
                own.region,
                own.labels,
                own.prometheus,
                own.collect.applied_to(defaults),
                own.maintenance,
                own.capacity,
                own.loki,
            )
            for own in clusters
        }

    def __iter__(self) -> Iterator[Cluster]:
        return iter(self._clusters.values())

    def __len__(self) -> int:
        return len(self._clusters)

    def get(self, name: str) -> Cluster | None:
        """Return the cluster called *name*, or None."""
        return self._clusters.get(name)
