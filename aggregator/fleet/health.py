"""How collection of each cluster goes right now; the collector writes it, views read it."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Dropped:
    """Series of one subject that the cluster's budget leaves out of the last answer.

    They are above the `limit`, or `new` ones of more than so many in an hour. `metric` has most of
    them, and `label` tells most of those apart, by at least `values` values.
    """

    series: int
    limit: int
    new: bool
    metric: str = ""
    label: str = ""
    values: int = 0
    since_ms: int = 0

    @property
    def text(self) -> str:
        """What is left out, who is to blame and what to do."""
        what = (
            f"{self.series} new series are not stored, of more than {self.limit} in an hour"
            if self.new
            else f"{self.series} series above the limit of {self.limit} are not stored"
        )
        blame = f"; most are {self.metric}" if self.metric else ""
        if self.label:
            blame += f", told apart by {self.label} ({self.values} values or more)"
        return f"{what}{blame}; raise limits.series or ask less"


@dataclass(frozen=True, slots=True)
class Served:
    """What came of one fleet metric since this process started.

    `empty_cycles` counts the complete answers in a row that had nothing of it, and `present` tells
    that the cluster had what the metric is made of when that was looked at last.
    """

    data_until_ms: int | None = None
    empty_cycles: int = 0
    present: bool = False


@dataclass(frozen=True, slots=True)
class Health:
    """The collection of one cluster since this process started.

    `failures` counts the cycles that failed in a row, and `open_until_ms` is set while the circuit
    breaker keeps us from asking. `error` says what is wrong and what to do, `kind` names it.
    `names` has the metric names seen for each raw subject, `served` what came of fleet metrics,
    `dropped` by subject what the budget leaves out.
    `place` is what is odd about where its nodes are.
    `clock_offset_ms` is by how much the cluster's clock is ahead of ours, to the second. `dialect`
    is what its server turned out to be, which shows samples `lag_ms` after their time.
    """

    tried_ms: int | None = None
    duration_seconds: float | None = None
    clock_offset_ms: int | None = None
    dialect: str = ""
    lag_ms: int = 0
    answered_ms: int | None = None
    failures: int = 0
    open_until_ms: int | None = None
    error: str = ""
    kind: str = ""
    place: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)
    series: Mapping[str, int] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)
    quarantined: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, frozenset[str]] = field(default_factory=dict)
    served: Mapping[str, Served] = field(default_factory=dict)
    dropped: Mapping[str, Dropped] = field(default_factory=dict)

    @property
    def succeeded(self) -> bool:
        """Whether the last cycle was answered, if only in part."""
        return self.tried_ms is not None and self.failures == 0 and self.kind in ("", "partial")


def joined(metrics: Health, logs: Health) -> Health:
    """Return the health of a cluster's Prometheus with what its Loki serves and lacks."""
    rejected = Counter(metrics.rejected)
    rejected.update(logs.rejected)
    return replace(
        metrics,
        error=metrics.error or (f"Loki: {logs.error}" if logs.error else ""),
        notes={**metrics.notes, **logs.notes},
        series={**metrics.series, **logs.series},
        rejected=dict(rejected),
        quarantined={**metrics.quarantined, **logs.quarantined},
        served={**metrics.served, **logs.served},
        dropped={**metrics.dropped, **logs.dropped},
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one cycle ended: `error` and `kind` are empty if every request was answered."""

    time_ms: int
    answered: bool
    error: str = ""
    kind: str = ""
    duration_seconds: float | None = None
    clock_offset_ms: int | None = None


_UNKNOWN = Health()


class HealthBoard:
    """The health of all clusters. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._health: dict[str, Health] = {}
        self._watching: list[Callable[[str], None]] = []

    def watch(self, changed: Callable[[str], None]) -> None:
        """Have *changed* called with a cluster's name after each change, by whoever makes it."""
        self._watching.append(changed)

    def get(self, cluster: str) -> Health:
        """Return a cluster's health; that of a cluster never tried if it is unknown."""
        with self._lock:
            return self._health.get(cluster, _UNKNOWN)

    def ended(self, cluster: str, outcome: Outcome, open_until_ms: int | None) -> None:
        """Note how a cycle ended, and until when the breaker is open because of it."""
        self._change(
            cluster,
            lambda health: replace(
                health,
                tried_ms=outcome.time_ms,
                duration_seconds=outcome.duration_seconds,
                clock_offset_ms=outcome.clock_offset_ms,
                answered_ms=outcome.time_ms if outcome.answered else health.answered_ms,
                failures=0 if outcome.answered else health.failures + 1,
                open_until_ms=open_until_ms,
                error=outcome.error,
                kind=outcome.kind,
            ),
        )

    def note(self, cluster: str, subject: str, text: str) -> None:
        """Keep a remark about a subject, such as a partial answer; an empty one clears it."""
        if self.get(cluster).notes.get(subject, "") != text:
            self._change(
                cluster, lambda health: replace(health, notes=_with(health.notes, subject, text))
            )

    def count_series(self, cluster: str, kind: str, count: int) -> None:
        """Note how many series the last complete answers of a kind (recorded, raw) had."""
        self._change(cluster, lambda health: replace(health, series={**health.series, kind: count}))

    def reject(self, cluster: str, reason: str, count: int) -> None:
        """Count samples or series that were not stored."""

        def added(health: Health) -> Health:
            total = health.rejected.get(reason, 0) + count
            return replace(health, rejected={**health.rejected, reason: total})

        self._change(cluster, added)

    def quarantine(self, cluster: str, metric: str, reason: str) -> None:
        """Note why a metric is not asked for at present; an empty reason clears it."""
        self._change(
            cluster,
            lambda health: replace(health, quarantined=_with(health.quarantined, metric, reason)),
        )

    def saw_names(self, cluster: str, subject: str, names: frozenset[str]) -> None:
        """Note which metric names a raw subject brings."""
        self._change(
            cluster, lambda health: replace(health, names={**health.names, subject: names})
        )

    def serve(self, cluster: str, served: Mapping[str, Served]) -> None:
        """Note what came of some fleet metrics."""
        self._change(cluster, lambda health: replace(health, served={**health.served, **served}))

    def drop(self, cluster: str, subject: str, dropped: Dropped | None, now_ms: int) -> None:
        """Note what the budget leaves out of a subject at present, None if nothing."""

        def changed(health: Health) -> Health:
            rest = {name: one for name, one in health.dropped.items() if name != subject}
            if dropped is not None:
                before = health.dropped.get(subject)
                since_ms = now_ms if before is None else before.since_ms
                rest[subject] = replace(dropped, since_ms=since_ms)
            return replace(health, dropped=rest)

        if dropped is not None or subject in self.get(cluster).dropped:
            self._change(cluster, changed)

    def speaks(self, cluster: str, dialect: str, lag_ms: int) -> None:
        """Note what the cluster's server is, and how late it shows samples."""
        if self.get(cluster).dialect != dialect:
            self._change(cluster, lambda health: replace(health, dialect=dialect, lag_ms=lag_ms))

    def place(self, cluster: str, text: str) -> bool:
        """Note what is odd about where a cluster's nodes are; return whether that is new."""
        if self.get(cluster).place == text:
            return False
        self._change(cluster, lambda health: replace(health, place=text))
        return True

    def forget(self, cluster: str) -> None:
        """Drop a cluster that left the registry."""
        with self._lock:
            self._health.pop(cluster, None)
        self._tell(cluster)

    def _change(self, cluster: str, change: Callable[[Health], Health]) -> None:
        with self._lock:
            self._health[cluster] = change(self._health.get(cluster, _UNKNOWN))
        self._tell(cluster)

    def _tell(self, cluster: str) -> None:
        for changed in self._watching:
            changed(cluster)


def _with(texts: Mapping[str, str], key: str, text: str) -> dict[str, str]:
    rest = {name: kept for name, kept in texts.items() if name != key}
    return {**rest, key: text} if text else rest
