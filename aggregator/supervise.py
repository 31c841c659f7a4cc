"""Runs every thread and job of the process; the one place where an unexpected exception ends.

What runs here may fail with anything: the traceback is logged, the failure is counted, and a loop
goes on after a pause. Nothing dies silently.
"""

import threading
from collections.abc import Callable

import structlog

from aggregator import telemetry

_LOG = structlog.get_logger(__name__)
_PAUSE_SECONDS = 1.0


def run(name: str, job: Callable[[], None]) -> bool:
    """Run *job* once; return whether it ended without an unexpected exception."""
    try:
        job()
    except Exception:  # noqa: BLE001  the supervised runner: everything else ends here
        telemetry.RUNNER_FAILURES.labels(name).inc()
        _LOG.exception("job failed unexpectedly; it will run again at its next turn", runner=name)
        return False
    return True


class Loop:
    """A thread that calls `step` until it is stopped; `step` blocks for as long as it likes.

    `step` is given the stop event, and should return soon after it is set.
    """

    def __init__(self, name: str, step: Callable[[threading.Event], None]) -> None:
        self._name, self._step = name, step
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_seconds: float = 10.0) -> bool:
        """Ask the thread to end and wait for it; return whether it did."""
        self._stopping.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if not run(self._name, lambda: self._step(self._stopping)):
                self._stopping.wait(_PAUSE_SECONDS)
