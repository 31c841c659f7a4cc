"""Sends what waits in the outbox, and decides what a failure means."""

from collections.abc import Mapping
from typing import Protocol

import msgspec
import structlog

from aggregator import telemetry
from aggregator.errors import NotifyError
from aggregator.notify.notification import Notification
from aggregator.state.notifications import Notifications, Outgoing

_LOG = structlog.get_logger(__name__)
_LONGEST_PAUSE_MS = 300_000
_GIVE_UP_MS = 24 * 3_600_000


class Receiver(Protocol):
    """Where notifications go."""

    name: str

    def notify(self, notification: Notification) -> None:
        """Send once. Raises `NotifyError`, which says whether to try again."""
        ...

    def close(self) -> None:
        """Release connections."""
        ...


def pause_ms(attempts: int) -> int:
    """Return how long to wait after so many failed attempts: 1 s, doubled up to 5 minutes."""
    return min(1_000 << min(attempts - 1, 20), _LONGEST_PAUSE_MS)


def deliver(
    receivers: Mapping[str, Receiver], outbox: Notifications, outgoing: Outgoing, now_ms: int
) -> None:
    """Send one notification and settle it in the outbox: gone, or postponed.

    Raises `StoreError` if the outbox cannot be changed; the notification then goes twice.
    """
    result = _attempt(receivers.get(outgoing.receiver), outgoing, now_ms)
    telemetry.NOTIFICATIONS.labels(outgoing.receiver, result).inc()
    if result == "retried":
        outbox.postpone(outgoing, now_ms + pause_ms(outgoing.attempts + 1))
    else:
        outbox.sent(outgoing)


def _attempt(receiver: Receiver | None, outgoing: Outgoing, now_ms: int) -> str:
    """Return what became of one attempt, as the metric's label."""
    log = _LOG.bind(receiver=outgoing.receiver, group=outgoing.group_key)
    if receiver is None:
        log.warning("notification dropped: its receiver is not configured any more")
        return "dropped"
    try:
        notification = Notification.decode(outgoing.body)
    except msgspec.DecodeError as error:
        log.warning("notification dropped: another version wrote it", error=str(error))
        return "dropped"
    try:
        receiver.notify(notification)
    except NotifyError as error:
        if not error.retryable:
            log.warning("notification refused; it is not tried again", error=str(error))
            return "rejected"
        if now_ms - outgoing.created_ms >= _GIVE_UP_MS:
            log.warning("notification given up after a day", error=str(error))
            return "expired"
        log.warning("notification failed; it will be tried again", error=str(error))
        return "retried"
    return "sent"
