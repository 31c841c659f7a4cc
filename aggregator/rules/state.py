"""How one alert of a rule moves: inactive → pending → firing → resolved.

Everything here is a pure function of the alert's last state and of what one evaluation saw. An
inactive alert has no state at all. Missing data never moves an alert: it is *held*.
"""

from dataclasses import dataclass, replace

from aggregator.model.alerts import ActiveAlert, AlertState, LabelSet

RESOLVED_RETENTION_MS = 15 * 60_000


@dataclass(frozen=True, slots=True)
class Observation:
    """What one evaluation found for one label set: its value and the annotations for it."""

    value: float
    annotations: LabelSet


@dataclass(frozen=True, slots=True)
class Timing:
    """The durations of an alerting rule."""

    for_ms: int = 0
    keep_firing_for_ms: int = 0


def seen(
    labels: LabelSet,
    previous: ActiveAlert | None,
    observation: Observation,
    time_ms: int,
    timing: Timing,
) -> ActiveAlert:
    """Return the alert after an evaluation at *time_ms* whose result contained it."""
    value, annotations = observation.value, observation.annotations
    if previous is None or previous.state is AlertState.RESOLVED:
        alert = ActiveAlert(labels, AlertState.PENDING, value, annotations, time_ms)
    else:
        alert = replace(
            previous,
            value=value,
            annotations=annotations,
            keep_firing_since_ms=0,
            held_since_ms=0,
            reason="",
        )
    if alert.state is AlertState.PENDING and time_ms - alert.active_at_ms >= timing.for_ms:
        return replace(alert, state=AlertState.FIRING, fired_at_ms=time_ms)
    return alert


def unseen(
    previous: ActiveAlert, time_ms: int, timing: Timing, reason: str = ""
) -> ActiveAlert | None:
    """Return the alert after a complete evaluation at *time_ms* without it; None: forget it.

    *reason* says why it ends, if something else than its data ends it.
    """
    match previous.state:
        case AlertState.PENDING:
            return None
        case AlertState.RESOLVED:
            kept = time_ms - previous.resolved_at_ms <= RESOLVED_RETENTION_MS
            return previous if kept else None
        case AlertState.FIRING:
            since = previous.keep_firing_since_ms or time_ms
            if not reason and time_ms - since < timing.keep_firing_for_ms:
                return replace(previous, keep_firing_since_ms=since, held_since_ms=0, reason="")
            return replace(
                previous,
                state=AlertState.RESOLVED,
                resolved_at_ms=time_ms,
                keep_firing_since_ms=0,
                held_since_ms=0,
                reason=reason,
            )


def held(previous: ActiveAlert, time_ms: int, reason: str) -> ActiveAlert | None:
    """Return the alert after an evaluation at *time_ms* that could not see its data."""
    if previous.state is AlertState.RESOLVED:
        return unseen(previous, time_ms, Timing())
    return replace(previous, held_since_ms=previous.held_since_ms or time_ms, reason=reason)
