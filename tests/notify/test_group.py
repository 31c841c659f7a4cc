"""Grouping and its timers."""

from aggregator.model.alerts import Alert, label_set
from aggregator.notify.group import Groups, group_key
from aggregator.notify.settings import RouteSettings

SECOND, MINUTE = 1_000, 60_000
T0 = 1_700_000_000_000
ROUTE = RouteSettings(receiver="r", group_by=("alertname", "region"))


def _alert(cluster: str, region: str = "europe", start: int = T0, end: int = 0) -> Alert:
    labels = label_set({"alertname": "A", "cluster": cluster, "region": region})
    return Alert(labels, (), start, end)


def _keys(groups: Groups, now: int) -> list[str]:
    return [flush.key for flush in groups.due(now)]


def test_a_new_group_waits_and_then_comes_at_intervals() -> None:
    """The first look is after group_wait, the next ones each group_interval."""
    groups = Groups(ROUTE)
    groups.insert([_alert("eu-1")], T0)
    key = '{}:{alertname="A", region="europe"}'
    assert _keys(groups, T0 + 29 * SECOND) == []
    assert _keys(groups, T0 + 30 * SECOND) == [key]
    assert _keys(groups, T0 + 31 * SECOND) == []
    assert _keys(groups, T0 + 30 * SECOND + 5 * MINUTE) == [key]


def test_alerts_are_grouped_by_the_routes_labels() -> None:
    """Alerts that share the labels of group_by share a group, others do not."""
    groups = Groups(ROUTE)
    groups.insert([_alert("eu-1"), _alert("eu-2"), _alert("us-1", "us")], T0)
    sizes = {flush.labels[1][1]: len(flush.alerts) for flush in groups.due(T0 + MINUTE)}
    assert sizes == {"europe": 2, "us": 1}


def test_every_label_makes_a_group_of_its_own_if_asked() -> None:
    """`...` groups by all labels."""
    groups = Groups(ROUTE.model_copy(update={"group_by": ("...",)}))
    groups.insert([_alert("eu-1"), _alert("eu-2")], T0)
    assert len(groups.due(T0 + MINUTE)) == 2


def test_an_alert_that_fires_for_long_does_not_wait() -> None:
    """After a restart an old alert is looked at immediately."""
    groups = Groups(ROUTE)
    groups.insert([_alert("eu-1", start=T0 - 10 * MINUTE)], T0)
    assert len(groups.due(T0)) == 1


def test_an_end_waits_for_the_rest_of_its_group() -> None:
    """After a restart the end of one alert is not taken for the end of its group."""
    groups = Groups(ROUTE)
    groups.insert([_alert("eu-1", start=T0 - 10 * MINUTE, end=T0 - MINUTE)], T0)
    assert groups.due(T0) == []
    groups.insert([_alert("eu-2", start=T0 - 10 * MINUTE)], T0 + SECOND)
    [flush] = groups.due(T0 + SECOND)
    assert [alert.resolved for alert in flush.alerts] == [True, False]


def test_resolved_alerts_leave_once_they_are_settled() -> None:
    """A resolved alert stays until its group was dealt with, and an empty group goes."""
    groups = Groups(ROUTE)
    groups.insert([_alert("eu-1", end=T0 + 1), _alert("eu-2")], T0)
    [flush] = groups.due(T0 + MINUTE)
    groups.settle(flush)
    [flush] = groups.due(T0 + 10 * MINUTE)
    assert [dict(alert.labels)["cluster"] for alert in flush.alerts] == ["eu-2"]
    groups.insert([_alert("eu-2", end=T0 + 2)], T0 + 11 * MINUTE)
    [flush] = groups.due(T0 + 20 * MINUTE)
    groups.settle(flush)
    assert groups.due(T0 + 60 * MINUTE) == []


def test_an_alert_that_fires_again_meanwhile_is_kept() -> None:
    """What changed between the look and its end is not forgotten."""
    groups = Groups(ROUTE)
    groups.insert([_alert("eu-1", end=T0 + 1)], T0)
    [flush] = groups.due(T0 + MINUTE)
    groups.insert([_alert("eu-1", start=T0 + MINUTE)], T0 + MINUTE)
    groups.settle(flush)
    [flush] = groups.due(T0 + 10 * MINUTE)
    assert [alert.resolved for alert in flush.alerts] == [False]


def test_keys_quote_what_a_cluster_may_put_into_a_label() -> None:
    """A label value cannot forge another group's key."""
    assert group_key((("a", 'x", b="y'),)) == '{}:{a="x\\", b=\\"y"}'
