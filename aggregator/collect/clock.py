"""Notices that the wall clock was set back, by which everything that waits for a time would wait.

Small steps, as time synchronisation makes them, are nothing: the grid catches up.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

_NOTHING_MS = 1_000


@dataclass(slots=True)
class ClockWatch:
    """Compares the wall clock, `now` in ms, with `monotonic` in seconds, which never goes back."""

    now: Callable[[], int]
    monotonic: Callable[[], float] = time.monotonic
    _ahead_ms: float = field(init=False)

    def __post_init__(self) -> None:
        self._ahead_ms = self._ahead()

    def set_back_ms(self) -> int:
        """Return by how much the clock was set back since the last call, 0 if it was not."""
        before, self._ahead_ms = self._ahead_ms, self._ahead()
        back_ms = round(before - self._ahead_ms)
        return back_ms if back_ms > _NOTHING_MS else 0

    def _ahead(self) -> float:
        return self.now() - self.monotonic() * 1000
