"""The soak: 200 clusters for 30 minutes, memory sampled every 10 s; then the long fidelity run.

Memory is flat if, after the first third, it grows by less than 1 % of its size in ten minutes. The
result goes to docs/BENCHMARKS.md.
"""

import argparse
import contextlib
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.benchmarks.fleet import INTERVAL_SECONDS, PROFILE, fleet_config
from tests.benchmarks.processes import Measured, helper
from tests.benchmarks.report import Row, publish
from tests.integration import fidelity
from tests.servers import ROOT, aggregator, free_port, wait_until

CLUSTERS, SERIES, MINUTES, EVERY_SECONDS = 200, 2_000, 30, 10
GROWTH_LIMIT = 0.01  # share of the size, in ten minutes


def soak(minutes: int) -> Row:
    """Run the fleet and return the row about its memory."""
    with contextlib.ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        profile = base / "profile.yaml"
        profile.write_text(PROFILE)
        port = free_port()
        stack.enter_context(helper("tests.benchmarks.fake_fleet", [str(port), str(SERIES), "0"]))
        config = fleet_config(port, CLUSTERS, profile)
        ours = Measured.of(stack.enter_context(aggregator(base / "ours", config)))
        wait_until(
            lambda: ours.metric("aggregator_cluster_series") >= CLUSTERS * SERIES,
            180,
            "all series arrived",
        )
        sizes, times = [], []
        begun, counted = ours.usage(), ours.metric("aggregator_samples_written_total")
        while (elapsed := time.monotonic() - begun.wall_seconds) < minutes * 60:
            times.append(elapsed)
            sizes.append(ours.usage().rss_bytes / 2**20)
            time.sleep(EVERY_SECONDS)
        stored = ours.metric("aggregator_samples_written_total") - counted
        ended = ours.usage()
    settled = len(times) // 3
    slope = float(np.polyfit(times[settled:], sizes[settled:], 1)[0]) * 600
    level = float(np.mean(sizes[settled:]))
    cpu = (ended.cpu_seconds - begun.cpu_seconds) / (ended.wall_seconds - begun.wall_seconds)
    due = CLUSTERS * SERIES / INTERVAL_SECONDS * (ended.wall_seconds - begun.wall_seconds)
    return Row(
        "soak: memory",
        f"{CLUSTERS} clusters of {SERIES} series @ {INTERVAL_SECONDS}s, {minutes} min",
        f"{slope:+.1f} MB in ten minutes after the first third ({100 * slope / level:+.2f} %), "
        f"{100 * cpu:.0f} % of a core, {100 * stored / due:.1f} % of the samples due",
        "none",
        "-",
        f"growth ≤ {100 * GROWTH_LIMIT:.0f} % in ten minutes",
        f"{min(sizes):.0f} to {max(sizes):.0f} MB, mean {level:.0f}",
        slope <= GROWTH_LIMIT * level and stored > 0.97 * due and minutes >= MINUTES,
    )


def long_fidelity() -> Row:
    """Run the long comparison with real sources and return its row."""
    with tempfile.TemporaryDirectory() as base:
        expositions = ROOT.parent / "shared" / "expositions"
        compared, copied = fidelity.run(Path(base), expositions, fidelity.LONG, 200)
    return Row(
        "soak: fidelity",
        "3 real Prometheus of real expositions, 5 events, 6 min after each, less two collection "
        "intervals after an event",
        f"{compared} counts and sums equal, {copied} samples equal bit for bit",
        "the sources themselves",
        "1.00",
        "no difference",
        "-",
        passed=True,
    )


def main() -> int:
    """Run the soak and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two minutes, not recorded")
    quick = parser.parse_args().quick
    status = publish([soak(2 if quick else MINUTES)], quick=quick)
    return status if quick else max(status, publish([long_fidelity()], quick=False))


if __name__ == "__main__":
    raise SystemExit(main())
