"""Threads for requests, shared fairly: nobody waits for somebody else's heavy query.

Requests wait in `Turns`. At most `young` requests run at once, but one that has run for longer than
`YOUNG_SECONDS` no longer counts: it keeps its thread while the next one starts, up to the number of
threads. A client may hold half of the threads, and all but one of the places, so that another one's
request starts at once; a line may hold a third of the threads.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from aggregator import telemetry
from aggregator.api.turns import Job, Turn, Turns
from aggregator.supervise import Loop, run

YOUNG_SECONDS = 1.0
_BUSY, _WAITING = telemetry.POOL_BUSY.labels("api"), telemetry.POOL_WAITING.labels("api")
_END_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Running:
    client: str
    line: str
    since: float


class FairPool:
    """Runs jobs in its own threads; `submit` never blocks."""

    def __init__(
        self, young: int, threads: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._young, self._threads, self._clock = young, threads, clock
        self._young_of_one = max(1, young - 1)
        self._threads_of_one, self._threads_of_line = max(1, threads // 2), max(1, threads // 3)
        self._changed = threading.Condition()
        self._turns = Turns()
        self._running: dict[int, _Running] = {}
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
            self._turns.clear()
            _WAITING.set(0)
            self._changed.notify_all()
        for loop in self._loops:
            loop.stop(timeout_seconds=_END_SECONDS)

    def submit(self, client: str, line: str, job: Job) -> bool:
        """Let *job* run when *client* and its *line* have their turn.

        Return False, and do not run it, if too many wait.
        """
        with self._changed:
            if self._stopped or not self._turns.add(Turn(client, line, job)):
                return False
            _WAITING.set(len(self._turns))
            self._changed.notify()
        return True

    def _turn(self, stopping: threading.Event) -> None:
        thread = threading.get_ident()
        with self._changed:
            job = self._next(thread)
            while job is None and not self._stopped:
                self._changed.wait(self._until_older())
                job = self._next(thread)
            if self._turns:
                self._changed.notify()
            _BUSY.set(len(self._running))
        if job is None:
            stopping.wait(_END_SECONDS)
            return
        try:
            run("api", job)
        finally:
            with self._changed:
                del self._running[thread]
                _BUSY.set(len(self._running))
                if self._turns:
                    self._changed.notify()

    def _next(self, thread: int) -> Job | None:
        """Take the next job whose turn it is, or None if nothing may start now."""
        now = self._clock()
        running = self._running.values()
        young = Counter(each.client for each in running if each.since > now - YOUNG_SECONDS)
        if young.total() >= self._young:
            return None
        held = Counter(each.client for each in running)
        held_by_line = Counter((each.client, each.line) for each in running)

        def may_start(client: str, line: str) -> bool:
            return (
                young[client] < self._young_of_one
                and held[client] < self._threads_of_one
                and held_by_line[client, line] < self._threads_of_line
            )

        turn = self._turns.take(may_start)
        if turn is None:
            return None
        _WAITING.set(len(self._turns))
        self._running[thread] = _Running(turn.client, turn.line, now)
        return turn.job

    def _until_older(self) -> float | None:
        """Return the seconds until a running job stops counting; None if nothing waits."""
        if not self._turns:
            return None
        oldest = self._clock() - YOUNG_SECONDS
        young = [each.since for each in self._running.values() if each.since > oldest]
        return max(0.001, min(young) - oldest) if young else None
