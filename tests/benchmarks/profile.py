"""What the whole profile costs a real Prometheus: CPU of a cycle, and of each metric.

`python -m tests.benchmarks.profile FOLDER [--minutes 16]`: a Prometheus scrapes the components in
FOLDER every 15 s until the windows of all rates are full. Then it stops scraping, so that what its
process uses is what the queries cost, and the profile is asked at the last instant.
"""

import argparse
import re
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from aggregator.profile.batch import batch_expression, batches, substitute
from aggregator.profile.format import Bound, Source
from aggregator.profile.load import load_profile
from tests.benchmarks.processes import Measured
from tests.expositions import exposed
from tests.profile.asking import ask, onboard
from tests.servers import prometheus

SCRAPE = "15s"
INTERVAL_SECONDS = 30.0
_IDLE = "global: {scrape_interval: 1h}\n"


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


def federate(server: Measured, bound: list[Bound]) -> None:
    """Print what it costs to read the series that *bound* is made of by `/federate`.

    While the server scrapes: the cheapest of many readings is one without a scrape beside it.
    """
    exprs = [substitute(item.candidate.expr or "vector(0)", "") for item in bound]
    names = sorted({name for expr in exprs for name in re.findall(r"\b[a-z_:]+(?=\{)", expr)})
    query = urllib.parse.urlencode([("match[]", f'{{__name__="{name}"}}') for name in names])
    request = urllib.request.Request(f"{server.url}/federate?{query}")  # noqa: S310

    def read() -> bytes:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            return bytes(response.read())

    body = read()
    series = sum(not line.startswith(b"#") for line in body.splitlines())
    cost = min(cpu_seconds(server, read, 5) for _ in range(3))
    print(f"/federate of the same: {series} series, {len(body)} bytes, {1000 * cost:.0f} ms")


def report(server: Measured, bound: list[Bound], at: float) -> None:
    """Print what a cycle costs, then each metric alone, dearest first."""
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
    share = total / INTERVAL_SECONDS
    print(f"a cycle: {1000 * total:.1f} ms of CPU, {100 * share:.2f} % of a core every 30 s")
    costs = []
    for item in bound:
        if item.candidate.expr is not None:
            expr = batch_expression([item], "")
            cost = cpu_seconds(server, lambda expr=expr: instant(server.url, expr, at), 20)
            costs.append((1000 * cost, item.metric.name, item.candidate.id))
    for cost, name, candidate in sorted(costs, reverse=True):
        print(f"{cost:7.2f} ms  {name} ({candidate})")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=16.0)
    options = parser.parse_args()
    profile = load_profile("kubernetes").served_by(Source.PROMETHEUS)
    with tempfile.TemporaryDirectory() as base, exposed(options.folder) as cluster:
        config = cluster.scrape_config(SCRAPE)
        with prometheus(Path(base), config) as running:
            server = Measured.of(running)
            time.sleep(60 * options.minutes)
            at = time.time()
            series = ask(server.url, 'count({__name__!=""})')[0][1]
            print(f"{series:.0f} series")
            bound = onboard(server.url, profile)
            federate(server, bound)
            (Path(base) / "prometheus.yml").write_text(_IDLE)
            urllib.request.urlopen(f"{server.url}/-/reload", b"", timeout=30).close()  # noqa: S310
            report(server, bound, at)


if __name__ == "__main__":
    main()
