"""Freshness: for each cluster and subject, whether its data is there, and what that means."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Protocol

from aggregator.fleet.changing import Changing, Finding
from aggregator.fleet.health import Dropped, Health, HealthBoard
from aggregator.fleet.registry import Cluster, Registry
from aggregator.fleet.subjects import (
    LOG_METRICS,
    LOKI,
    PROMETHEUS,
    Subject,
    group_subject,
    raw_subject,
    reads_cluster,
    reads_subject,
    selector_name,
    subjects,
)
from aggregator.model.labels import Matcher
from aggregator.profile.format import Profile, Source
from aggregator.settings import format_duration_ms
from aggregator.state.gaps import Gap, Gaps
from aggregator.state.watermarks import Watermark, Watermarks

UNREACHABLE_AFTER = 3  # failed cycles
_MAX_LINES = 5


class State(Enum):
    """What is known of one subject of one cluster."""

    NEVER = "never"
    OK = "ok"
    LATE = "late"
    MISSING = "missing"
    UNREACHABLE = "unreachable"
    MAINTENANCE = "maintenance"

    @property
    def expected(self) -> bool:
        """Whether data of a subject in this state ought to be there."""
        return self not in (State.NEVER, State.MAINTENANCE)


# Worst first: how the state of a whole cluster follows from its subjects.
SEVERITY = (
    State.UNREACHABLE,
    State.MAINTENANCE,
    State.MISSING,
    State.LATE,
    State.OK,
    State.NEVER,
)


class Read(Protocol):
    """What a query reads from the store: one selector and its time range."""

    @property
    def matchers(self) -> Sequence[Matcher]:
        """The selector."""
        ...

    @property
    def start_ms(self) -> int:
        """Oldest time that is read."""
        ...

    @property
    def end_ms(self) -> int:
        """Newest time that is read."""
        ...


@dataclass(frozen=True, slots=True)
class Unit:
    """The state of one subject of one cluster."""

    cluster: Cluster
    subject: Subject
    state: State
    data_until_ms: int | None
    first_data_ms: int | None
    answered_ms: int | None
    dropped: Dropped | None


@dataclass(frozen=True, slots=True)
class _Lack:
    """A unit that a query may miss data of, its open gaps, and the names of its raw metrics."""

    unit: Unit
    gaps: Sequence[Gap]
    names: Mapping[str, Collection[str]]


def least_fresh_ms(units: Iterable[Unit]) -> int | None:
    """Return where the least fresh expected one of *units* with data ends, None without any."""
    ends = [unit.data_until_ms for unit in units if unit.state.expected]
    return min((end for end in ends if end is not None), default=None)


@dataclass(frozen=True, slots=True)
class LogMetrics:
    """What is counted in logs: the groups of its metrics by name, and how that goes.

    Every metric is asked for within `interval_ms`, None if there is none.
    """

    groups: Mapping[str, str] = field(default_factory=dict)
    interval_ms: int | None = None
    health: HealthBoard = field(default_factory=HealthBoard)

    @staticmethod
    def of(profile: Profile, health: HealthBoard) -> "LogMetrics":
        """Return what *profile* counts in logs."""
        metrics = profile.served_by(Source.LOKI).metrics
        intervals = [metric.interval for metric in metrics if metric.interval is not None]
        groups = {metric.name: metric.group for metric in metrics}
        return LogMetrics(groups, max(intervals, default=None), health)


class Freshness:
    """Answers for the whole fleet. Any thread may use it."""

    def __init__(
        self,
        registry: Registry,
        groups: Mapping[str, str],
        watermarks: Watermarks,
        gaps: Gaps,
        health: HealthBoard,
        *,
        logs: LogMetrics | None = None,
    ) -> None:
        """Join what is known; *groups* maps each of Prometheus's fleet metrics to its group."""
        self.watermarks, self.gaps, self.health = watermarks, gaps, health
        self.logs = logs or LogMetrics()
        self._metrics = groups
        self._group_names: dict[str, set[str]] = {LOG_METRICS: set(self.logs.groups)}
        for metric, group in groups.items():
            self._group_names.setdefault(group_subject(group), set()).add(metric)
        self._groups = tuple(dict.fromkeys(groups.values()))
        self.apply(registry)
        for changing in (watermarks, gaps, health, self.logs.health):
            changing.watch(self._changed)

    def apply(self, registry: Registry) -> None:
        """Answer for another registry from now on."""
        self.registry = registry
        collected = {cluster.name: (cluster, self._subjects(cluster)) for cluster in registry}
        self._collected = collected
        self._lacking = Changing(collected, lambda name, now: self._lacks(*collected[name], now))

    def _changed(self, cluster: str) -> None:
        self._lacking.changed(cluster)

    def metrics(self, cluster: Cluster) -> Mapping[str, str]:
        """Return the group of each fleet metric that *cluster* may have, by name."""
        logs = {} if cluster.loki is None else self.logs.groups
        return {**self._metrics, **logs}

    def _subjects(self, cluster: Cluster) -> list[Subject]:
        return subjects(cluster, self._groups, self.logs.interval_ms)

    def _healths(self, cluster: Cluster) -> dict[str, Health]:
        """Return how collection of *cluster* goes, by source."""
        boards = {PROMETHEUS: self.health, LOKI: self.logs.health}
        return {source: board.get(cluster.name) for source, board in boards.items()}

    def units(self, cluster: Cluster, now_ms: int) -> list[Unit]:
        """Return the state of every subject of *cluster*."""
        marks, healths = self.watermarks.of(cluster.name), self._healths(cluster)
        return [
            _unit(cluster, subject, marks.get(subject.name), healths[subject.source], now_ms)
            for subject in self._subjects(cluster)
        ]

    def lag_ms(self, cluster: Cluster) -> int:
        """Return how long after an instant *cluster* is asked for it."""
        return max(cluster.collect.lag, self.health.get(cluster.name).lag_ms)

    def missing_at(self, matchers: Sequence[Matcher], time_ms: int, now_ms: int) -> list[Unit]:
        """Return the expected units a selector reads that have no data for *time_ms*.

        A unit has if its watermark reaches the newest instant of its own grid up to *time_ms*, or
        an earlier one whose answer still stands.
        """
        return [
            unit
            for unit in self._units_read(matchers, now_ms)
            if unit.state.expected
            and (unit.data_until_ms is None or unit.data_until_ms < unit.subject.needed_ms(time_ms))
        ]

    def warnings(
        self, reads: Sequence[Read], now_ms: int, clusters: Collection[str] | None = None
    ) -> tuple[str, ...]:
        """Return a line for each cluster whose data a query misses, worst first, at most six.

        A query misses data if it reads time that an expected unit does not cover, because it is
        not ok, because the gap ledger has an open gap there, or because the cluster's budget leaves
        series out at present. Only *clusters* are named, if given.
        """
        lacking = self._lacking.at(now_ms)
        worst: dict[str, tuple[int, str]] = {}
        for read in reads if lacking else ():
            selector = _Selector(read.matchers, self._group_names)
            for lack in lacking:
                unit, name = lack.unit, lack.unit.cluster.name
                if clusters is not None and name not in clusters:
                    continue
                if not selector.reads(unit.cluster, unit.subject, lack.names):
                    continue
                found = _missed(unit, lack.gaps, read, now_ms)
                if found is not None and (name not in worst or found[0] < worst[name][0]):
                    worst[name] = found
        lines = [line for _, line in sorted(worst.values(), key=lambda found: found[0])]
        if len(lines) <= _MAX_LINES:
            return tuple(lines)
        more = f"… and {len(lines) - _MAX_LINES} more, see /api/v1/clusters"
        return (*lines[:_MAX_LINES], more)

    def _lacks(self, cluster: Cluster, collected: Sequence[Subject], now_ms: int) -> Finding[_Lack]:
        """Return the units of *cluster* that a query may miss data of."""
        marks, healths = self.watermarks.of(cluster.name), self._healths(cluster)
        opened = self.gaps.open(cluster.name)
        names = _raw_names(cluster, healths[PROMETHEUS])
        lacks, turns = [], _maintenance_ms(cluster)
        for subject in collected:
            mark, health = marks.get(subject.name), healths[subject.source]
            unit = _unit(cluster, subject, mark, health, now_ms)
            gaps = [gap for gap in opened if gap.subject == subject.name]
            fine = unit.state is State.OK and not gaps and unit.dropped is None
            if unit.state.expected and not fine:
                lacks.append(_Lack(unit, gaps, names))
            turns += _turns_ms(cluster, subject, mark, health)
        since_ms = max((turn for turn in turns if turn <= now_ms), default=-math.inf)
        return Finding(
            lacks, since_ms, min((turn for turn in turns if turn > now_ms), default=math.inf)
        )

    def _units_read(self, matchers: Sequence[Matcher], now_ms: int) -> Iterator[Unit]:
        """Yield the units that a selector can read, in registry order."""
        selector = _Selector(matchers, self._group_names)
        for cluster, collected in self._collected.values():
            if not selector.reads_cluster(cluster):
                continue
            marks, healths = self.watermarks.of(cluster.name), self._healths(cluster)
            names = _raw_names(cluster, healths[PROMETHEUS])
            for subject in collected:
                if selector.reads(cluster, subject, names):
                    mark, health = marks.get(subject.name), healths[subject.source]
                    yield _unit(cluster, subject, mark, health, now_ms)


class _Selector:
    """Which clusters and subjects a selector can read; each question is answered once."""

    def __init__(self, matchers: Sequence[Matcher], groups: Mapping[str, Collection[str]]) -> None:
        """Ask about *matchers*; *groups* has the metric names of the subjects of all clusters."""
        self._matchers, self._groups = matchers, groups
        self._clusters: dict[str, bool] = {}
        self._subjects: dict[str, bool] = {}

    def reads_cluster(self, cluster: Cluster) -> bool:
        """Tell whether the selector can match series of *cluster*."""
        known = self._clusters.get(cluster.name)
        if known is None:
            known = self._clusters[cluster.name] = reads_cluster(self._matchers, cluster)
        return known

    def reads(
        self, cluster: Cluster, subject: Subject, names: Mapping[str, Collection[str]]
    ) -> bool:
        """Tell whether it can match series of *subject*; *names* are those of raw subjects."""
        if not self.reads_cluster(cluster):
            return False
        if subject.name not in self._groups:
            return reads_subject(self._matchers, subject.name, names)
        known = self._subjects.get(subject.name)
        if known is None:
            known = reads_subject(self._matchers, subject.name, self._groups)
            self._subjects[subject.name] = known
        return known


def _unit(
    cluster: Cluster, subject: Subject, mark: Watermark | None, health: Health, now_ms: int
) -> Unit:
    until = None if mark is None else mark.data_until_ms
    first = None if mark is None else mark.first_data_ms
    lag_ms = max(cluster.collect.lag, health.lag_ms)
    tolerated = now_ms - 2 * subject.interval_ms - lag_ms
    if cluster.in_maintenance(now_ms):
        state = State.MAINTENANCE
    elif health.failures >= UNREACHABLE_AFTER or (health.open_until_ms or 0) > now_ms:
        state = State.UNREACHABLE
    elif mark is None or until is None:
        state = State.NEVER
    elif until >= tolerated:
        state = State.OK
    else:
        state = State.MISSING if mark.answered_ms >= tolerated else State.LATE
    answered = None if mark is None else mark.answered_ms
    dropped = health.dropped.get(subject.name)
    return Unit(cluster, subject, state, until, first, answered, dropped)


def _turns_ms(
    cluster: Cluster, subject: Subject, mark: Watermark | None, health: Health
) -> list[float]:
    """Return the times at which what `_unit` says changes, if nothing but time does."""
    turns: list[float] = [] if health.open_until_ms is None else [health.open_until_ms]
    if mark is not None:
        tolerated = 2 * subject.interval_ms + max(cluster.collect.lag, health.lag_ms)
        ends = (mark.answered_ms, mark.data_until_ms)
        turns += [end + tolerated + 1 for end in ends if end is not None]
    return turns


def _maintenance_ms(cluster: Cluster) -> list[float]:
    window = cluster.maintenance
    if window is None:
        return []
    return [1000 * window.begin.timestamp(), 1000 * window.end.timestamp()]


def _raw_names(cluster: Cluster, health: Health) -> dict[str, frozenset[str]]:
    """Return the metric names of each raw subject, as far as they are known."""
    names = dict(health.names)
    for raw in cluster.collect.raw:
        name = selector_name(raw.match)
        if name is not None:
            names[raw_subject(raw.match)] = frozenset((name,))
    return names


def _missed(unit: Unit, gaps: Sequence[Gap], read: Read, now_ms: int) -> tuple[int, str] | None:
    """Return how bad it is and the line, if *read* meets time that *unit* does not cover."""
    if not unit.state.expected:
        return None
    who = f"cluster {unit.cluster.name} ({unit.cluster.region})"
    until = unit.data_until_ms
    if unit.state is not State.OK and (until is None or read.end_ms > until):
        since = "no data yet" if until is None else f"no data since {_clock(until)}"
        age = "" if until is None else f" ({format_duration_ms(_seconds(now_ms - until))} ago)"
        what = f"{unit.subject.name} is {unit.state.value}"
        return SEVERITY.index(unit.state), f"{who}: {what}, {since}{age}"
    for gap in gaps:
        if gap.start_ms < read.end_ms and read.start_ms < gap.end_ms:
            span = f"from {_clock(gap.start_ms)} to {_clock(gap.end_ms)}"
            return len(SEVERITY), f"{who}: {unit.subject.name} has a gap {span}: {gap.reason}"
    dropped = unit.dropped
    if dropped is not None and dropped.since_ms <= read.end_ms:
        return len(SEVERITY) + 1, f"{who}: {unit.subject.name}: {dropped.text}"
    return None


def _clock(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(milliseconds: int) -> int:
    return milliseconds // 1000 * 1000
