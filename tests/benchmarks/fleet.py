"""Bar (b): 500 clusters of 2,000 series at 15 s on a third of a core, a fifth of them hanging."""

import argparse
import contextlib
import tempfile
import time
from pathlib import Path

import requests

from tests.benchmarks.processes import Measured, helper
from tests.benchmarks.report import Row, publish
from tests.servers import aggregator, free_port, wait_until

CLUSTERS, SERIES, HANGING, SECONDS, WARM_UP = 500, 2_000, 100, 120, 45
INTERVAL_SECONDS = 15

PROFILE = """
metrics:
  - name: fleet:bench_value
    help: a synthetic value
    unit: count
    group: bench
    labels: [namespace, pod, container, node, workload]
    candidates:
      - {id: fake, quality: exact, expr: 'fleet_bench{$sel}'}
"""


def fleet_config(port: int, clusters: int, profile: Path) -> str:
    """Return the configuration of the whole fake fleet."""
    rows = [
        f"  - {{name: fake-{number:03}, region: region-{number % 7}, "
        f"prometheus: {{url: 'http://127.0.0.1:{port}/c/{number}'}}}}\n"
        for number in range(clusters)
    ]
    return (
        f"collect: {{interval: {INTERVAL_SECONDS}s, lag: 2s, profile: '{profile}'}}\n"
        "rules: {files: []}\n"
        "clusters:\n" + "".join(rows)
    )


def late_clusters(ours: Measured, hanging: int) -> int:
    """Return how many of the clusters that answer are not `ok` now."""
    answer = requests.get(f"{ours.url}/api/v1/clusters", timeout=30).json()
    states = {row["cluster"]: row["state"] for row in answer["sources"]}
    return sum(
        state != "ok" for name, state in states.items() if int(name.split("-")[1]) >= hanging
    )


def main() -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size, not recorded")
    quick = parser.parse_args().quick
    clusters, hanging, seconds = (50, 10, 30) if quick else (CLUSTERS, HANGING, SECONDS)
    with contextlib.ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        profile = base / "profile.yaml"
        profile.write_text(PROFILE)
        port = free_port()
        arguments = [str(port), str(SERIES), str(hanging)]
        stack.enter_context(helper("tests.benchmarks.fake_fleet", arguments))
        config = fleet_config(port, clusters, profile)
        ours = Measured.of(stack.enter_context(aggregator(base / "ours", config)))
        expected = (clusters - hanging) * SERIES
        wait_until(
            lambda: ours.metric("aggregator_cluster_series") >= expected, 180, "all series arrived"
        )
        time.sleep(WARM_UP)
        begun, counted = ours.usage(), ours.metric("aggregator_samples_written_total")
        late = []
        for _ in range(seconds // 10):
            time.sleep(10)
            late.append(late_clusters(ours, hanging))
        ended, stored = ours.usage(), ours.metric("aggregator_samples_written_total") - counted
    wall = ended.wall_seconds - begun.wall_seconds
    share = (ended.cpu_seconds - begun.cpu_seconds) / wall
    due = expected / INTERVAL_SECONDS * wall
    rss = ended.rss_bytes / 2**30
    passed = share <= 0.30 and rss <= 1.8 and max(late) == 0 and stored > 0.97 * due
    row = Row(
        "b: many clusters",
        f"{clusters} clusters of {SERIES} series @ {INTERVAL_SECONDS}s, {hanging} hang, "
        f"{wall:.0f} s",
        f"{100 * share:.0f} % of a core, {stored / wall:.0f} samples/s "
        f"({100 * stored / due:.0f} % of those due), most healthy clusters late: {max(late)}",
        "none",
        "-",
        "≤ 30 % of a core, ≤ 1.8 GB, healthy clusters on schedule",
        f"{rss:.2f} GB",
        passed and not quick,
    )
    return publish([row], quick=quick)


if __name__ == "__main__":
    raise SystemExit(main())
