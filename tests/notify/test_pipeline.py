"""From submitted alerts to what a receiver gets, over failures and restarts."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aggregator.model.alerts import Alert, label_set
from aggregator.notify.notification import Notification
from aggregator.notify.pipeline import Notifier
from aggregator.notify.retry import pause_ms
from aggregator.notify.settings import NotifySettings
from aggregator.state.database import Database, open_database
from aggregator.state.notifications import Notifications, Notified
from tests.servers import Request, Response, scripted, wait_until

T0 = 1_700_000_000_000
MINUTE = 60_000
SOON = 10.0


class Pager:
    """What the scripted receiver answers, and what it got."""

    def __init__(self) -> None:
        self.status = 200
        self.bodies: list[dict] = []

    def answer(self, request: Request) -> Response:
        """Answer with the present status, and keep what was taken."""
        if self.status == 200:
            self.bodies.append(json.loads(request.body))
        return Response(self.status)

    @property
    def told(self) -> list[tuple[str, list[str]]]:
        """Each notification's status and its alerts' clusters with their states."""
        return [
            (body["status"], [f"{a['labels']['cluster']} {a['status']}" for a in body["alerts"]])
            for body in self.bodies
        ]


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> int:
        """Return the time in ms."""
        return self.now


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Open a state file."""
    opened = open_database(tmp_path / "state.sqlite")
    yield opened
    opened.close()


@contextmanager
def _running(url: str, database: Database, clock: Clock, **webhook: object) -> Iterator[Notifier]:
    settings = NotifySettings.model_validate(
        {
            "route": {"receiver": "r", "group_by": ["alertname"]},
            "receivers": [{"name": "r", "webhook": {"url": url, **webhook}}],
        }
    )
    notifier = Notifier(settings, Notifications(database), external_url="http://us", now_ms=clock)
    notifier.start()
    try:
        yield notifier
    finally:
        assert notifier.stop()


def _alert(cluster: str, start: int = T0, end: int = 0) -> Alert:
    return Alert(label_set({"alertname": "A", "cluster": cluster}), (), start, end)


def test_firing_then_resolved(database: Database) -> None:
    """A group is told of its alerts, told again when one ends, and not in between."""
    pager, clock = Pager(), Clock()
    with scripted(pager.answer) as server, _running(server.url, database, clock) as notifier:
        notifier.submit([_alert("eu-1"), _alert("eu-2")])
        clock.now = T0 + MINUTE
        wait_until(lambda: len(pager.bodies) == 1, SOON, "the first notification")
        notifier.submit([_alert("eu-1"), _alert("eu-2", end=T0 + 2 * MINUTE)])
        clock.now = T0 + 7 * MINUTE
        wait_until(lambda: len(pager.bodies) == 2, SOON, "the second notification")
        notifier.submit([_alert("eu-1", end=T0 + 8 * MINUTE)])
        clock.now = T0 + 13 * MINUTE
        wait_until(lambda: len(pager.bodies) == 3, SOON, "the third notification")
    assert pager.told == [
        ("firing", ["eu-1 firing", "eu-2 firing"]),
        ("firing", ["eu-1 firing", "eu-2 resolved"]),
        ("resolved", ["eu-1 resolved"]),
    ]


def test_a_full_disk_delays_no_page_for_long(database: Database) -> None:
    """News that cannot be made durable is tried again within seconds, not a group interval."""
    pager, clock = Pager(), Clock()
    with scripted(pager.answer) as server, _running(server.url, database, clock) as notifier:
        _execute(database, "ALTER TABLE notification_groups RENAME TO hidden")
        notifier.submit([_alert("eu-1", start=T0 - MINUTE)])
        wait_until(
            lambda: notifier._groups._groups['{}:{alertname="A"}'].flush_ms > T0, SOON, "a try"
        )
        _execute(database, "ALTER TABLE hidden RENAME TO notification_groups")
        clock.now += 10_000
        wait_until(lambda: pager.bodies, SOON, "the notification")
    assert pager.told == [("firing", ["eu-1 firing"])]


def _execute(database: Database, statement: str) -> None:
    with database.transaction() as connection:
        connection.exec_driver_sql(statement)


def test_a_receiver_that_is_down_gets_everything_later(database: Database) -> None:
    """Failures are retried with a growing pause, in order, and survive a restart."""
    pager, clock, outbox = Pager(), Clock(), Notifications(database)
    pager.status = 503
    with scripted(pager.answer) as server:
        with _running(server.url, database, clock) as notifier:
            notifier.submit([_alert("eu-1")])
            clock.now = T0 + MINUTE
            wait_until(lambda: outbox.count() == 1, SOON, "the first in the outbox")
            wait_until(lambda: outbox.next_ms() == clock.now + 1_000, SOON, "a pause")
            notifier.submit([_alert("eu-1"), _alert("eu-2")])
            clock.now = T0 + 7 * MINUTE
            wait_until(lambda: outbox.count() == 2, SOON, "the second in the outbox")
        pager.status = 200
        clock.now += 10 * MINUTE
        with _running(server.url, database, clock):
            wait_until(lambda: outbox.count() == 0, SOON, "an empty outbox")
    assert [alerts for _, alerts in pager.told] == [
        ["eu-1 firing"],
        ["eu-1 firing", "eu-2 firing"],
    ]


def test_a_restart_repeats_nothing_and_resolves(database: Database) -> None:
    """What was told before a restart is not told again, but its end is."""
    pager, clock = Pager(), Clock()
    with scripted(pager.answer) as server:
        with _running(server.url, database, clock) as notifier:
            notifier.submit([_alert("eu-1"), _alert("eu-2")])
            clock.now = T0 + MINUTE
            wait_until(lambda: len(pager.bodies) == 1, SOON, "the notification")
        with _running(server.url, database, clock) as notifier:
            notifier.submit([_alert("eu-1"), _alert("eu-2")])
            notifier.submit([_alert("eu-1"), _alert("eu-2", end=clock.now)])
            clock.now += 10 * MINUTE
            wait_until(lambda: len(pager.bodies) == 2, SOON, "the end")
    assert pager.told[1] == ("firing", ["eu-1 firing", "eu-2 resolved"])


def test_a_refused_notification_is_dropped(database: Database) -> None:
    """A receiver that says no is not asked again, and the outbox empties."""
    pager, clock, outbox = Pager(), Clock(), Notifications(database)
    pager.status = 400
    with scripted(pager.answer) as server, _running(server.url, database, clock) as notifier:
        notifier.submit([_alert("eu-1")])
        clock.now = T0 + MINUTE
        wait_until(lambda: server.requests and outbox.count() == 0, SOON, "the refusal")
        assert len(server.requests) == 1


def test_ends_are_left_out_if_asked(database: Database) -> None:
    """With `send_resolved: false` a receiver never hears of an end."""
    pager, clock = Pager(), Clock()
    with (
        scripted(pager.answer) as server,
        _running(server.url, database, clock, send_resolved=False) as notifier,
    ):
        notifier.submit([_alert("eu-1", end=T0 + 1), _alert("eu-2")])
        clock.now = T0 + MINUTE
        wait_until(lambda: len(pager.bodies) == 1, SOON, "the notification")
    assert pager.told == [("firing", ["eu-2 firing"])]


def test_the_outbox_is_bounded_and_keeps_the_newest(database: Database) -> None:
    """When too much waits for a receiver, the oldest goes."""
    outbox = Notifications(database)
    notified = Notified(T0, frozenset(), frozenset())
    with database.transaction() as connection:
        connection.exec_driver_sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) "
            "INSERT INTO notifications (receiver, group_key, body, created_ms, attempts, next_ms) "
            "SELECT 'r', 'g' || i, x'', 0, 0, 0 FROM n"
        )
    assert outbox.enqueue("r", "new", notified, b"x") == 1
    assert outbox.count() == 5_000


def test_a_body_of_another_version_is_dropped(database: Database) -> None:
    """What cannot be read any more does not block what comes after it."""
    outbox, clock, pager = Notifications(database), Clock(), Pager()
    notified = Notified(T0, frozenset(), frozenset())
    outbox.enqueue("r", "g", notified, b'{"other": 1}')
    body = Notification("r", "g", (), (_alert("eu-1"),)).encode()
    outbox.enqueue("r", "g", notified, body)
    outbox.enqueue("gone", "g", notified, body)
    with scripted(pager.answer) as server, _running(server.url, database, clock):
        wait_until(lambda: outbox.count() == 0, SOON, "an empty outbox")
    assert len(pager.bodies) == 1


def test_pauses_grow_to_five_minutes() -> None:
    """Each failure doubles the pause, up to five minutes."""
    assert [pause_ms(n) for n in (1, 2, 3, 10, 1_000)] == [1_000, 2_000, 4_000, 300_000, 300_000]
