"""What one request may cost, and how it is told to stop."""

import threading
import time
from collections.abc import Callable

from aggregator.errors import QueryExecutionError, QueryTimeoutError


class Budget:
    """The deadline, sample and byte limits of one query, shared by everything that works for it.

    Work calls `check` between chunks and `spend_*` before it allocates; whoever serves the request
    calls `cancel` from another thread, and what can be interrupted registers with `on_cancel`.
    """

    def __init__(
        self,
        *,
        timeout_seconds: float = 120.0,
        max_samples: int = 50_000_000,
        max_series: int = 500_000,
        max_bytes: int = 300 * 2**20,
        max_visits: int = 1 << 62,
        may_use_disk: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.timeout_seconds, self.max_samples = timeout_seconds, max_samples
        self.max_series, self.max_bytes = max_series, max_bytes
        self._max_visits = max_visits
        self.samples = self._visits = 0
        self.used_disk = False
        self._may_use_disk = may_use_disk
        self._clock = clock
        self._began = clock()
        self._deadline = self._began + timeout_seconds
        self._lock = threading.Lock()
        self._reason = ""
        self._callbacks: list[Callable[[], None]] = []

    def again(self) -> "Budget":
        """Return a budget for the same work once more, in what is left of the time.

        It has the same limits and deadline, and is cancelled with this one.
        """
        budget = Budget(
            timeout_seconds=self.timeout_seconds,
            max_samples=self.max_samples,
            max_series=self.max_series,
            max_bytes=self.max_bytes,
            max_visits=self._max_visits,
            may_use_disk=self._may_use_disk,
            clock=self._clock,
        )
        budget._deadline = self._deadline
        self.on_cancel(lambda: budget.cancel(self._reason))
        return budget

    @property
    def elapsed_seconds(self) -> float:
        """Seconds since the budget was made."""
        return self._clock() - self._began

    @property
    def remaining_seconds(self) -> float:
        """Seconds until the deadline, not below zero."""
        return max(0.0, self._deadline - self._clock())

    def lower_timeout(self, seconds: float) -> None:
        """Let the query run for *seconds* from now at most, if that is less than it may."""
        if seconds < self.remaining_seconds:
            self.timeout_seconds, self._deadline = seconds, self._clock() + seconds

    def cancel(self, reason: str) -> None:
        """Stop the query: the next `check` raises; registered callbacks run once, now."""
        with self._lock:
            if self._reason:
                return
            self._reason = reason
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def on_cancel(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Run *callback* if the query is cancelled; call what this returns when it is moot."""
        with self._lock:
            cancelled = bool(self._reason)
            if not cancelled:
                self._callbacks.append(callback)
        if cancelled:
            callback()

        def forget() -> None:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

        return forget

    def check(self) -> None:
        """Raise `QueryTimeoutError` if the query was cancelled or ran out of time."""
        if self._reason:
            raise QueryTimeoutError(f"query was cancelled: {self._reason}")
        if self._clock() > self._deadline:
            raise QueryTimeoutError(
                f"query timed out after {self.timeout_seconds:g} s; shorten the range, "
                "raise the step or select fewer series"
            )

    def use_disk(self) -> None:
        """Say that the disk is read now; `QueryTimeoutError` if there is no time for that."""
        self.check()
        if not self._may_use_disk:
            raise QueryTimeoutError("query needs the disk, which it has no time for")
        self.used_disk = True

    def spend_samples(self, count: int) -> None:
        """Count *count* samples read, or raise `QueryExecutionError` above the limit."""
        self.check()
        self.samples += count
        if self.samples > self.max_samples:
            raise QueryExecutionError(
                f"query reads more than {self.max_samples} samples; shorten the range or "
                "select fewer series"
            )

    def spend_visits(self, count: int) -> None:
        """Count *count* samples that windows hold, or raise `QueryExecutionError` above the limit.

        A sample counts once for each window; what looks at all of them cannot be stopped meanwhile.
        """
        self._visits += count
        if self._visits > self._max_visits:
            raise QueryExecutionError(
                f"windows hold more than {self._max_visits} samples; shorten them or raise the step"
            )

    def spend_series(self, count: int) -> None:
        """Raise `QueryExecutionError` if one selector matches more than the allowed series."""
        if count > self.max_series:
            raise QueryExecutionError(
                f"selector matches {count} series, more than the {self.max_series} allowed; "
                "add matchers"
            )

    def spend_bytes(self, count: int) -> None:
        """Raise `QueryExecutionError` if one allocation of *count* bytes is too much."""
        if count > self.max_bytes:
            raise QueryExecutionError(
                f"query needs {count >> 20} MiB for one result, more than the "
                f"{self.max_bytes >> 20} MiB allowed; raise the step or select fewer series"
            )
