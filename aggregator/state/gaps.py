"""The gap ledger: every stretch of time that the central store lacks and the source may have."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, column, delete, insert, select, table, update

from aggregator.state.database import Database

_TABLE = table(
    "gaps",
    column("id"),
    column("cluster"),
    column("subject"),
    column("start_ms"),
    column("end_ms"),
    column("reason"),
    column("recorded_ms"),
    column("closed_ms"),
    column("evidence"),
)


@dataclass(frozen=True, slots=True)
class Gap:
    """Time without data, (start_ms, end_ms], of one subject of a cluster; open until repaired."""

    id: int
    cluster: str
    subject: str
    start_ms: int
    end_ms: int
    reason: str
    recorded_ms: int
    closed_ms: int | None = None
    evidence: str = ""


class Gaps:
    """The ledger. Open gaps are kept in memory as well; any thread may use it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._open: dict[str, list[Gap]] = {}
        self._watching: list[Callable[[str], None]] = []
        with database.transaction() as connection:
            opened = select(_TABLE).where(_TABLE.c.closed_ms.is_(None)).order_by(_TABLE.c.start_ms)
            for row in connection.execute(opened):
                self._open.setdefault(row.cluster, []).append(Gap(*row))

    def watch(self, changed: Callable[[str], None]) -> None:
        """Have *changed* called with a cluster's name after each change, by whoever makes it."""
        self._watching.append(changed)

    def open(self, cluster: str) -> tuple[Gap, ...]:
        """Return a cluster's open gaps, oldest first; nobody waits for the disk here."""
        return tuple(self._open.get(cluster, ()))  # a list is replaced, never changed

    def listed(self, cluster: str, start_ms: int, end_ms: int) -> list[Gap]:
        """Return a cluster's gaps, open and closed, that meet (start_ms, end_ms], oldest first."""
        query = (
            select(_TABLE)
            .where(_TABLE.c.cluster == cluster)
            .where(_TABLE.c.end_ms > start_ms, _TABLE.c.start_ms < end_ms)
            .order_by(_TABLE.c.start_ms, _TABLE.c.id)
        )
        with self._database.transaction() as connection:
            return [Gap(*row) for row in connection.execute(query)]

    def record(
        self, cluster: str, gaps: Sequence[tuple[str, int, int]], reason: str, now_ms: int
    ) -> None:
        """Open *gaps*, each `(subject, start_ms, end_ms)`, in one transaction.

        What continues an open gap of the same subject and reason makes that one longer.
        """
        with self._lock:
            known = list(self._open.get(cluster, ()))
            with self._database.transaction() as connection:
                for subject, start_ms, end_ms in gaps:
                    new = Gap(0, cluster, subject, start_ms, end_ms, reason, now_ms)
                    at = _continued(known, new)
                    if at is None:
                        known.append(replace(new, id=_inserted(connection, new)))
                    else:
                        known[at] = replace(known[at], end_ms=max(end_ms, known[at].end_ms))
                        _update(connection, known[at])
            self._open[cluster] = sorted(known, key=lambda gap: gap.start_ms)
        self._tell(cluster)

    def fill(
        self,
        cluster: str,
        subjects: Iterable[str],
        window: tuple[int, int],
        evidence: str,
        now_ms: int,
    ) -> None:
        """Close what lies in *window*, (start_ms, end_ms], after its data was stored.

        A gap that reaches beyond stays open there; *evidence* says what was stored.
        """
        wanted, (start_ms, end_ms) = set(subjects), window
        with self._lock:
            kept: list[Gap] = []
            with self._database.transaction() as connection:
                for gap in self._open.get(cluster, ()):
                    if gap.subject in wanted and gap.start_ms < end_ms and start_ms < gap.end_ms:
                        closed = replace(gap, closed_ms=now_ms, evidence=evidence)
                        kept += _fill(connection, closed, start_ms, end_ms)
                    else:
                        kept.append(gap)
            self._open[cluster] = kept
        self._tell(cluster)

    def forget(self, *, cluster: str | None = None, before_ms: int | None = None) -> None:
        """Drop the gaps of a cluster that left the registry, or those that retention has passed."""
        statement = delete(_TABLE)
        if cluster is not None:
            statement = statement.where(_TABLE.c.cluster == cluster)
        if before_ms is not None:
            statement = statement.where(_TABLE.c.end_ms <= before_ms)
        with self._lock, self._database.transaction() as connection:
            connection.execute(statement)
            touched = list(self._open) if cluster is None else [cluster]
            for name in touched:
                self._open[name] = [
                    gap
                    for gap in self._open.get(name, ())
                    if before_ms is not None and gap.end_ms > before_ms
                ]
        for name in touched:
            self._tell(name)

    def _tell(self, cluster: str) -> None:
        for changed in self._watching:
            changed(cluster)


def _fill(connection: Connection, gap: Gap, start_ms: int, end_ms: int) -> list[Gap]:
    """Shorten the closed *gap* to (start_ms, end_ms] and return what stays open around it."""
    start, end = max(gap.start_ms, start_ms), min(gap.end_ms, end_ms)
    _update(connection, replace(gap, start_ms=start, end_ms=end))
    opened = replace(gap, closed_ms=None, evidence="")
    rests = (replace(opened, end_ms=start), replace(opened, start_ms=end))
    return [
        replace(rest, id=_inserted(connection, rest))
        for rest in rests
        if rest.end_ms > rest.start_ms
    ]


def _continued(known: Sequence[Gap], new: Gap) -> int | None:
    for at, gap in enumerate(known):
        if (
            gap.subject == new.subject
            and gap.reason == new.reason
            and gap.start_ms <= new.start_ms <= gap.end_ms
        ):
            return at
    return None


def _inserted(connection: Connection, gap: Gap) -> int:
    result = connection.execute(
        insert(_TABLE).values(
            cluster=gap.cluster,
            subject=gap.subject,
            start_ms=gap.start_ms,
            end_ms=gap.end_ms,
            reason=gap.reason,
            recorded_ms=gap.recorded_ms,
        )
    )
    return int(result.lastrowid)


def _update(connection: Connection, gap: Gap) -> None:
    connection.execute(
        update(_TABLE)
        .where(_TABLE.c.id == gap.id)
        .values(
            start_ms=gap.start_ms,
            end_ms=gap.end_ms,
            closed_ms=gap.closed_ms,
            evidence=gap.evidence,
        )
    )
