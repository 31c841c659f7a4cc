"""Where the alerts of every rule stand, so that a restart loses no `for`, no alert and no hold."""

import json
from collections.abc import Iterable

from sqlalchemy import Row, bindparam, column, delete, select, table
from sqlalchemy.dialects.sqlite import insert

from aggregator.model.alerts import ActiveAlert, AlertState, LabelSet
from aggregator.state.database import Database

_TABLE = table(
    "alerts",
    column("rule"),
    column("labels"),
    column("state"),
    column("value"),
    column("annotations"),
    column("active_at_ms"),
    column("fired_at_ms"),
    column("keep_firing_since_ms"),
    column("resolved_at_ms"),
    column("held_since_ms"),
    column("reason"),
)
_INSERT = insert(_TABLE).values({each.name: bindparam(each.name) for each in _TABLE.c})
_UPSERT = _INSERT.on_conflict_do_update(
    index_elements=["rule", "labels"],
    set_={each.name: _INSERT.excluded[each.name] for each in list(_TABLE.c)[2:]},
)
_DELETE = delete(_TABLE).where(
    _TABLE.c.rule == bindparam("of_rule"), _TABLE.c.labels == bindparam("of_labels")
)


class AlertStates:
    """The alerts of all rules, by a key the rule keeps over restarts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self, rule: str) -> list[ActiveAlert]:
        """Return the alerts of *rule*."""
        with self._database.transaction() as connection:
            rows = connection.execute(select(_TABLE).where(_TABLE.c.rule == rule))
            return [_alert(row) for row in rows]

    def save(
        self, rule: str, changed: Iterable[ActiveAlert], forgotten: Iterable[ActiveAlert]
    ) -> None:
        """Make the new state of *changed* durable and forget others, in one transaction."""
        upserts = [_row(rule, alert) for alert in changed]
        deletes = [{"of_rule": rule, "of_labels": _encode(alert.labels)} for alert in forgotten]
        if not upserts and not deletes:
            return
        with self._database.transaction() as connection:
            if upserts:
                connection.execute(_UPSERT, upserts)
            if deletes:
                connection.execute(_DELETE, deletes)

    def keep_only(self, rules: Iterable[str]) -> list[ActiveAlert]:
        """Forget the alerts of all rules but *rules*; return those forgotten that fired."""
        others = _TABLE.c.rule.not_in(list(rules))
        with self._database.transaction() as connection:
            gone = [_alert(row) for row in connection.execute(select(_TABLE).where(others))]
            connection.execute(delete(_TABLE).where(others))
        return [alert for alert in gone if alert.state is AlertState.FIRING]


def _encode(labels: LabelSet) -> str:
    return json.dumps(labels, ensure_ascii=False, separators=(",", ":"))


def _decode(text: str) -> LabelSet:
    return tuple((name, value) for name, value in json.loads(text))


def _row(rule: str, alert: ActiveAlert) -> dict[str, str | int]:
    return {
        "rule": rule,
        "labels": _encode(alert.labels),
        "state": alert.state.value,
        "value": repr(alert.value),  # text: SQLite would turn NaN into NULL
        "annotations": _encode(alert.annotations),
        "active_at_ms": alert.active_at_ms,
        "fired_at_ms": alert.fired_at_ms,
        "keep_firing_since_ms": alert.keep_firing_since_ms,
        "resolved_at_ms": alert.resolved_at_ms,
        "held_since_ms": alert.held_since_ms,
        "reason": alert.reason,
    }


def _alert(row: "Row[tuple[object, ...]]") -> ActiveAlert:
    return ActiveAlert(
        _decode(row.labels),
        AlertState(row.state),
        float(row.value),
        _decode(row.annotations),
        row.active_at_ms,
        row.fired_at_ms,
        row.keep_firing_since_ms,
        row.resolved_at_ms,
        row.held_since_ms,
        row.reason,
    )
