"""Threads for requests, shared fairly: nobody waits for somebody else's heavy query.

Requests wait in one line a client, and the lines take turns. At most `young` requests run at
once, but one that has run for longer than `YOUNG_SECONDS` no longer counts: it keeps its thread
while the next one starts, up to the number of threads. A client may hold half of the threads, and
all but one of the places, so that another one's request starts at once.
"""

import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import TypeAlias

from aggregator import telemetry
from aggregator.supervise import Loop, run

Job: TypeAlias = Callable[[], None]

YOUNG_SECONDS = 1.0
_END_SECONDS = 5.0
_MAX_WAITING = 512
_MAX_WAITING_OF_CLIENT = 128


class FairPool:
    """Runs jobs in its own threads; `submit` never blocks."""

    def __init__(
        self, young: int, threads: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._young, self._threads, self._clock = young, threads, clock
        self._young_of_one, self._threads_of_one = max(1, young - 1), max(1, threads // 2)
        self._changed = threading.Condition()
        self._lines: OrderedDict[str, deque[Job]] = OrderedDict()
        self._waiting = 0
        self._running: dict[int, tuple[str, float]] = {}
        self._loops = [Loop(f"api-{number}", self._turn) for number in range(threads)]
        self._stopped = False

    def start(self) -> None:
        """Start the threads."""
        telemetry.POOL_SIZE.labels("api").set(self._threads)
        for loop in self._loops:
            loop.start()

    def stop(self) -> None:
        """Take no more jobs, forget those that wait, and end the threads."""
        with self._changed:
            self._stopped = True
            self._lines.clear()
            self._count(-self._waiting)
            self._changed.notify_all()
        for loop in self._loops:
            loop.stop(timeout_seconds=_END_SECONDS)

    def submit(self, client: str, job: Job) -> bool:
        """Let *job* run in *client*'s turn; return False, and do not run it, if too many wait."""
        with self._changed:
            line = self._lines.get(client, deque())
            full = self._waiting >= _MAX_WAITING or len(line) >= _MAX_WAITING_OF_CLIENT
            if self._stopped or full:
                return False
            line.append(job)
            self._lines[client] = line
            self._count(1)
            self._changed.notify()
        return True

    def _turn(self, stopping: threading.Event) -> None:
        thread = threading.get_ident()
        with self._changed:
            job = self._next(thread)
            while job is None and not self._stopped:
                self._changed.wait(self._until_older())
                job = self._next(thread)
            if self._waiting:
                self._changed.notify()
            telemetry.POOL_BUSY.labels("api").set(len(self._running))
        if job is None:
            stopping.wait(_END_SECONDS)
            return
        try:
            run("api", job)
        finally:
            with self._changed:
                del self._running[thread]
                telemetry.POOL_BUSY.labels("api").set(len(self._running))
                self._changed.notify()

    def _next(self, thread: int) -> Job | None:
        """Take the next job whose turn it is, or None if nothing may start now."""
        oldest = self._clock() - YOUNG_SECONDS
        young = Counter(client for client, since in self._running.values() if since > oldest)
        if young.total() >= self._young:
            return None
        held = Counter(client for client, _ in self._running.values())
        for client, line in self._lines.items():
            if young[client] < self._young_of_one and held[client] < self._threads_of_one:
                job = line.popleft()
                self._count(-1)
                self._lines.move_to_end(client)
                if not line:
                    del self._lines[client]
                self._running[thread] = (client, self._clock())
                return job
        return None

    def _count(self, jobs: int) -> None:
        self._waiting += jobs
        telemetry.POOL_WAITING.labels("api").set(self._waiting)

    def _until_older(self) -> float | None:
        """Return the seconds until a running job stops counting; None if nothing waits."""
        if not self._waiting:
            return None
        oldest = self._clock() - YOUNG_SECONDS
        young = [since for _, since in self._running.values() if since > oldest]
        return max(0.001, min(young) - oldest) if young else None
