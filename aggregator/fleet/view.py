"""What the API and the pages show of each cluster, as plain values."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aggregator.fleet.freshness import SEVERITY, Freshness, State, Unit, least_fresh_ms
from aggregator.fleet.registry import Cluster
from aggregator.settings import format_duration_ms
from aggregator.state.bindings import Binding, Bindings
from aggregator.state.gaps import Gap


@dataclass(frozen=True, slots=True)
class SubjectView:
    """One subject: a group of fleet metrics or a raw selector."""

    subject: str
    state: str
    interval_seconds: float
    data_until: float | None
    age_seconds: float | None
    note: str


@dataclass(frozen=True, slots=True)
class BindingView:
    """What serves one fleet metric; `reason` says why nothing does."""

    metric: str
    candidates: tuple[str, ...]
    quality: str
    reason: str


@dataclass(frozen=True, slots=True)
class GapView:
    """An open gap, in seconds since 1970."""

    subject: str
    start: float
    end: float
    reason: str


@dataclass(frozen=True, slots=True)
class ClusterView:
    """One cluster. `data_until` (seconds since 1970) is where its least fresh subject ends."""

    cluster: str
    region: str
    labels: Mapping[str, str]
    state: str
    data_until: float | None
    age_seconds: float | None
    error: str
    interval_seconds: float
    subjects: tuple[SubjectView, ...]
    bindings: tuple[BindingView, ...]
    gaps: tuple[GapView, ...]
    series: Mapping[str, int]
    rejected: Mapping[str, int]


def cluster_views(freshness: Freshness, bindings: Bindings, now_ms: int) -> list[ClusterView]:
    """Return every registered cluster, in the order of the registry."""
    return [cluster_view(freshness, bindings, cluster, now_ms) for cluster in freshness.registry]


def cluster_view(
    freshness: Freshness, bindings: Bindings, cluster: Cluster, now_ms: int
) -> ClusterView:
    """Return one cluster."""
    units = freshness.units(cluster, now_ms)
    health = freshness.health.get(cluster.name)
    state = cluster_state(unit.state for unit in units)
    until = least_fresh_ms(units)
    return ClusterView(
        cluster=cluster.name,
        region=cluster.region,
        labels=cluster.labels,
        state=state.value,
        data_until=_time(until),
        age_seconds=_age(until, now_ms),
        error=_error(cluster, state, health.error, health.open_until_ms, now_ms),
        interval_seconds=cluster.collect.interval / 1000,
        subjects=tuple(
            _subject(unit, health.notes.get(unit.subject.name, ""), now_ms) for unit in units
        ),
        bindings=tuple(
            _binding(binding, health.quarantined)
            for _, binding in sorted(bindings.of(cluster.name).items())
        ),
        gaps=tuple(_gap(gap) for gap in freshness.gaps.open(cluster.name)),
        series=health.series,
        rejected=health.rejected,
    )


def cluster_state(states: Iterable[State]) -> State:
    """Return the state of a whole cluster: the worst of its subjects', never if there is none."""
    return min(states, key=SEVERITY.index, default=State.NEVER)


def _subject(unit: Unit, note: str, now_ms: int) -> SubjectView:
    return SubjectView(
        unit.subject.name,
        unit.state.value,
        unit.subject.interval_ms / 1000,
        _time(unit.data_until_ms),
        _age(unit.data_until_ms, now_ms),
        note,
    )


def _binding(binding: Binding, quarantined: Mapping[str, str]) -> BindingView:
    reason = quarantined.get(binding.metric, binding.reason)
    return BindingView(binding.metric, binding.candidates, binding.quality, reason)


def _gap(gap: Gap) -> GapView:
    return GapView(gap.subject, gap.start_ms / 1000, gap.end_ms / 1000, gap.reason)


def _error(
    cluster: Cluster, state: State, error: str, open_until_ms: int | None, now_ms: int
) -> str:
    if state is State.MAINTENANCE and cluster.maintenance is not None:
        return f"in maintenance: {cluster.maintenance.reason or 'no reason given'}"
    if error and open_until_ms is not None and open_until_ms > now_ms:
        wait = (open_until_ms - now_ms + 999) // 1000 * 1000
        return f"{error}; next try in {format_duration_ms(wait)}"
    return error


def _time(time_ms: int | None) -> float | None:
    return None if time_ms is None else time_ms / 1000


def _age(time_ms: int | None, now_ms: int) -> float | None:
    return None if time_ms is None else max(0.0, (now_ms - time_ms) / 1000)
