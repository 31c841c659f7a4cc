"""Series that follow from stored fleet metrics and the registry: versions, regions, workloads."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from aggregator.fleet.facts import Gauge, Labels
from aggregator.fleet.registry import Cluster, Registry
from aggregator.fleet.settings import WorkloadRule
from aggregator.fleet.subjects import full_match
from aggregator.profile.regions import plain_code, provider_region_of_zone, region_warning
from aggregator.promql.result import QueryResult
from aggregator.sources.failures import clean_text

# Runs an instant query at a time in ms. Raises `QueryError`.
Query = Callable[[str, int], QueryResult]

_MINOR = re.compile(r"v?[0-9]{1,5}\.([0-9]{1,5})\.")
_VERSIONS = 'fleet:cluster_version_info{component=~"apiserver|kubelet"}'
_PLACES = "sum by (cluster, provider_region, zone) (fleet:cluster_nodes)"
_SHOWN = 5
_WORKLOADS = "group by (cluster, namespace, workload) (fleet:workload_replicas_desired)"
# What a cluster had last counts for its region for so long: a region whose clusters cannot be
# asked has not lost its machines, and a sum without them would be a wrong number.
_HELD_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class _Summed:
    """A sum over the clusters of a region, and the query that gives it for each cluster."""

    name: str
    query: str


_SUMS = (
    _Summed(
        "fleet:region_cpu_requests_cores",
        "sum by (cluster) (fleet:namespace_cpu_requests_cores)",
    ),
    _Summed(
        "fleet:region_cpu_allocatable_cores",
        "max by (cluster) (fleet:cluster_cpu_allocatable_cores)",
    ),
    _Summed(
        "fleet:region_memory_requests_bytes",
        "sum by (cluster) (fleet:namespace_memory_requests_bytes)",
    ),
    _Summed(
        "fleet:region_memory_allocatable_bytes",
        "max by (cluster) (fleet:cluster_memory_allocatable_bytes)",
    ),
)


def kubernetes_minors(registry: Registry, query: Query, time_ms: int) -> list[Gauge]:
    """Return the minor version of each cluster's API server (newest) and kubelets (oldest)."""
    found: dict[tuple[str, str], list[int]] = {}
    for labels, _ in _rows(query(_VERSIONS, time_ms)):
        match = _MINOR.match(labels.get("git_version", ""))
        if match is not None:
            key = labels.get("cluster", ""), labels.get("component", "")
            found.setdefault(key, []).append(int(match[1]))
    gauges: list[Gauge] = []
    for (name, component), minors in found.items():
        cluster = registry.get(name)
        if cluster is None:
            continue
        stamped = {"cluster": name, "region": cluster.region}
        if component == "apiserver":
            labels = {"__name__": "fleet:cluster_kubernetes_minor", **stamped}
            gauges.append((labels, float(max(minors))))
        else:
            gauges.append(({"__name__": "fleet:kubelet_minor", **stamped}, float(min(minors))))
    return gauges


def place_warnings(registry: Registry, query: Query, time_ms: int) -> dict[str, str]:
    """Return by cluster what is odd about where its nodes are, an empty text if nothing is.

    Clusters whose nodes do not tell are left out.
    """
    found: dict[str, set[str]] = {}
    for labels, _ in _rows(query(_PLACES, time_ms)):
        zone = provider_region_of_zone(labels.get("zone", ""))
        place = labels.get("provider_region") or zone
        if place:
            found.setdefault(labels.get("cluster", ""), set()).add(place)
    clusters = ((registry.get(name), places) for name, places in found.items())
    return {
        cluster.name: _odd(cluster, sorted(places))
        for cluster, places in clusters
        if cluster is not None
    }


def _odd(cluster: Cluster, places: Sequence[str]) -> str:
    if len(places) > 1:
        shown = ", ".join(clean_text(place, 60) for place in places[:_SHOWN])
        return f"its nodes are in several provider regions: {shown}; all count as {cluster.region}"
    [place] = places
    said = _label(cluster, "provider_region")
    if said and plain_code(said) != plain_code(place):
        return f"labels.provider_region is {said!r}, but its nodes are in {clean_text(place, 60)!r}"
    return region_warning(cluster.name, cluster.region, place) or ""


@dataclass(slots=True)
class RegionSums:
    """What the clusters of each region have together, by their labels `group` and `role`.

    `_last` keeps what each cluster had last, and when.
    """

    _last: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict)

    def gauges(self, registry: Registry, query: Query, time_ms: int) -> list[Gauge]:
        """Return the sums at *time_ms*; a cluster without a value for an hour is not in them."""
        totals: dict[tuple[str, str, str, str], float] = {}
        for summed in _SUMS:
            for labels, value in _rows(query(summed.query, time_ms)):
                self._last[summed.name, labels.get("cluster", "")] = time_ms, value
            for cluster in registry:
                for name, value in self._values(summed.name, cluster, time_ms):
                    key = name, cluster.region, _label(cluster, "group"), _label(cluster, "role")
                    totals[key] = totals.get(key, 0.0) + value
        self._forget(registry)
        return [
            (_region_labels(name, region, group, role), value)
            for (name, region, group, role), value in totals.items()
        ]

    def _values(self, name: str, cluster: Cluster, time_ms: int) -> Iterator[tuple[str, float]]:
        """Yield what *cluster* adds to a sum, and to that of what it may grow to."""
        at_ms, value = self._last.get((name, cluster.name), (0, 0.0))
        if time_ms - at_ms > _HELD_MS:
            return
        yield name, value
        if name.startswith("fleet:region_cpu_allocatable"):
            yield "fleet:region_cpu_max_cores", max(value, cluster.capacity.cpu_cores or 0.0)
        elif name.startswith("fleet:region_memory_allocatable"):
            yield "fleet:region_memory_max_bytes", max(value, float(cluster.capacity.memory or 0))

    def _forget(self, registry: Registry) -> None:
        for key in [key for key in self._last if registry.get(key[1]) is None]:
            del self._last[key]


def workload_infos(registry: Registry, query: Query, time_ms: int) -> list[Labels]:
    """Return the series `fleet:workload_info` of the workloads there are, where a rule is."""
    if not registry.workloads:
        return []
    known: dict[tuple[str, str], Mapping[str, str]] = {}
    series: list[Labels] = []
    for labels, _ in _rows(query(_WORKLOADS, time_ms)):
        cluster = registry.get(labels.get("cluster", ""))
        names = labels.get("namespace", ""), labels.get("workload", "")
        if names not in known:
            known[names] = _described(registry.workloads, *names)
        if cluster is not None and known[names]:
            place = {"namespace": names[0], "workload": names[1]}
            stamped = {"cluster": cluster.name, "region": cluster.region}
            info = {"__name__": "fleet:workload_info", **place, **known[names], **stamped}
            series.append({name: value for name, value in info.items() if value})
    return series


def _described(rules: tuple[WorkloadRule, ...], namespace: str, workload: str) -> dict[str, str]:
    """Return what *rules* say of a workload; the first that says something counts."""
    said: dict[str, str] = {}
    for rule in rules:
        if full_match(rule.match.namespace, namespace) and full_match(
            rule.match.workload, workload
        ):
            for name in ("placement", "criticality"):
                value: str = getattr(rule, name)
                if value:
                    said.setdefault(name, value)
    return said


def _region_labels(name: str, region: str, group: str, role: str) -> Labels:
    labels = {"__name__": name, "region": region, "group": group, "role": role}
    return {key: value for key, value in labels.items() if value}


def _label(cluster: Cluster, name: str) -> str:
    return cluster.labels.get(name, "")


def _rows(result: QueryResult) -> Iterator[tuple[Labels, float]]:
    """Yield the series of an instant vector and their values."""
    matrix = result.matrix
    if matrix is not None:
        rows = matrix.present[:, 0].nonzero()[0]
        yield from zip(
            matrix.series.take(rows).dicts(), matrix.values[rows, 0].tolist(), strict=True
        )
