"""Groups alerts and times when each group is looked at: Alertmanager's aggregation groups."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from aggregator.model.alerts import Alert, LabelSet
from aggregator.notify.settings import RouteSettings

_EVERY_LABEL = "..."


@dataclass(frozen=True, slots=True)
class Flush:
    """A group whose time has come: its alerts, firing and resolved, ordered by labels."""

    key: str
    labels: LabelSet
    alerts: tuple[Alert, ...]


@dataclass(slots=True)
class _Group:
    labels: LabelSet
    flush_ms: int
    flushed: bool = False
    alerts: dict[LabelSet, Alert] = field(default_factory=dict)


class Groups:
    """The groups of one route. Not thread-safe."""

    def __init__(self, route: RouteSettings) -> None:
        self._route = route
        self._groups: dict[str, _Group] = {}

    def insert(self, alerts: Iterable[Alert], now_ms: int) -> None:
        """Put each alert into its group, in the place of what was known of it.

        A new group waits `group_wait`, unless its alert has been firing for longer than that. An
        end does not hurry: after a restart the rest of its group may still have to arrive.
        """
        for alert in alerts:
            labels = self._labels(alert)
            key = group_key(labels)
            group = self._groups.get(key)
            if group is None:
                group = self._groups[key] = _Group(labels, now_ms + self._route.group_wait)
            waited = alert.starts_at_ms + self._route.group_wait <= now_ms
            if waited and not alert.resolved and not group.flushed:
                group.flush_ms = now_ms
            group.alerts[alert.labels] = alert

    def due(self, now_ms: int) -> list[Flush]:
        """Return the groups to look at now; each is due again `group_interval` later."""
        flushes = []
        for key, group in self._groups.items():
            if group.flush_ms <= now_ms:
                group.flush_ms = now_ms + self._route.group_interval
                group.flushed = True
                alerts = tuple(alert for _, alert in sorted(group.alerts.items()))
                flushes.append(Flush(key, group.labels, alerts))
        return flushes

    def postpone(self, flush: Flush, time_ms: int) -> None:
        """Look at the group of *flush* again at *time_ms*."""
        self._groups[flush.key].flush_ms = time_ms

    def settle(self, flush: Flush) -> None:
        """Forget the alerts that were resolved in *flush* and have not changed since."""
        group = self._groups[flush.key]
        for alert in flush.alerts:
            if alert.resolved and group.alerts.get(alert.labels) == alert:
                del group.alerts[alert.labels]
        if not group.alerts:
            del self._groups[flush.key]

    def _labels(self, alert: Alert) -> LabelSet:
        by = self._route.group_by
        if _EVERY_LABEL in by:
            return alert.labels
        return tuple(pair for pair in alert.labels if pair[0] in by)


def group_key(labels: LabelSet) -> str:
    """Return what identifies the group *labels* of the only route, as Alertmanager writes it."""
    return "{}:{" + ", ".join(f'{name}="{_quoted(value)}"' for name, value in labels) + "}"


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
