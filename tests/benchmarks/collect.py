"""Bar (a): raw copies of five Prometheus against a central Prometheus that federates them.

Both read the same five real Prometheus servers, 20,000 series each at 15 s, in one run. Ours asks
`/api/v1/query`, the peer `/federate`; the sources' own CPU is not counted.
"""

import argparse
import contextlib
import tempfile
import time
from pathlib import Path

from tests.benchmarks.processes import Measured, helper, samples_per_cpu
from tests.benchmarks.report import Row, publish
from tests.servers import aggregator, free_port, prometheus, wait_until

SOURCES, SERIES, SECONDS, WARM_UP = 5, 20_000, 150, 60
INTERVAL = "15s"


def source_config(port: int) -> str:
    """Return the configuration of one source: one target of the exposer."""
    return (
        f"global: {{scrape_interval: {INTERVAL}}}\n"
        "scrape_configs:\n"
        "  - job_name: bench\n"
        f"    static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
    )


def federation_config(urls: list[str]) -> str:
    """Return the configuration of the central Prometheus, one job a source."""
    jobs = [
        f"  - job_name: source-{index}\n"
        "    honor_labels: true\n"
        "    metrics_path: /federate\n"
        "    params: {'match[]': ['{__name__=~\"bench_.*\"}']}\n"
        "    static_configs:\n"
        f"      - targets: ['{url.removeprefix('http://')}']\n"
        f"        labels: {{cluster: source-{index}}}\n"
        for index, url in enumerate(urls)
    ]
    return f"global: {{scrape_interval: {INTERVAL}}}\nscrape_configs:\n" + "".join(jobs)


def fleet_config(urls: list[str]) -> str:
    """Return our configuration: raw copies and nothing else."""
    clusters = [
        f"  - {{name: source-{index}, region: bench, prometheus: {{url: '{url}'}}}}\n"
        for index, url in enumerate(urls)
    ]
    return (
        f"collect:\n  interval: {INTERVAL}\n  lag: 2s\n  profile: []\n"
        "  raw: [{match: '{__name__=~\"bench_.*\"}'}]\n"
        "rules: {files: []}\n"
        "clusters:\n" + "".join(clusters)
    )


def measure(
    ours: Measured, peer: Measured, seconds: float
) -> tuple[float, float, float, float, float, float]:
    """Return CPU s per M samples, samples per s and RSS MB, ours then the peer's."""
    written, appended = (
        "aggregator_samples_written_total",
        "prometheus_tsdb_head_samples_appended_total",
    )
    begun = ours.usage(), peer.usage()
    counted = ours.metric(written), peer.metric(appended)
    time.sleep(seconds)
    ended = ours.usage(), peer.usage()
    stored = ours.metric(written) - counted[0], peer.metric(appended) - counted[1]
    return (
        samples_per_cpu(begun[0], ended[0], stored[0]),
        samples_per_cpu(begun[1], ended[1], stored[1]),
        stored[0] / seconds,
        stored[1] / seconds,
        ended[0].rss_bytes / 2**20,
        ended[1].rss_bytes / 2**20,
    )


def main() -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size, not recorded")
    quick = parser.parse_args().quick
    series, seconds, warm_up = (2_000, 30, 20) if quick else (SERIES, SECONDS, WARM_UP)
    with contextlib.ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        stack.enter_context(helper("tests.benchmarks.exposer", [str(port), str(series)]))
        sources = [
            stack.enter_context(prometheus(base / f"source-{index}", source_config(port)))
            for index in range(SOURCES)
        ]
        urls = [source.url for source in sources]
        central = stack.enter_context(prometheus(base / "central", federation_config(urls)))
        peer = Measured.of(central)
        ours = Measured.of(stack.enter_context(aggregator(base / "ours", fleet_config(urls))))
        expected = SOURCES * series
        wait_until(
            lambda: ours.metric("aggregator_cluster_series") >= expected, 120, "all series arrived"
        )
        time.sleep(warm_up)
        figures = measure(ours, peer, seconds)
    own, theirs, own_rate, their_rate, own_rss, their_rss = figures
    complete = min(own_rate, their_rate) > 0.95 * SOURCES * series / 15
    row = Row(
        "a: raw copies",
        f"{SOURCES} Prometheus of {series} series @ {INTERVAL}, {seconds} s",
        f"{own:.2f} CPU s/M samples ({own_rate:.0f}/s)",
        f"Prometheus federating: {theirs:.2f} CPU s/M ({their_rate:.0f}/s)",
        f"{own / theirs:.2f}",
        "≤ 1.2, both complete",
        f"{own_rss:.0f} MB, peer {their_rss:.0f} MB",
        own / theirs <= 1.2 and complete and not quick,
    )
    return publish([row], quick=quick)


if __name__ == "__main__":
    raise SystemExit(main())
