"""Bar (d): four queries over 28.8 M samples, over HTTP, against Prometheus holding the same.

10,000 counters (20 metrics of 500 series, Poisson increments) over 24 h at 30 s. Ours is
`aggregator serve` on a store filled beforehand; the peer is a Prometheus filled by remote write.
Rounds are interleaved; the table gives minimum and median.
"""

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import requests

from aggregator.model.arrays import Floats, Ints
from aggregator.model.samples import SampleBlock
from aggregator.store.open import open_store
from aggregator.store.settings import StoreSettings
from tests.benchmarks.processes import Measured
from tests.benchmarks.remote_write import series_bytes, write_request
from tests.benchmarks.report import Row, publish
from tests.servers import aggregator, prometheus

METRICS, STEP_MS, HOURS, ROUNDS = 20, 30_000, 24, 7
SLICE = 60  # steps written at once
RSS_LIMIT_MB = 900


@dataclass(frozen=True)
class Case:
    """One query of the table."""

    name: str
    query: str
    instant: bool


CASES = (
    Case("rate, 500 series × 23 h", "rate(bench_counter_07[5m])", instant=False),
    Case("sum by, 500 series × 23 h", "sum by (job) (rate(bench_counter_07[5m]))", instant=False),
    Case(
        "sum by, all series × 23 h",
        'sum by (job) (rate({__name__=~"bench_counter_.*"}[5m]))',
        instant=False,
    ),
    Case("instant rate, all series", 'rate({__name__=~"bench_counter_.*"}[5m])', instant=True),
)


@dataclass(frozen=True)
class Data:
    """The samples that both sides hold."""

    labels: list[dict[str, str]]
    start_ms: int
    steps: int

    @staticmethod
    def make(per_metric: int, end_ms: int) -> "Data":
        """Lay out the series; the last step is at or before *end_ms*."""
        labels = [
            {
                "__name__": f"bench_counter_{metric:02}",
                "cluster": "bench",
                "region": "bench",
                "series": f"{metric:02}-{number:04}",
                "job": f"job-{number % 10}",
                "namespace": f"team-{number % 37}",
                "pod": f"service-{number:05}-{metric}",
                "instance": f"10.0.{number % 17}.{number % 251}:8080",
            }
            for metric in range(METRICS)
            for number in range(per_metric)
        ]
        steps = HOURS * 3_600_000 // STEP_MS
        return Data(labels, end_ms // STEP_MS * STEP_MS - (steps - 1) * STEP_MS, steps)

    def slices(self) -> Iterator[tuple[Ints, Floats]]:
        """Yield times `[steps]` and values `[series, steps]`, oldest first."""
        random = np.random.default_rng(1)
        rates = random.uniform(0.5, 300, len(self.labels))
        level = np.zeros(len(self.labels))
        for first in range(0, self.steps, SLICE):
            count = min(SLICE, self.steps - first)
            times = self.start_ms + STEP_MS * np.arange(first, first + count, dtype=np.int64)
            grown = random.poisson(rates[:, None], (len(self.labels), count)).cumsum(axis=1)
            values = level[:, None] + grown
            level = values[:, -1]
            yield times, values


def fill_store(data: Data, path: Path) -> None:
    """Write the data into a store at *path*."""
    store = open_store(StoreSettings(path=path))
    ids = store.series_ids(data.labels)
    for times, values in data.slices():
        for step in range(0, times.size, 20):
            part = values[:, step : step + 20]
            steps = part.shape[1]
            store.write(
                SampleBlock(
                    np.tile(ids, steps),
                    np.repeat(times[step : step + 20], ids.size),
                    np.ascontiguousarray(part.T).ravel(),
                )
            )
    store.close()


def fill_peer(data: Data, url: str) -> None:
    """Send the data to Prometheus's remote-write receiver."""
    heads = [series_bytes(labels) for labels in data.labels]
    with requests.Session() as session:
        for times, values in data.slices():
            for row in range(0, len(heads), 500):
                body = write_request(heads[row : row + 500], times, values[row : row + 500])
                answer = session.post(f"{url}/api/v1/write", data=body, timeout=120)
                if answer.status_code != 204:
                    raise SystemExit(f"the peer refused the data: {answer.text[:300]}")


def timed(session: requests.Session, base: str, case: Case, data: Data) -> tuple[float, int]:
    """Run *case* once; return milliseconds and how many series came back."""
    end = (data.start_ms + (data.steps - 1) * STEP_MS) // 1000
    parameters = {"query": case.query, "time": str(end)}
    if not case.instant:
        parameters = {
            "query": case.query,
            "start": str(end - 23 * 3600 + 300),
            "end": str(end),
            "step": "300",
        }
    path = "query" if case.instant else "query_range"
    begun = time.perf_counter()
    answer = session.post(f"{base}/api/v1/{path}", data=parameters, timeout=300)
    took = 1000 * (time.perf_counter() - begun)
    if answer.status_code != 200:
        raise SystemExit(f"{base}: {case.name}: {answer.text[:300]}")
    return took, len(answer.json()["data"]["result"])


def compare(ours: Measured, peer: Measured, data: Data, rounds: int) -> list[Row]:
    """Run every case in interleaved rounds and return its rows."""
    session = requests.Session()
    session.headers["Accept-Encoding"] = "identity"
    times: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds + 1):
        for case in CASES:
            counts = set()
            for side, base in (("ours", f"{ours.url}/prometheus"), ("peer", peer.url)):
                took, count = timed(session, base, case, data)
                counts.add(count)
                if number:  # the first round warms both up
                    times.setdefault((side, case.name), []).append(took)
            if len(counts) != 1:
                raise SystemExit(f"{case.name}: the two sides return {counts} series")
    session.close()
    peak = peak_rss_mb(ours.pid)
    size = f"{len(data.labels)} series × {HOURS} h @ 30 s, {rounds} rounds"
    rows = []
    for case in CASES:
        own, theirs = times["ours", case.name], times["peer", case.name]
        ratio = statistics.median(own) / statistics.median(theirs)
        rows.append(
            Row(
                f"d: {case.name}",
                size,
                f"{min(own):.0f}/{statistics.median(own):.0f} ms",
                f"Prometheus: {min(theirs):.0f}/{statistics.median(theirs):.0f} ms",
                f"{ratio:.2f}",
                f"first figures; peak RSS ≤ {RSS_LIMIT_MB} MB",
                f"peak {peak:.0f} MB",
                peak <= RSS_LIMIT_MB,
            )
        )
    return rows


def peak_rss_mb(pid: int) -> float:
    """Return the highest resident size the process ever had, in MiB (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("no VmHWM: this benchmark runs on Linux")


def main() -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size, not recorded")
    parser.add_argument("--fill", metavar="DIRECTORY:SERIES:END_MS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fill:  # a process of its own: its memory is not the server's
        path, series, end = options.fill.rsplit(":", 2)
        fill_store(Data.make(int(series), int(end)), Path(path))
        return 0
    per_metric, rounds = (50, 2) if options.quick else (500, ROUNDS)
    data = Data.make(per_metric, int(time.time() * 1000) - 120_000)
    end_ms = data.start_ms + (data.steps - 1) * STEP_MS
    with contextlib.ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fill = f"{base / 'ours' / 'data'}:{per_metric}:{end_ms}"
        (base / "ours").mkdir()
        subprocess.run([sys.executable, "-m", __spec__.name, "--fill", fill], check=True)
        flags = ["--web.enable-remote-write-receiver"]
        server = stack.enter_context(prometheus(base / "peer", "", flags))
        fill_peer(data, server.url)
        ours = stack.enter_context(aggregator(base / "ours", "clusters: []\n"))
        rows = compare(Measured.of(ours), Measured.of(server), data, rounds)
    return publish(rows, quick=options.quick)


if __name__ == "__main__":
    raise SystemExit(main())
