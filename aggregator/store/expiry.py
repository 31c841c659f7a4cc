"""Drops whole days from the embedded store, for age or for lack of room."""

from datetime import UTC, date, datetime, time

import structlog

from aggregator.model.budget import Budget
from aggregator.store import sql
from aggregator.store.columns import numbers, texts
from aggregator.store.days import DAY_MS
from aggregator.store.pool import Pool

_LOG = structlog.get_logger(__name__)
_LOOK_SECONDS = 30.0


def drop_days(pool: Pool, before_ms: int, max_disk_bytes: int) -> int:
    """Drop the days that end before *before_ms*, then the oldest ones above *max_disk_bytes*.

    The newest day always stays. Returns the start of what is kept, in ms. Raises `StoreError`, and
    `QueryError` when the engine is too busy to list the days.
    """
    kept_from = before_ms // DAY_MS * DAY_MS
    sizes = _day_sizes(pool, "samples")
    used = sum(size for start, size in sizes.items() if start >= kept_from)
    for start, size in sorted(sizes.items())[:-1]:
        if start >= kept_from and used > max_disk_bytes:
            _LOG.warning(
                "samples take more than store.max_disk: the oldest day goes",
                day=_day(start),
                bytes=used,
                max_disk_bytes=max_disk_bytes,
            )
            used -= size
            kept_from = start + DAY_MS
    for table, statement in sql.DROP_DAY.items():
        for start in _day_sizes(pool, table):
            if start < kept_from:
                pool.execute(statement, {"day": _day(start)})
    return kept_from


def _day_sizes(pool: Pool, table: str) -> dict[int, int]:
    """Return the bytes of each day of a table, by the start of the day in ms."""
    budget = Budget(timeout_seconds=_LOOK_SECONDS)
    answer = pool.read(sql.Statement(sql.SIZES, {"table": table}), budget)
    starts = [
        int(datetime.combine(date.fromisoformat(day), time(), UTC).timestamp() * 1_000)
        for day in texts(answer.column("day"))
    ]
    return dict(zip(starts, numbers(answer.column("bytes")).tolist(), strict=True))


def _day(start_ms: int) -> str:
    return datetime.fromtimestamp(start_ms / 1_000, UTC).date().isoformat()
