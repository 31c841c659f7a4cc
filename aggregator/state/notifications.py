"""What each group was last told, and the notifications that are still to be sent.

Both change in one transaction, so that a crash neither loses a notification nor decides twice.
Bodies hold alerts, never a receiver's address.
"""

import json
from dataclasses import dataclass

from sqlalchemy import Row, bindparam, column, delete, func, insert, select, table, update
from sqlalchemy.dialects.sqlite import insert as upsert

from aggregator.state.database import Database

_GROUPS = table(
    "notification_groups",
    column("receiver"),
    column("group_key"),
    column("notified_ms"),
    column("firing"),
    column("resolved"),
)
_OUTBOX = table(
    "notifications",
    column("id"),
    column("receiver"),
    column("group_key"),
    column("body"),
    column("created_ms"),
    column("attempts"),
    column("next_ms"),
)
_INSERT = upsert(_GROUPS).values({each.name: bindparam(each.name) for each in _GROUPS.c})
_UPSERT = _INSERT.on_conflict_do_update(
    index_elements=["receiver", "group_key"],
    set_={each.name: _INSERT.excluded[each.name] for each in list(_GROUPS.c)[2:]},
)
_OLDEST = select(func.min(_OUTBOX.c.id)).group_by(_OUTBOX.c.receiver, _OUTBOX.c.group_key)
# A receiver that is away for long misses its oldest news, not the disk its space.
_MAX_WAITING = 5_000


@dataclass(frozen=True, slots=True)
class Notified:
    """What a receiver was last told about a group: the fingerprints, and when (ms UTC)."""

    time_ms: int
    firing: frozenset[str]
    resolved: frozenset[str]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A notification that waits to be sent, not before `next_ms`."""

    id: int
    receiver: str
    group_key: str
    body: bytes
    created_ms: int
    attempts: int
    next_ms: int


class Notifications:
    """The notification log and the outbox. Any thread may use it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def notified(self, receiver: str, group_key: str) -> Notified | None:
        """Return what the receiver was last told about a group, None if nothing."""
        where = (_GROUPS.c.receiver == receiver, _GROUPS.c.group_key == group_key)
        with self._database.transaction() as connection:
            row = connection.execute(select(_GROUPS).where(*where)).first()
        if row is None:
            return None
        firing, resolved = json.loads(row.firing), json.loads(row.resolved)
        return Notified(row.notified_ms, frozenset(firing), frozenset(resolved))

    def enqueue(self, receiver: str, group_key: str, notified: Notified, body: bytes) -> int:
        """Put a notification into the outbox and note what it tells, in one transaction.

        Returns how many old ones were dropped, because too many wait for the receiver.
        """
        entry = {
            "receiver": receiver,
            "group_key": group_key,
            "notified_ms": notified.time_ms,
            "firing": json.dumps(sorted(notified.firing)),
            "resolved": json.dumps(sorted(notified.resolved)),
        }
        waiting = {
            "receiver": receiver,
            "group_key": group_key,
            "body": body,
            "created_ms": notified.time_ms,
            "attempts": 0,
            "next_ms": notified.time_ms,
        }
        with self._database.transaction() as connection:
            connection.execute(_UPSERT, entry)
            connection.execute(insert(_OUTBOX), waiting)
            newest = (
                select(_OUTBOX.c.id)
                .where(_OUTBOX.c.receiver == receiver)
                .order_by(_OUTBOX.c.id.desc())
                .limit(_MAX_WAITING)
            )
            old = delete(_OUTBOX).where(_OUTBOX.c.receiver == receiver, _OUTBOX.c.id.not_in(newest))
            return connection.execute(old).rowcount

    def waiting(self, now_ms: int, limit: int) -> list[Outgoing]:
        """Return what may be sent at *now_ms*, by age, at most *limit*.

        Of each group only the oldest: a receiver hears of a group in order.
        """
        query = (
            select(_OUTBOX)
            .where(_OUTBOX.c.id.in_(_OLDEST), _OUTBOX.c.next_ms <= now_ms)
            .order_by(_OUTBOX.c.id)
            .limit(limit)
        )
        with self._database.transaction() as connection:
            return [_outgoing(row) for row in connection.execute(query)]

    def next_ms(self) -> int | None:
        """Return when the next notification may be sent, None if none waits."""
        query = select(func.min(_OUTBOX.c.next_ms)).where(_OUTBOX.c.id.in_(_OLDEST))
        with self._database.transaction() as connection:
            next_ms: int | None = connection.execute(query).scalar_one()
        return next_ms

    def count(self) -> int:
        """Return how many notifications wait."""
        with self._database.transaction() as connection:
            return int(connection.execute(select(func.count()).select_from(_OUTBOX)).scalar_one())

    def sent(self, outgoing: Outgoing) -> None:
        """Take a notification out of the outbox, because it arrived or never will."""
        with self._database.transaction() as connection:
            connection.execute(delete(_OUTBOX).where(_OUTBOX.c.id == outgoing.id))

    def postpone(self, outgoing: Outgoing, next_ms: int) -> None:
        """Note a failed attempt; the next one is at *next_ms*."""
        change = update(_OUTBOX).where(_OUTBOX.c.id == outgoing.id)
        with self._database.transaction() as connection:
            connection.execute(change.values(attempts=outgoing.attempts + 1, next_ms=next_ms))

    def forget(self, before_ms: int) -> None:
        """Drop what groups were told before *before_ms*."""
        with self._database.transaction() as connection:
            connection.execute(delete(_GROUPS).where(_GROUPS.c.notified_ms < before_ms))


def _outgoing(row: "Row[tuple[object, ...]]") -> Outgoing:
    return Outgoing(
        row.id,
        row.receiver,
        row.group_key,
        bytes(row.body),
        row.created_ms,
        row.attempts,
        row.next_ms,
    )
