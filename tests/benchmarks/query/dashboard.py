"""Bar (f): 20 clients that refresh a 25-panel dashboard against ours and against Prometheus."""

import subprocess
import sys
from dataclasses import dataclass, field

import numpy as np
import orjson

from tests.benchmarks.query.load import Seen
from tests.benchmarks.query.panels import PANELS
from tests.benchmarks.query.sides import Side
from tests.benchmarks.report import Row

CLIENTS, SECONDS, TURNS = 20, 15, 3
# The generator may not use more of its core: it would measure itself.
GENERATOR_LIMIT = 0.35


@dataclass
class Turns:
    """What the clients saw of one side in all its turns."""

    milliseconds: list[float] = field(default_factory=list)
    refreshes: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0

    def add(self, seen: Seen) -> None:
        """Add a turn."""
        self.milliseconds += [one for taken in seen.taken.values() for one in taken]
        self.refreshes += len(seen.refreshes)
        for status, count in seen.failures.items():
            self.failures[status] = self.failures.get(status, 0) + count
        self.wall_seconds += seen.wall_seconds
        self.cpu_seconds += seen.cpu_seconds

    def percentile(self, percent: float) -> float:
        """Return a percentile of the milliseconds of a request."""
        return float(np.percentile(self.milliseconds, percent)) if self.milliseconds else np.inf

    @property
    def throughput(self) -> float:
        """Refreshes a second."""
        return self.refreshes / self.wall_seconds

    @property
    def generator(self) -> float:
        """Share of a core that the generator used."""
        return self.cpu_seconds / self.wall_seconds

    def shown(self) -> str:
        """Return the figures as text."""
        failed = f", failed: {self.failures}" if self.failures else ""
        return (
            f"p50 {self.percentile(50):.0f} ms, p99 {self.percentile(99):.0f} ms, "
            f"{self.throughput:.2f} refreshes/s{failed}"
        )


def dashboard(compared: list[Side], end_ms: int, *, quick: bool) -> Row:
    """Load ours and Prometheus in turns and return the row."""
    turns, seconds = (1, 5) if quick else (TURNS, SECONDS)
    results = {side.name: Turns() for side in compared[:2]}
    for turn in range(turns + 1):
        for side in compared[:2]:
            # the first turn, a short one, warms both up
            seen = _load(side, seconds if turn else 3, end_ms)
            if turn:
                results[side.name].add(seen)
    own, peer = results["ours"], results["Prometheus"]
    ratios = (
        own.percentile(50) / peer.percentile(50),
        own.percentile(99) / peer.percentile(99),
        peer.throughput / own.throughput if own.refreshes else np.inf,
    )
    generator = max(own.generator, peer.generator)
    complete = not own.failures and not peer.failures
    return Row(
        "f: dashboards",
        f"{CLIENTS} clients, {PANELS} panels, 32 requests a refresh, 10 at a time, no pause, "
        f"{turns} × {seconds} s",
        own.shown(),
        f"Prometheus {peer.shown()}",
        f"p50 {ratios[0]:.2f}, p99 {ratios[1]:.2f}, time a refresh {ratios[2]:.2f}",
        "each ≤ 1.0 × Prometheus, no failure; "
        f"the generator at most {GENERATOR_LIMIT:.0%} of a core",
        f"peak {compared[0].peak_rss_mb():.0f} MB, generator {generator:.0%} of a core",
        max(ratios) <= 1.0 and complete and generator <= GENERATOR_LIMIT,
    )


def _load(side: Side, seconds: float, end_ms: int) -> Seen:
    arguments = [side.server.url, side.prefix, CLIENTS, seconds, end_ms // 1000]
    command = [sys.executable, "-m", "tests.benchmarks.query.load", *map(str, arguments)]
    output = subprocess.run(command, check=True, capture_output=True, timeout=seconds + 300).stdout
    return Seen(**orjson.loads(output))
