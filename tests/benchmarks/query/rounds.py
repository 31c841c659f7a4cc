"""Asks every side the same in interleaved rounds and makes a row of each case."""

import math
import time
from dataclasses import dataclass, field
from statistics import median

from tests.benchmarks.query.cases import Case
from tests.benchmarks.query.sides import Side, digest
from tests.benchmarks.report import Row

RSS_LIMIT_MB = 900
_ROUNDING = 1e-6
_WARMING_SECONDS = 0.1
_SHORT_MS, _OFTEN = 10.0, 9
# A shared machine is twice as slow at some moments: short requests need more of them.
_TURNS_OF_SHORT = 3


@dataclass
class Timings:
    """Milliseconds by side, in the order of the rounds; *short* if every side takes few."""

    case: Case
    taken: dict[str, list[float]] = field(default_factory=dict)
    short: bool = False

    def shown(self, side: str) -> str:
        """Return minimum and median as text."""
        return f"{min(self.taken[side]):.3g}/{median(self.taken[side]):.3g} ms"

    def ratio(self, side: str) -> float:
        """Return the median of ours over that of *side*."""
        return median(self.taken["ours"]) / median(self.taken[side])


def compare(compared: list[Side], cases: list[Case], rounds: int) -> list[Timings]:
    """Run *cases* in *rounds* interleaved rounds; the first, which is not counted, checks answers.

    Instant cases come first: they are about the newest samples.
    """
    timings = [Timings(case) for case in cases]
    for phase in ("query", "query_range"):
        of_phase = [t for t in timings if (t.case.path == "query_range") == (phase != "query")]
        for timing in of_phase:
            asked = {side.name: side.ask(timing.case) for side in compared}
            _check(timing.case, {name: body for name, (_, body) in asked.items()})
            timing.short = max(took for took, _ in asked.values()) < _SHORT_MS
        for turn in range(rounds * _TURNS_OF_SHORT):
            for timing in of_phase:
                if not timing.short and turn % _TURNS_OF_SHORT:
                    continue
                for side in compared:
                    timing.taken.setdefault(side.name, []).append(_turn(side, timing))
    return timings


def _turn(side: Side, timing: Timings) -> float:
    """Return how many milliseconds *side* takes, in the state in which a busy server is.

    The sides would not share a machine. So the requests of the first tenth of a second, one at
    least, do not count: meanwhile the side before clears up, the machine wakes up, and caches have
    again what others pushed out. Of short ones, which take as long as the machine's own noise, the
    median counts.
    """
    until = time.perf_counter() + _WARMING_SECONDS
    side.ask(timing.case)
    while time.perf_counter() < until:
        side.ask(timing.case)
    return median(side.ask(timing.case)[0] for _ in range(_OFTEN if timing.short else 1))


def rows(
    timings: list[Timings], letter: str, size: str, peak_mb: float, limit_mb: float
) -> list[Row]:
    """Return a row of each case, and one of the peak of the process that answered all of them."""
    made = []
    for timing in timings:
        ratio, other = timing.ratio("Prometheus"), timing.ratio("VictoriaMetrics")
        bar = timing.case.bar
        made.append(
            Row(
                f"{letter}: {timing.case.name}",
                size,
                timing.shown("ours"),
                f"Prometheus {timing.shown('Prometheus')}; "
                f"VictoriaMetrics {timing.shown('VictoriaMetrics')}",
                f"{ratio:.2f} (VictoriaMetrics {other:.2f})",
                f"≤ {bar:g} × Prometheus",
                "-",
                ratio <= bar,
            )
        )
    peak = f"{peak_mb:.0f} MB"
    target, passed = f"≤ {limit_mb:g} MB", peak_mb <= limit_mb
    made.append(Row(f"{letter}: peak memory", size, peak, "-", "-", target, peak, passed))
    return made


def _check(case: Case, bodies: dict[str, bytes]) -> None:
    """Stop unless all sides answer alike, so that no error or empty answer is measured."""
    digests = {side: digest(body) for side, body in bodies.items()}
    count, total = digests["Prometheus"]
    for side, (other_count, other_total) in digests.items():
        tolerance = _ROUNDING if side == "ours" else case.tolerance
        alike = tolerance is None or (
            other_count == count and math.isclose(total, other_total, rel_tol=tolerance)
        )
        if not alike or not count:
            raise SystemExit(f"{case.name}: the sides do not answer alike: {digests}")
