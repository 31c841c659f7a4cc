"""Bounded pools of threads: what hangs in one pool cannot hold up another."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from aggregator import supervise, telemetry


class Pool:
    """At most `size` supervised threads, started as they are needed."""

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._executor = ThreadPoolExecutor(size, thread_name_prefix=f"collect-{name}")
        telemetry.POOL_SIZE.labels(name).set(size)
        self._busy = telemetry.POOL_BUSY.labels(name)
        self._waiting = telemetry.POOL_WAITING.labels(name)
        self._wait = telemetry.POOL_WAIT_SECONDS.labels(name)

    def submit(self, job: Callable[[], None]) -> bool:
        """Run *job* as soon as a thread is free; return False once the pool is stopped."""
        submitted = time.monotonic()

        def work() -> None:
            self._waiting.dec()
            self._wait.observe(time.monotonic() - submitted)
            with self._busy.track_inprogress():
                supervise.run(f"collect-{self._name}", job)

        self._waiting.inc()
        try:
            self._executor.submit(work)
        except RuntimeError:  # the pool is shut down
            self._waiting.dec()
            return False
        return True

    def stop(self) -> None:
        """Drop what waits and wait for what runs; each request has its own deadline."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._waiting.set(0)


@dataclass(frozen=True, slots=True)
class Pools:
    """One pool for each kind of work.

    Clusters that answer share `healthy`; after its first failure a cluster is asked from
    `probing`, so that those that hang wait among themselves; history is read by `backfill`.
    """

    healthy: Pool
    probing: Pool
    backfill: Pool

    @staticmethod
    def make() -> "Pools":
        """Return pools that carry hundreds of clusters; threads start only when there is work."""
        return Pools(Pool("healthy", 48), Pool("probing", 16), Pool("backfill", 2))

    def stop(self) -> None:
        """Stop every pool."""
        for pool in (self.backfill, self.probing, self.healthy):
            pool.stop()
