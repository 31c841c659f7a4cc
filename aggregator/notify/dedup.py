"""Decides whether a receiver needs to hear of a group again."""

from aggregator.notify.group import Flush
from aggregator.state.notifications import Notified


def told(flush: Flush, now_ms: int) -> Notified:
    """Return what a receiver knows once it has been told of *flush*."""
    return Notified(
        now_ms,
        frozenset(alert.fingerprint for alert in flush.alerts if not alert.resolved),
        frozenset(alert.fingerprint for alert in flush.alerts if alert.resolved),
    )


def is_news(before: Notified | None, after: Notified, repeat_ms: int, send_resolved: bool) -> bool:
    """Tell whether *after* is worth a notification when *before* was the last one.

    It is if an alert fires that did not, if all or (where they are sent) more alerts have ended,
    or if some have been firing for *repeat_ms* since.
    """
    if before is None or not after.firing <= before.firing:
        return bool(after.firing)
    if not after.firing:
        return bool(before.firing) and send_resolved
    if send_resolved and not after.resolved <= before.resolved:
        return True
    return after.time_ms - before.time_ms >= repeat_ms
