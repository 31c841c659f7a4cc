"""When a group may be evaluated, and whose data is missing when it is.

A group waits for the data of its instant T, but not longer than an interval after T and the
largest lag. What has not arrived by then is missing: its alerts are held.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from aggregator.fleet.freshness import Freshness, Read, State, Unit
from aggregator.fleet.registry import Cluster, Registry
from aggregator.model.alerts import LabelSet

_NAMED = 5


@dataclass(frozen=True, slots=True)
class Absence:
    """A cluster that lacks data a rule reads: its newest data in ms UTC, 0 if there never was."""

    cluster: str
    region: str
    data_until_ms: int


@dataclass(frozen=True, slots=True)
class Instant:
    """The instant a rule is evaluated for, and the clusters whose data it lacks, by name."""

    time_ms: int
    registry: Registry
    missing: Mapping[str, Absence]

    def missing_for(self, labels: LabelSet) -> list[Absence]:
        """Return whose data an alert with *labels* lacks, as far as its labels tell."""
        named = dict(labels)
        cluster, region = named.get("cluster"), named.get("region")
        if cluster is not None:
            return [self.missing[cluster]] if cluster in self.missing else []
        return [each for each in self.missing.values() if region in (None, each.region)]

    def held_for(self, labels: LabelSet, hold_ms: int) -> str:
        """Return why an alert that the result lacks is held, empty if it is not.

        An alert of one cluster is held as long as the cluster's data is missing, one over several
        clusters until data has been missing for *hold_ms*.
        """
        missing = self.missing_for(labels)
        if all(name != "cluster" for name, _ in labels):
            missing = [each for each in missing if self.time_ms - each.data_until_ms <= hold_ms]
        return f"no data from {names(missing)}" if missing else ""

    def ended_for(self, labels: LabelSet) -> str:
        """Return what ends the alerts of a cluster that has no say any more, else nothing."""
        name = dict(labels).get("cluster")
        if name is None:
            return ""
        cluster = self.registry.get(name)
        if cluster is None:
            return f"cluster {name} is not registered"
        maintained = cluster.in_maintenance(self.time_ms)
        return f"cluster {name} is in maintenance" if maintained else ""


class Progress:
    """The freshness of the fleet as one rule group sees it. One thread uses it."""

    def __init__(self, freshness: Freshness) -> None:
        self._freshness = freshness
        self._slowest: Cluster | None = None

    def due(self, time_ms: int, interval_ms: int, now_ms: int) -> bool:
        """Tell whether a group with *interval_ms* is to be evaluated for *time_ms* at *now_ms*."""
        if now_ms < time_ms:
            return False
        registry = self._freshness.registry
        lag_ms = max(map(self._freshness.lag_ms, registry), default=0)
        if now_ms >= time_ms + interval_ms + lag_ms:
            return True
        if self._slowest is not None and self._waits(self._slowest, time_ms, now_ms):
            return False
        self._slowest = next(
            (cluster for cluster in registry if self._waits(cluster, time_ms, now_ms)), None
        )
        return self._slowest is None

    def missing(self, time_ms: int, now_ms: int) -> tuple[str, ...]:
        """Return the clusters that lack any data they are expected to have for *time_ms*."""
        return tuple(
            cluster.name
            for cluster in self._freshness.registry
            if any(unit.state.expected for unit in self._behind(cluster, time_ms, now_ms))
        )

    def instant(self, time_ms: int, reads: Sequence[Read], now_ms: int) -> Instant:
        """Return the instant *time_ms* of a rule that read *reads*."""
        absences: dict[str, Absence] = {}
        for read in reads:
            until_ms = min(time_ms, read.end_ms)
            for unit in self._freshness.missing_at(read.matchers, until_ms, now_ms):
                name, data_until_ms = unit.cluster.name, unit.data_until_ms or 0
                if name not in absences or data_until_ms < absences[name].data_until_ms:
                    absences[name] = Absence(name, unit.cluster.region, data_until_ms)
        return Instant(time_ms, self._freshness.registry, absences)

    def complete(self, time_ms: int) -> Instant:
        """Return the instant *time_ms*, nothing being missing."""
        return Instant(time_ms, self._freshness.registry, {})

    def _waits(self, cluster: Cluster, time_ms: int, now_ms: int) -> bool:
        return any(unit.state is State.OK for unit in self._behind(cluster, time_ms, now_ms))

    def _behind(self, cluster: Cluster, time_ms: int, now_ms: int) -> Iterator[Unit]:
        """Yield the units of *cluster* without data for *time_ms* on their own grid."""
        for unit in self._freshness.units(cluster, now_ms):
            if (unit.data_until_ms or 0) < unit.subject.needed_ms(time_ms):
                yield unit


def names(absences: Sequence[Absence]) -> str:
    """Return the clusters' names as text, at most five of them."""
    ordered = sorted(each.cluster for each in absences)
    rest = f" and {len(ordered) - _NAMED} more" if len(ordered) > _NAMED else ""
    return ", ".join(ordered[:_NAMED]) + rest
