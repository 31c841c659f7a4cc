"""When what runs: one job a cluster, which only submits (the only importer of apscheduler)."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import xxhash
from apscheduler.events import EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED, JobEvent
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from aggregator import supervise, telemetry
from aggregator.fleet.registry import Cluster

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def grid_time(now_ms: int, lag_ms: int, interval_ms: int) -> int:
    """Return the newest instant of the grid that sources have complete data for."""
    return (now_ms - lag_ms) // interval_ms * interval_ms


def offset_ms(name: str, interval_ms: int) -> int:
    """Return a cluster's own delay within the first half of its interval, always the same."""
    return xxhash.xxh3_64_intdigest(name.encode()) % max(interval_ms // 2, 1)


class Schedule:
    """Calls `submit` with a cluster's name at T + lag + offset, for every T of its grid."""

    def __init__(self, submit: Callable[[str], None]) -> None:
        self._submit = submit
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(2)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._scheduler.add_listener(_count_skipped, EVENT_JOB_MAX_INSTANCES | EVENT_JOB_MISSED)

    def start(self) -> None:
        """Begin to call."""
        self._scheduler.start()

    def stop(self) -> None:
        """End every job; none is running when this returns."""
        self._scheduler.shutdown(wait=True)

    def put(self, cluster: Cluster, every_ms: int | None = None) -> None:
        """Add the job of a cluster, or replace it; it runs once an interval, or *every_ms*."""
        collect = cluster.collect
        delay = collect.lag + offset_ms(cluster.name, collect.interval)
        self._scheduler.add_job(
            self._tick,
            IntervalTrigger(
                seconds=(every_ms or collect.interval) / 1000,
                start_date=_EPOCH + timedelta(milliseconds=delay),
                timezone=UTC,
            ),
            args=(cluster.name,),
            id=cluster.name,
            replace_existing=True,
        )

    def renew(self) -> None:
        """Find each job's next turn again: after the clock was set back it would be far off."""
        for job in self._scheduler.get_jobs():
            with suppress(JobLookupError):  # removed meanwhile
                job.reschedule(job.trigger)

    def remove(self, name: str) -> None:
        """End the job of a cluster."""
        self._scheduler.remove_job(name)

    def _tick(self, name: str) -> None:
        supervise.run("schedule", lambda: self._submit(name))


def _count_skipped(event: JobEvent) -> None:
    telemetry.CYCLES_SKIPPED.labels(event.job_id, "scheduler").inc()
