"""Asks every side the same in interleaved rounds and makes a row of each case."""

import math
from dataclasses import dataclass, field
from statistics import median

from tests.benchmarks.query.cases import Case
from tests.benchmarks.query.sides import Side, digest
from tests.benchmarks.report import Row

RSS_LIMIT_MB = 900
_ROUNDING = 1e-6


@dataclass
class Timings:
    """Milliseconds by side, in the order of the rounds."""

    case: Case
    taken: dict[str, list[float]] = field(default_factory=dict)

    def shown(self, side: str) -> str:
        """Return minimum and median as text."""
        return f"{min(self.taken[side]):.3g}/{median(self.taken[side]):.3g} ms"

    def ratio(self, side: str) -> float:
        """Return the median of ours over that of *side*."""
        return median(self.taken["ours"]) / median(self.taken[side])


def compare(compared: list[Side], cases: list[Case], rounds: int) -> list[Timings]:
    """Run *cases* in *rounds* interleaved rounds; the first, which is not counted, checks answers.

    In each round a side is asked twice and the second time counts: the first brings back what the
    other sides, which would not share its machine, pushed out of the processor's caches. Who begins
    changes, since a side may still clear up when the next one is asked.
    Instant cases come first: they are about the newest samples.
    """
    timings = [Timings(case) for case in cases]
    for phase in ("query", "query_range"):
        of_phase = [t for t in timings if (t.case.path == "query_range") == (phase != "query")]
        for timing in of_phase:
            _check(timing.case, {side.name: side.ask(timing.case)[1] for side in compared})
        for number in range(rounds):
            first = number % len(compared)
            for timing in of_phase:
                for side in (*compared[first:], *compared[:first]):
                    side.ask(timing.case)
                    took, _ = side.ask(timing.case)
                    timing.taken.setdefault(side.name, []).append(took)
    return timings


def rows(
    timings: list[Timings], letter: str, size: str, peak_mb: float, limit_mb: float
) -> list[Row]:
    """Return a row of each case, and one of the peak of the process that answered all of them."""
    made = []
    for timing in timings:
        case, ratio = timing.case, timing.ratio("Prometheus")
        other = timing.ratio("VictoriaMetrics")
        made.append(
            Row(
                f"{letter}: {case.name}",
                size,
                timing.shown("ours"),
                f"Prometheus {timing.shown('Prometheus')}; "
                f"VictoriaMetrics {timing.shown('VictoriaMetrics')}",
                f"{ratio:.2f} (VictoriaMetrics {other:.2f})",
                f"≤ {case.bar:g} × Prometheus",
                "-",
                ratio <= case.bar,
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
