"""How far the data of each cluster and subject reaches.

A subject is a fleet metric group (`fleet:cpu`) or a raw selector (`raw:up`). Watermarks live in
memory, where every reader asks, and become durable together: a watermark that a crash loses only
makes the collector copy again what is stored already, which changes nothing.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from sqlalchemy import bindparam, column, delete, select, table
from sqlalchemy.dialects.sqlite import insert

from aggregator.state.database import Database

_TABLE = table(
    "watermarks",
    column("cluster"),
    column("subject"),
    column("answered_ms"),
    column("data_until_ms"),
    column("first_data_ms"),
)


@dataclass(frozen=True, slots=True)
class Watermark:
    """`answered_ms` is the newest instant the source answered for, with data or without.

    `data_until_ms` is the newest instant whose data is stored and `first_data_ms` the oldest one
    since the cluster was registered; both are None while there was no data.
    """

    answered_ms: int
    data_until_ms: int | None = None
    first_data_ms: int | None = None


class Watermarks:
    """The watermarks of all clusters. Any thread may use it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._marks: dict[str, dict[str, Watermark]] = {}
        self._dirty: set[tuple[str, str]] = set()
        self._watching: list[Callable[[str], None]] = []
        with database.transaction() as connection:
            for row in connection.execute(select(_TABLE)):
                mark = Watermark(row.answered_ms, row.data_until_ms, row.first_data_ms)
                self._marks.setdefault(row.cluster, {})[row.subject] = mark

    def watch(self, changed: Callable[[str], None]) -> None:
        """Have *changed* called with a cluster's name after each change, by whoever makes it."""
        self._watching.append(changed)

    def clusters(self) -> list[str]:
        """Return the clusters that have a watermark."""
        with self._lock:
            return list(self._marks)

    def get(self, cluster: str, subject: str) -> Watermark | None:
        """Return one watermark, or None if the source never answered for the subject."""
        with self._lock:
            return self._marks.get(cluster, {}).get(subject)

    def of(self, cluster: str) -> dict[str, Watermark]:
        """Return a cluster's watermarks by subject."""
        with self._lock:
            return dict(self._marks.get(cluster, {}))

    def advance(
        self, cluster: str, time_ms: int, *, with_data: Iterable[str], without: Iterable[str] = ()
    ) -> None:
        """Note a complete answer for *time_ms*; call it only once its samples are stored.

        Watermarks never go back, except by `cap`.
        """
        with self._lock:
            marks = self._marks.setdefault(cluster, {})
            for subject in with_data:
                mark = marks.get(subject, Watermark(time_ms))
                until = max(time_ms, mark.data_until_ms or time_ms)
                first = min(time_ms, mark.first_data_ms or time_ms)
                self._set(cluster, subject, Watermark(max(time_ms, mark.answered_ms), until, first))
            for subject in without:
                mark = marks.get(subject, Watermark(time_ms))
                answered = max(time_ms, mark.answered_ms)
                self._set(cluster, subject, replace(mark, answered_ms=answered))
        self._tell(cluster)

    def cap(self, now_ms: int) -> list[str]:
        """Bring back to *now_ms* what lies later: the clock was set back; return whose it was."""
        capped = []
        with self._lock:
            for cluster, marks in self._marks.items():
                later = [name for name, mark in marks.items() if mark.answered_ms > now_ms]
                for subject in later:
                    self._set(cluster, subject, _capped(marks[subject], now_ms))
                if later:
                    capped.append(cluster)
        for cluster in capped:
            self._tell(cluster)
        return capped

    def forget(self, cluster: str) -> None:
        """Drop a cluster that left the registry."""
        with self._lock:
            self._marks.pop(cluster, None)
            self._dirty = {key for key in self._dirty if key[0] != cluster}
        with self._database.transaction() as connection:
            connection.execute(delete(_TABLE).where(_TABLE.c.cluster == cluster))
        self._tell(cluster)

    def flush(self) -> int:
        """Make every change durable in one transaction; return how many there were.

        Raises `StoreError`, and keeps the changes for the next call.
        """
        with self._lock:
            keys, self._dirty = self._dirty, set()
            rows = [self._row(*key) for key in keys]
        if not rows:
            return 0
        with contextlib.ExitStack() as failed:
            failed.callback(self._keep, keys)
            with self._database.transaction() as connection:
                connection.execute(_UPSERT, rows)
            failed.pop_all()
        return len(rows)

    def _keep(self, keys: set[tuple[str, str]]) -> None:
        """Leave *keys* for the next flush."""
        with self._lock:
            self._dirty |= keys

    def _set(self, cluster: str, subject: str, mark: Watermark) -> None:
        self._marks[cluster][subject] = mark
        self._dirty.add((cluster, subject))

    def _tell(self, cluster: str) -> None:
        for changed in self._watching:
            changed(cluster)

    def _row(self, cluster: str, subject: str) -> dict[str, str | int | None]:
        mark = self._marks[cluster][subject]
        return {
            "cluster": cluster,
            "subject": subject,
            "answered_ms": mark.answered_ms,
            "data_until_ms": mark.data_until_ms,
            "first_data_ms": mark.first_data_ms,
        }


def _capped(mark: Watermark, now_ms: int) -> Watermark:
    until, first = mark.data_until_ms, mark.first_data_ms
    return Watermark(
        min(mark.answered_ms, now_ms),
        None if until is None else min(until, now_ms),
        None if first is None else min(first, now_ms),
    )


_INSERT = insert(_TABLE).values({c.name: bindparam(c.name) for c in _TABLE.c})
_UPSERT = _INSERT.on_conflict_do_update(
    index_elements=["cluster", "subject"],
    set_={
        name: _INSERT.excluded[name] for name in ("answered_ms", "data_until_ms", "first_data_ms")
    },
)
