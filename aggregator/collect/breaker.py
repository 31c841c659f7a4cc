"""The circuit breaker of one cluster: after failures it is asked less and less often."""

from dataclasses import dataclass

from aggregator.fleet.freshness import UNREACHABLE_AFTER

_FIRST_MS = 30_000
_LONGEST_MS = 300_000


@dataclass(frozen=True, slots=True)
class Breaker:
    """How many cycles failed in a row, and until when the cluster is left alone."""

    failures: int = 0
    open_until_ms: int | None = None

    @property
    def probing(self) -> bool:
        """Whether the next cycle has to prove first that the cluster answers."""
        return self.failures > 0

    def is_open(self, now_ms: int) -> bool:
        """Tell whether the cluster is left alone at *now_ms*; a clock set back ends it early."""
        left_ms = 0 if self.open_until_ms is None else self.open_until_ms - now_ms
        return 0 < left_ms <= _LONGEST_MS

    def failed(self, now_ms: int) -> "Breaker":
        """Return the breaker after another failure: from the third on it opens, 30 s to 300 s."""
        failures = self.failures + 1
        if failures < UNREACHABLE_AFTER:
            return Breaker(failures)
        doublings = min(failures - UNREACHABLE_AFTER, 8)
        return Breaker(failures, now_ms + min(_FIRST_MS << doublings, _LONGEST_MS))
