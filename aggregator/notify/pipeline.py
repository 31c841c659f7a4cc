"""The way of an alert to a pager: group → dedup → outbox → send, again until it arrives.

Alerts come from the rules again and again, so the groups live in memory. What receivers were told
and what waits to be sent is durable: a restart loses nothing and repeats nothing.
"""

import threading
from collections.abc import Callable, Sequence

import structlog

from aggregator import telemetry
from aggregator.errors import StoreError
from aggregator.model.alerts import Alert
from aggregator.notify.dedup import is_news, told
from aggregator.notify.group import Flush, Groups
from aggregator.notify.notification import Notification
from aggregator.notify.receivers.webhook import Webhook
from aggregator.notify.retry import Receiver, deliver
from aggregator.notify.settings import NotifySettings, ReceiverSettings
from aggregator.state.notifications import Notifications
from aggregator.supervise import Loop

_LOG = structlog.get_logger(__name__)
_POLL_SECONDS = 0.2
_BATCH = 100
_AGAIN_MS = 5_000
_FORGET_MS = 5 * 86_400_000


class Notifier:
    """Everything between the rules and the receivers. Any thread may submit."""

    def __init__(
        self,
        settings: NotifySettings,
        notifications: Notifications,
        *,
        external_url: str,
        now_ms: Callable[[], int],
    ) -> None:
        """Build the pipeline; `start` makes it run. Raises `ConfigError` for a bad CA file."""
        self._route, self._settings = settings.route, settings
        self._outbox, self._external_url, self._now_ms = notifications, external_url, now_ms
        self._groups = Groups(settings.route)
        self._lock = threading.Lock()
        self._receivers = {each.name: receiver(each) for each in settings.receivers}
        self._send_ms: int | None = 0  # when the outbox is to be looked at; None: not before news
        self._loops = (Loop("notify groups", self._flush), Loop("notify send", self._send))

    def submit(self, alerts: Sequence[Alert]) -> None:
        """Take alerts as they stand now: those that fire, and those that have ended of late."""
        with self._lock:
            self._groups.insert(alerts, self._now_ms())

    def start(self) -> None:
        """Start sending; what waited in the outbox goes first."""
        for loop in self._loops:
            loop.start()

    def stop(self) -> bool:
        """Stop; return whether every thread ended in time. What is not sent stays in the outbox."""
        stopped = [loop.stop() for loop in self._loops]
        for each in self._receivers.values():
            each.close()
        return all(stopped)

    def _flush(self, stopping: threading.Event) -> None:
        now_ms = self._now_ms()
        with self._lock:
            flushes = self._groups.due(now_ms)
        for flush in flushes:
            try:
                self._decide(flush, now_ms)
            except StoreError as error:  # the other groups' news does not wait for this one's
                _LOG.error("a group's news is not durable yet", group=flush.key, error=str(error))
                with self._lock:
                    self._groups.postpone(flush, now_ms + _AGAIN_MS)
                continue
            with self._lock:
                self._groups.settle(flush)
        if flushes:
            self._outbox.forget(now_ms - self._route.repeat_interval - _FORGET_MS)
        stopping.wait(_POLL_SECONDS)

    def _decide(self, flush: Flush, now_ms: int) -> None:
        """Put *flush* into the outbox, if its receiver needs to hear of it."""
        name, send_resolved = self._route.receiver, self._settings.receiver.webhook.send_resolved
        before, after = self._outbox.notified(name, flush.key), told(flush, now_ms)
        if not is_news(before, after, self._route.repeat_interval, send_resolved):
            return
        alerts = tuple(each for each in flush.alerts if send_resolved or not each.resolved)
        notification = Notification(name, flush.key, flush.labels, alerts, self._external_url)
        dropped = self._outbox.enqueue(name, flush.key, after, notification.encode())
        if dropped:
            telemetry.NOTIFICATIONS.labels(name, "dropped").inc(dropped)
        self._send_ms = now_ms

    def _send(self, stopping: threading.Event) -> None:
        now_ms = self._now_ms()
        if self._send_ms is None or self._send_ms > now_ms:
            stopping.wait(_POLL_SECONDS)
            return
        self._send_ms = None  # before looking: what comes meanwhile sets it again
        for outgoing in self._outbox.waiting(now_ms, _BATCH):
            if stopping.is_set():
                return
            deliver(self._receivers, self._outbox, outgoing, self._now_ms())
        next_ms = self._outbox.next_ms()
        if next_ms is not None and self._send_ms is None:
            self._send_ms = next_ms


def receiver(settings: ReceiverSettings) -> Receiver:
    """Build the receiver that *settings* describe."""
    return Webhook(settings.name, settings.webhook)
