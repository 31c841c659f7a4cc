"""Bar (e): label answers and matchers at a million series, against the same two peers.

1,000 metrics of 1,000 series with 8 labels, each series in a pod of its own, one sample each. The
store is filled directly, the peers by remote write.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import requests

from aggregator.model.samples import SampleBlock
from aggregator.store.open import open_store
from aggregator.store.settings import StoreSettings
from tests.benchmarks.query.cases import label_cases
from tests.benchmarks.query.rounds import compare, rows
from tests.benchmarks.query.sides import flush, peers, send, settle, sides
from tests.benchmarks.remote_write import series_bytes
from tests.benchmarks.report import publish

METRICS, PER_METRIC, ROUNDS, BATCH = 1_000, 1_000, 7, 20_000
RSS_LIMIT_MB = 1_500
REGIONS = ("europe", "us", "asia")


def labels(metrics: int) -> Iterator[list[dict[str, str]]]:
    """Yield the label sets in batches."""
    total = metrics * PER_METRIC
    for first in range(0, total, BATCH):
        yield [_labels(number) for number in range(first, min(first + BATCH, total))]


def _labels(number: int) -> dict[str, str]:
    return {
        "__name__": f"bench_{number // PER_METRIC:04}_total",
        "cluster": f"cluster-{number % 20:02}",
        "region": REGIONS[number % 3],
        "namespace": f"team-{number % 200}",
        "job": f"job-{number % 50}",
        "pod": f"service-{number:07}",
        "instance": f"10.{number % 20}.{number % 5_000 // 250}.{number % 250}:8080",
        "container": f"main-{number % 30}",
    }


def fill_store(metrics: int, time_ms: int, path: Path) -> None:
    """Write a sample of every series into a store at *path*."""
    store = open_store(StoreSettings(path=path))
    for batch in labels(metrics):
        ids = store.series_ids(batch)
        times = np.full(ids.size, time_ms)
        store.write(SampleBlock(ids, times, np.ones(ids.size)))
    store.close()


def fill_peers(metrics: int, time_ms: int, urls: list[str]) -> None:
    """Send a sample of every series to both peers."""
    times = np.array([time_ms])
    with requests.Session() as session:
        for batch in labels(metrics):
            heads = [series_bytes(each) for each in batch]
            send(session, urls, heads, times, np.ones((len(heads), 1)))
        flush(session, urls[1])


def main() -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size, not recorded")
    parser.add_argument("--fill", metavar="DIRECTORY:METRICS:TIME_MS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fill:
        path, count, moment = options.fill.rsplit(":", 2)
        fill_store(int(count), int(moment), Path(path))
        return 0
    metrics, rounds = (METRICS // 10, 3) if options.quick else (METRICS, ROUNDS)
    end_ms = int(time.time()) * 1000
    with contextlib.ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (base / "ours").mkdir()
        fill = f"{base / 'ours' / 'data'}:{metrics}:{end_ms}"
        with subprocess.Popen([sys.executable, "-m", __spec__.name, "--fill", fill]) as filling:
            servers = stack.enter_context(peers(base))
            fill_peers(metrics, end_ms, [server.url for server in servers])
        if filling.returncode:
            raise SystemExit("the store could not be filled")
        compared = stack.enter_context(sides(base / "ours", servers))
        settle(compared, end_ms)
        timings = compare(compared, label_cases(end_ms), rounds)
        peak = compared[0].peak_rss_mb()
    size = f"{metrics * PER_METRIC} series, {rounds} rounds"
    return publish(rows(timings, "e", size, peak, RSS_LIMIT_MB), quick=options.quick)


if __name__ == "__main__":
    raise SystemExit(main())
