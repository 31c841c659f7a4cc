"""What the API and the pages show of each cluster, as plain values."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from aggregator.fleet.freshness import SEVERITY, Freshness, State, Unit, least_fresh_ms
from aggregator.fleet.health import Dropped, Health, Served, joined
from aggregator.fleet.registry import Cluster
from aggregator.fleet.subjects import PROMETHEUS
from aggregator.settings import format_duration_ms
from aggregator.state.bindings import Binding, Bindings
from aggregator.state.gaps import Gap

# A metric in one of these states counts as served.
_SERVED = frozenset({"ok", "bound"})


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
class Coverage:
    """How many fleet metrics there are, and how many of them a cluster serves."""

    served: int
    metrics: int


@dataclass(frozen=True, slots=True)
class BindingView:
    """What serves one fleet metric, or why nothing does.

    `state` is one of `ok`, `empty` (bound, but the last answers had nothing), `bound` (not
    collected yet since we started), `quarantined`, `not_now`, `never`, `failed`, `unasked`. `since`
    (seconds since 1970) is when the candidates took over from those that `previous` names.
    """

    metric: str
    group: str
    state: str
    candidates: tuple[str, ...]
    quality: str
    reason: str
    data_until: float | None
    age_seconds: float | None
    since: float | None
    previous: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DroppedView:
    """What the cluster's budget leaves out of a subject."""

    subject: str
    series: int
    limit: int
    metric: str
    label: str
    values: int
    since: float
    text: str


@dataclass(frozen=True, slots=True)
class Details:
    """What is told of one cluster alone: of five hundred it would be megabytes."""

    bindings: tuple[BindingView, ...]
    groups: Mapping[str, Coverage]


@dataclass(frozen=True, slots=True)
class GapView:
    """An open gap, in seconds since 1970."""

    subject: str
    start: float
    end: float
    reason: str


@dataclass(frozen=True, slots=True)
class ClusterView:
    """One cluster. `data_until` (seconds since 1970) is where its least fresh subject ends.

    `place` is what is odd about where its nodes are.
    `details` makes the rest, which is more work.
    """

    cluster: str
    region: str
    labels: Mapping[str, str]
    state: str
    data_until: float | None
    age_seconds: float | None
    error: str
    place: str
    interval_seconds: float
    dialect: str
    coverage: Coverage
    subjects: tuple[SubjectView, ...]
    gaps: tuple[GapView, ...]
    series: Mapping[str, int]
    rejected: Mapping[str, int]
    dropped: tuple[DroppedView, ...]
    details: Callable[[], Details]


def cluster_views(freshness: Freshness, bindings: Bindings, now_ms: int) -> list[ClusterView]:
    """Return every registered cluster, in the order of the registry."""
    return [cluster_view(freshness, bindings, cluster, now_ms) for cluster in freshness.registry]


def cluster_view(
    freshness: Freshness, bindings: Bindings, cluster: Cluster, now_ms: int
) -> ClusterView:
    """Return one cluster."""
    units = freshness.units(cluster, now_ms)
    logs = Health() if cluster.loki is None else freshness.logs.health.get(cluster.name)
    health = joined(freshness.health.get(cluster.name), logs)
    state = cluster_state(units)
    until = least_fresh_ms(unit for unit in units if unit.subject.source == PROMETHEUS)
    kept, metrics = bindings.of(cluster.name), freshness.metrics(cluster)
    return ClusterView(
        cluster=cluster.name,
        region=cluster.region,
        labels=cluster.labels,
        state=state.value,
        data_until=_time(until),
        age_seconds=_age(until, now_ms),
        error=_error(cluster, state, health.error, health.open_until_ms, now_ms),
        place=health.place,
        interval_seconds=cluster.collect.interval / 1000,
        subjects=tuple(
            _subject(unit, health.notes.get(unit.subject.name, ""), now_ms) for unit in units
        ),
        dialect=health.dialect,
        coverage=_coverage(metrics, kept, health),
        gaps=tuple(_gap(gap) for gap in freshness.gaps.open(cluster.name)),
        series=health.series,
        rejected=health.rejected,
        dropped=tuple(_dropped(subject, one) for subject, one in sorted(health.dropped.items())),
        details=lambda: _details(metrics, kept, health, now_ms),
    )


def cluster_state(units: Iterable[Unit]) -> State:
    """Return the state of a whole cluster: the worst of its subjects', never if there is none.

    A Loki that does not answer makes data missing, not its cluster unreachable.
    """
    states = (
        State.MISSING
        if unit.state is State.UNREACHABLE and unit.subject.source != PROMETHEUS
        else unit.state
        for unit in units
    )
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


def _metric_state(binding: Binding | None, health: Health, metric: str) -> str:
    """Return how a fleet metric is served, in one word."""
    if binding is None:
        return "unasked"
    if not binding.candidates:
        return binding.standing.value
    served = health.served.get(metric)
    if metric in health.quarantined:
        return "quarantined"
    if served is None:
        return "bound"
    return "empty" if served.empty_cycles else "ok"


def _coverage(metrics: Collection[str], kept: Mapping[str, Binding], health: Health) -> Coverage:
    states = [_metric_state(kept.get(metric), health, metric) for metric in metrics]
    return Coverage(sum(state in _SERVED for state in states), len(states))


def _details(
    metrics: Mapping[str, str], kept: Mapping[str, Binding], health: Health, now_ms: int
) -> Details:
    groups: dict[str, list[str]] = {}
    for metric, group in metrics.items():
        groups.setdefault(group, []).append(metric)
    return Details(
        tuple(
            _binding(metric, group, kept.get(metric), health, now_ms)
            for metric, group in metrics.items()
        ),
        {group: _coverage(names, kept, health) for group, names in groups.items()},
    )


def _binding(
    metric: str, group: str, binding: Binding | None, health: Health, now_ms: int
) -> BindingView:
    state = _metric_state(binding, health, metric)
    served = health.served.get(metric, Served())
    reason = "not asked yet" if binding is None else binding.reason
    if state == "quarantined":
        reason = health.quarantined[metric]
    elif state == "empty":
        reason = f"the last {served.empty_cycles} answers had none"
    return BindingView(
        metric,
        group,
        state,
        () if binding is None else binding.candidates,
        "" if binding is None else binding.quality,
        reason,
        _time(served.data_until_ms),
        _age(served.data_until_ms, now_ms),
        _time(binding.since_ms) if binding is not None and binding.candidates else None,
        () if binding is None else binding.previous,
    )


def _dropped(subject: str, one: Dropped) -> DroppedView:
    return DroppedView(
        subject,
        one.series,
        one.limit,
        one.metric,
        one.label,
        one.values,
        one.since_ms / 1000,
        one.text,
    )


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
