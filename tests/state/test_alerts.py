"""Alert state and the outbox survive a restart as they were."""

import math
from pathlib import Path

import pytest

from aggregator.model.alerts import ActiveAlert, AlertState, label_set
from aggregator.state.alerts import AlertStates
from aggregator.state.database import open_database
from aggregator.state.notifications import Notifications, Notified

LABELS = label_set({"alertname": "A", "cluster": 'eu "1"\n', "ünïcode": "✓"})
ALERT = ActiveAlert(
    LABELS, AlertState.FIRING, -0.1, (("summary", "x"),), 1, 2, 3, 4, 5, "no data from eu-1"
)


@pytest.mark.parametrize("value", [0.1, -1e300, math.inf, -math.inf, math.nan])
def test_an_alert_reads_back_as_it_was(tmp_path: Path, value: float) -> None:
    """Every field survives, whatever the value; another rule's alerts stay apart."""
    alert = ActiveAlert(LABELS, AlertState.PENDING, value, (), 1)
    database = open_database(tmp_path / "state.db")
    AlertStates(database).save("f:g:A", [alert, ALERT], [])
    AlertStates(database).save("f:g:B", [ALERT], [])
    database.close()
    database = open_database(tmp_path / "state.db")
    [kept] = AlertStates(database).load("f:g:A")  # the same labels are the same alert
    assert kept == ALERT
    AlertStates(database).save("f:g:A", [alert], [])
    [kept] = AlertStates(database).load("f:g:A")
    assert repr(kept) == repr(alert)
    AlertStates(database).save("f:g:A", [], [alert])
    assert AlertStates(database).load("f:g:A") == []
    assert AlertStates(database).load("f:g:B") == [ALERT]
    database.close()


def test_rules_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    """Their firing alerts are returned once, so that somebody hears of their end."""
    database = open_database(tmp_path / "state.db")
    states = AlertStates(database)
    states.save("f:g:A", [ALERT], [])
    states.save("f:g:B", [ALERT], [])
    states.save("f:g:C", [ActiveAlert(LABELS, AlertState.PENDING, 1.0, (), 1)], [])
    assert states.keep_only(["f:g:A"]) == [ALERT]
    assert states.keep_only(["f:g:A"]) == []
    assert states.load("f:g:A") == [ALERT]
    database.close()


def test_the_outbox_is_in_order_for_each_group(tmp_path: Path) -> None:
    """Only the oldest of a group may go, when its time has come."""
    database = open_database(tmp_path / "state.db")
    outbox = Notifications(database)
    before = Notified(10, frozenset("a"), frozenset("b"))
    for group, body in (("g", b"1"), ("h", b"2"), ("g", b"3")):
        outbox.enqueue("r", group, before, body)
    assert outbox.notified("r", "g") == before
    assert outbox.notified("r", "x") is None
    first, second = outbox.waiting(10, 100)
    assert (first.body, second.body) == (b"1", b"2")
    assert outbox.waiting(9, 100) == []
    outbox.postpone(first, 50)
    outbox.sent(second)
    assert outbox.waiting(49, 100) == []
    assert outbox.next_ms() == 50
    [again] = outbox.waiting(50, 100)
    assert (again.attempts, again.body) == (1, b"1")
    outbox.sent(again)
    assert [each.body for each in outbox.waiting(50, 100)] == [b"3"]
    outbox.sent(outbox.waiting(50, 100)[0])
    assert (outbox.count(), outbox.next_ms()) == (0, None)
    outbox.forget(11)
    assert outbox.notified("r", "g") is None
    database.close()
