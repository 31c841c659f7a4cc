"""Bar (g): the whole profile on a real Prometheus of 36,000 series, against `/federate`.

A Prometheus scrapes every component of a real node each 15 s. `aggregator serve` records the
bundled profile from it, and beside it a central Prometheus federates the series that the bound
metrics are made of, until the windows of all rates are full; the last minutes are measured. Then
the source stops scraping, so that what its process uses is what the queries cost, and the profile
is asked at the last instant: as a whole, and metric by metric.
"""

import argparse
import contextlib
import re
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aggregator.profile.batch import batch_expression, batches, substitute
from aggregator.profile.format import Bound, Source
from aggregator.profile.load import load_profile
from tests.benchmarks.processes import Measured
from tests.benchmarks.report import Row, publish
from tests.expositions import exposed
from tests.profile.asking import ask, onboard
from tests.servers import aggregator, prometheus, wait_until

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "expositions" / "kubernetes-1.35"
SCRAPE = "15s"
INTERVAL_SECONDS = 30
# What a metric reads at most, and how much of the end of it is measured.
WINDOW_SECONDS, MEASURED_SECONDS = 960, 300
_ANSWERED = 'prometheus_http_requests_total{code="200",handler="/api/v1/query"}'


def fleet_config(url: str) -> str:
    """Return our configuration: the bundled profile alone, as it is asked by default."""
    return (
        f"collect: {{interval: {INTERVAL_SECONDS}s, profile: kubernetes}}\n"
        "rules: {files: []}\n"
        f"clusters: [{{name: source, region: bench, prometheus: {{url: '{url}'}}}}]\n"
    )


def federation_config(url: str, names: Sequence[str]) -> str:
    """Return the configuration of a Prometheus that federates the metrics *names*."""
    matches = ", ".join(f"'{{__name__=\"{name}\"}}'" for name in names)
    return (
        f"global: {{scrape_interval: {INTERVAL_SECONDS}s}}\n"
        "scrape_configs:\n"
        "  - job_name: source\n"
        "    honor_labels: true\n"
        "    metrics_path: /federate\n"
        f"    params: {{'match[]': [{matches}]}}\n"
        f"    static_configs: [{{targets: ['{url.removeprefix('http://')}']}}]\n"
    )


def read_metrics(bound: Sequence[Bound]) -> list[str]:
    """Return the names of the metrics that *bound* is made of."""
    exprs = [substitute(item.candidate.expr or "", "") for item in bound]
    return sorted(
        {name for expr in exprs for name in re.findall(r"\b[a-z_:][a-z0-9_:]*(?=\{)", expr)}
    )


@dataclass(frozen=True)
class Steady:
    """What one of the two that read the source uses while it does: CPU as a share of a core."""

    share: float
    samples_per_minute: float
    rss_mb: float


def steady(
    ours: Measured, peer: Measured, source: Measured, seconds: float
) -> tuple[Steady, Steady, float]:
    """Return what ours and the peer use for *seconds*, and how many requests a cycle takes."""
    counters = (
        (ours, "aggregator_samples_written_total"),
        (peer, "prometheus_tsdb_head_samples_appended_total"),
        (source, _ANSWERED),
    )
    begun = ours.usage(), peer.usage()
    counted = [server.metric(name) for server, name in counters]
    time.sleep(seconds)
    ended = ours.usage(), peer.usage()
    written, appended, answered = (
        server.metric(name) - before
        for (server, name), before in zip(counters, counted, strict=True)
    )
    found = [
        Steady(
            (after.cpu_seconds - before.cpu_seconds) / (after.wall_seconds - before.wall_seconds),
            60 * samples / seconds,
            after.rss_bytes / 2**20,
        )
        for before, after, samples in zip(begun, ended, (written, appended), strict=True)
    ]
    return found[0], found[1], answered * INTERVAL_SECONDS / seconds


def instant(url: str, expr: str, at: float) -> bytes:
    """Return the answer of an instant query as it is sent."""
    body = urllib.parse.urlencode({"query": expr, "time": f"{at:.3f}"}).encode()
    with urllib.request.urlopen(f"{url}/api/v1/query", body, timeout=60) as response:  # noqa: S310
        return bytes(response.read())


def cpu_seconds(server: Measured, ask_once: Callable[[], object], times: int) -> float:
    """Return the CPU that the server uses for one request: the least mean of three rounds."""
    means = []
    for _ in range(3):
        before = server.usage()
        for _ in range(times):
            ask_once()
        means.append((server.usage().cpu_seconds - before.cpu_seconds) / times)
    return min(means)


def federation_seconds(server: Measured, names: Sequence[str]) -> tuple[float, int]:
    """Return the CPU for one reading of the metrics *names* by `/federate`, and their series.

    While the server scrapes, since nothing is there to be read afterwards: the cheapest of many
    readings is one without a scrape beside it.
    """
    query = urllib.parse.urlencode([("match[]", f'{{__name__="{name}"}}') for name in names])
    request = urllib.request.Request(f"{server.url}/federate?{query}")  # noqa: S310

    def read() -> bytes:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            return bytes(response.read())

    body = read()
    series = sum(not line.startswith(b"#") for line in body.splitlines())
    print(f"/federate: {len(body)} bytes")
    return min(cpu_seconds(server, read, 5) for _ in range(3)), series


def cycle_seconds(server: Measured, bound: list[Bound], at: float) -> float:
    """Return the source's CPU for one cycle; print it by request, and by metric, dearest first."""
    total = 0.0
    for number, batch in enumerate(batches(bound)):
        expr = batch_expression(batch, "")
        size = len(instant(server.url, expr, at))
        cost = cpu_seconds(server, lambda expr=expr: instant(server.url, expr, at), 20)
        total += cost
        print(
            f"request {number}: {len(batch)} expressions, {len(expr)} bytes asked, "
            f"{size} answered, {1000 * cost:.1f} ms"
        )
    costs = []
    for item in bound:
        if item.candidate.expr is not None:
            expr = batch_expression([item], "")
            cost = cpu_seconds(server, lambda expr=expr: instant(server.url, expr, at), 20)
            costs.append((1000 * cost, item.metric.name, item.candidate.id))
    for cost, name, candidate in sorted(costs, reverse=True):
        print(f"{cost:7.2f} ms  {name} ({candidate})")
    return total


@dataclass(frozen=True)
class Found:
    """What the run found: CPU in seconds of the source for one reading, and the rest of the row."""

    ours: Steady
    peer: Steady
    requests: float
    series: float
    candidates: int
    asking_seconds: float
    reading_seconds: float
    read_series: int


def measure(base: Path, filling: float, seconds: float) -> Found:
    """Run all servers with their data below *base*, and return what they used."""
    profile = load_profile("kubernetes").served_by(Source.PROMETHEUS)
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(exposed(FOLDER))
        config = cluster.scrape_config(SCRAPE)
        source = Measured.of(stack.enter_context(prometheus(base / "source", config)))
        scraped = f"count(up == 1 and up offset 20s == 1) == {len(cluster.components)}"
        wait_until(lambda: ask(source.url, scraped), 120, "every component is scraped twice")
        names = read_metrics(onboard(source.url, profile))
        central = prometheus(base / "central", federation_config(source.url, names))
        peer = Measured.of(stack.enter_context(central))
        serving = aggregator(base / "ours", fleet_config(source.url))
        ours = Measured.of(stack.enter_context(serving))
        time.sleep(filling)
        own, theirs, requests = steady(ours, peer, source, seconds)
        at = time.time()
        series = ask(source.url, 'count({__name__!=""})')[0][1]
        bound = onboard(source.url, profile)
        reading, read_series = federation_seconds(source, read_metrics(bound))
        (base / "source" / "prometheus.yml").write_text("global: {scrape_interval: 1h}\n")
        urllib.request.urlopen(f"{source.url}/-/reload", b"", timeout=30).close()  # noqa: S310
        asking = cycle_seconds(source, bound, at)
    return Found(own, theirs, requests, series, len(bound), asking, reading, read_series)


def main() -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two minutes, not recorded")
    quick = parser.parse_args().quick
    if not FOLDER.is_dir():
        print(f"skipped: there are no expositions in {FOLDER}")
        return 0 if quick else 1
    filling, seconds = (60, 60) if quick else (WINDOW_SECONDS - MEASURED_SECONDS, MEASURED_SECONDS)
    with tempfile.TemporaryDirectory() as base:
        found = measure(Path(base), filling, seconds)
    own, theirs = found.ours, found.peer
    share = found.asking_seconds / INTERVAL_SECONDS
    row = Row(
        "g: the whole profile",
        f"1 Prometheus of {found.series:.0f} series @ {SCRAPE}, {found.candidates} candidates "
        f"bound, asked each {INTERVAL_SECONDS} s, {seconds} s",
        f"{found.requests:.1f} requests a cycle; source {1000 * found.asking_seconds:.0f} ms of "
        f"CPU ({100 * share:.2f} % of a core), ours {100 * own.share:.2f} %, "
        f"{own.samples_per_minute:.0f} samples stored a minute",
        f"/federate of the same {found.read_series} series: source "
        f"{1000 * found.reading_seconds:.0f} ms, central Prometheus {100 * theirs.share:.2f} %, "
        f"{theirs.samples_per_minute:.0f} samples a minute",
        f"{found.asking_seconds / found.reading_seconds:.2f} (source)",
        "≤ 3 requests, source ≤ 1 % of a core",
        f"{own.rss_mb:.0f} MB, peer {theirs.rss_mb:.0f} MB",
        found.requests <= 3 and share <= 0.01 and not quick,
    )
    return publish([row], quick=quick)


if __name__ == "__main__":
    raise SystemExit(main())
