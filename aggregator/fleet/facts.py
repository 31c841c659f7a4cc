"""What we know of a cluster without asking it, as series: registry, freshness, bindings."""

from collections.abc import Iterator, Mapping, Sequence

from aggregator.fleet.freshness import Unit, least_fresh_ms
from aggregator.fleet.health import Health, Served
from aggregator.fleet.registry import Cluster
from aggregator.fleet.subjects import PROMETHEUS
from aggregator.state.bindings import Binding

Labels = dict[str, str]
Gauge = tuple[Labels, float]


def info_series(
    cluster: Cluster,
    state: str,
    bindings: Mapping[str, Binding],
    qualities: Mapping[tuple[str, str], str],
) -> list[Labels]:
    """Return the series of *cluster* whose value is 1: what it is, and what serves its metrics.

    *qualities* has that of each candidate by metric and id.
    """
    return [
        _named("fleet:cluster_info", cluster, **{k: v for k, v in cluster.labels.items() if v}),
        _named("fleet:cluster_state", cluster, state=state),
        *(
            _named(
                "fleet:binding_info",
                cluster,
                metric=binding.metric,
                candidate=candidate,
                quality=qualities.get((binding.metric, candidate), binding.quality),
            )
            for binding in bindings.values()
            for candidate in binding.candidates
        ),
    ]


def gauges(
    cluster: Cluster, units: Sequence[Unit], sources: Mapping[str, Health], now_ms: int
) -> list[Gauge]:
    """Return how collection of *cluster* goes, for each of its sources.

    What is not known, such as the age of data that never came, has no series.
    """
    return [
        *(one for source in sources.items() for one in _source(cluster, *source, units)),
        *_last_success(cluster, units),
        *(
            (_named("fleet:data_age_seconds", cluster, source=source), age_seconds)
            for source, age_seconds in _ages(units, now_ms)
        ),
        *(
            (_named("fleet:binding_empty_cycles", cluster, metric=metric), float(one.empty_cycles))
            for health in sources.values()
            for metric, one in health.served.items()
            if _lost(one)
        ),
        *(
            (_named("fleet:cluster_clock_offset_seconds", cluster), health.clock_offset_ms / 1000)
            for health in sources.values()
            if health.clock_offset_ms is not None
        ),
    ]


def _last_success(cluster: Cluster, units: Sequence[Unit]) -> Iterator[Gauge]:
    """Yield the newest instant that each source answered for, in seconds since 1970."""
    newest: dict[str, int] = {}
    for unit in units:
        if unit.answered_ms is not None:
            source = unit.subject.source
            newest[source] = max(newest.get(source, 0), unit.answered_ms)
    for source, time_ms in newest.items():
        name = "fleet:collection_last_success_timestamp_seconds"
        yield _named(name, cluster, source=source), time_ms / 1000


def _source(
    cluster: Cluster, source: str, health: Health, units: Sequence[Unit]
) -> Iterator[Gauge]:
    own = [unit.subject.interval_ms for unit in units if unit.subject.source == source]
    interval = cluster.collect.interval if source == PROMETHEUS else min(own, default=None)
    if interval is not None:
        name = "fleet:collection_interval_seconds"
        yield _named(name, cluster, source=source), interval / 1000
    if health.tried_ms is None:
        return
    yield _named("fleet:collection_success", cluster, source=source), float(health.succeeded)
    if health.duration_seconds is not None:
        name = "fleet:collection_duration_seconds"
        yield _named(name, cluster, source=source), health.duration_seconds


def _ages(units: Sequence[Unit], now_ms: int) -> Iterator[tuple[str, float]]:
    """Yield how old the least fresh expected data of each source is."""
    for source in dict.fromkeys(unit.subject.source for unit in units):
        until = least_fresh_ms(unit for unit in units if unit.subject.source == source)
        if until is not None:
            yield source, max(0, now_ms - until) / 1000


def _lost(served: Served) -> bool:
    return served.present and served.empty_cycles > 0


def _named(name: str, cluster: Cluster, **labels: str) -> Labels:
    return {"__name__": name, **labels, "cluster": cluster.name, "region": cluster.region}
