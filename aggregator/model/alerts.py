"""Alerts as rules hand them to notification.

A label set is a tuple of (name, value) pairs sorted by name, so that it can be a key. An alert is
identified by its labels alone, as in Alertmanager.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

LabelSet: TypeAlias = tuple[tuple[str, str], ...]

ALERT_NAME = "alertname"
_FNV_OFFSET = 0xCBF29CE484222325
_FNV_PRIME = 0x100000001B3
_SEPARATOR = b"\xff"


def label_set(labels: Mapping[str, str] | Iterable[tuple[str, str]]) -> LabelSet:
    """Return *labels* sorted by name, without the empty ones (an empty label is an absent one)."""
    pairs = labels.items() if isinstance(labels, Mapping) else labels
    return tuple(sorted((name, value) for name, value in pairs if value))


def fingerprint(labels: LabelSet) -> str:
    """Return the 16 hex digits Alertmanager identifies an alert with these labels by (FNV-1a)."""
    digest = _FNV_OFFSET
    for name, value in labels:
        for byte in name.encode() + _SEPARATOR + value.encode() + _SEPARATOR:
            digest = ((digest ^ byte) * _FNV_PRIME) & 0xFFFFFFFFFFFFFFFF
    return f"{digest:016x}"


class AlertState(Enum):
    """Where an alert of a rule stands; the values are Prometheus's words."""

    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "inactive"


@dataclass(frozen=True, slots=True)
class ActiveAlert:
    """One alert of a rule; times are evaluation instants in ms UTC, 0 where it has not happened.

    `held_since_ms` is the first of the instants since which its data has been missing, and
    `reason` says why it is held, or what ended it if its data did not.
    """

    labels: LabelSet
    state: AlertState
    value: float
    annotations: LabelSet
    active_at_ms: int
    fired_at_ms: int = 0
    keep_firing_since_ms: int = 0
    resolved_at_ms: int = 0
    held_since_ms: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert that fires, or has stopped firing.

    `labels` contain `alertname`; times are ms UTC; `ends_at_ms` is 0 while it fires. `held` tells
    that it fires on because its data is missing.
    """

    labels: LabelSet
    annotations: LabelSet
    starts_at_ms: int
    ends_at_ms: int = 0
    held: bool = False
    generator_url: str = ""

    @property
    def resolved(self) -> bool:
        """Whether the alert has stopped firing."""
        return self.ends_at_ms > 0

    @property
    def fingerprint(self) -> str:
        """The alert's identity, which Alertmanager would give it too."""
        return fingerprint(self.labels)
