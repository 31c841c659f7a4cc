"""Bar (c): 200,000 new series a minute for ten minutes, and memory after they have expired.

One cluster with its budget lifted is collected by the real collector, writer and store; the clock
is simulated, so that ten minutes take as long as the work does and a day passes at once.
"""

import argparse
import contextlib
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from aggregator.cli.restart import restart_tuned
from aggregator.collect.context import Context
from aggregator.collect.cycle import ClusterCollector
from aggregator.fleet.health import HealthBoard
from aggregator.fleet.registry import Registry
from aggregator.fleet.settings import ClusterSettings, CollectSettings
from aggregator.model.budget import Budget
from aggregator.model.samples import SampleBlock
from aggregator.profile.format import Profile
from aggregator.promql.engine import Engine
from aggregator.runtime import settle_memory
from aggregator.state.bindings import Bindings
from aggregator.state.database import open_database
from aggregator.state.gaps import Gaps
from aggregator.state.watermarks import Watermarks
from aggregator.store.open import open_store
from aggregator.store.process import tune_process
from aggregator.store.settings import StoreSettings
from aggregator.store.writer import StoreWriter
from tests.benchmarks.processes import helper
from tests.benchmarks.report import Row, publish
from tests.servers import answers, free_port, wait_until

SERIES, INTERVAL_SECONDS, MINUTES, WARM_UP = 50_000, 15, 10, 8
DAY_MS = 86_400_000


class Clock:
    """The simulated wall clock, in ms."""

    def __init__(self) -> None:
        self.now_ms = int(time.time() * 1000)

    def __call__(self) -> int:
        """Return the present time."""
        return self.now_ms


def rss_mb() -> float:
    """Return the resident size of this process after what the server does every ten minutes."""
    settle_memory()
    return psutil.Process().memory_info().rss / 2**20


def collector(port: int, series: int, context: Context) -> ClusterCollector:
    """Return the collector of the churning cluster."""
    own = ClusterSettings.model_validate(
        {"name": "one", "region": "bench", "prometheus": {"url": f"http://127.0.0.1:{port}"}}
    )
    defaults = CollectSettings.model_validate(
        {
            "interval": f"{INTERVAL_SECONDS}s",
            "lag": "0s",
            "profile": [],
            "raw": [{"match": "churn_total"}],
            "limits": {"series": 100 * series, "timeout": "60s"},
        }
    )
    (cluster,) = Registry([own], defaults)
    return ClusterCollector(cluster, Profile(()), context)


def cycles(source: ClusterCollector, clock: Clock, count: int) -> None:
    """Run *count* collections, one interval apart."""
    for _ in range(count):
        clock.now_ms += INTERVAL_SECONDS * 1000
        outcome = source.cycle()
        assert outcome is not None, "a cycle was skipped"
        assert outcome.answered, outcome.error


def drain(writer: StoreWriter) -> None:
    """Wait until everything submitted so far is stored."""
    stored = threading.Event()
    writer.submit(SampleBlock.empty(), stored.set, 60)
    assert stored.wait(120)


def main() -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size, not recorded")
    quick = parser.parse_args().quick
    restart_tuned(__spec__.name, sys.argv[1:])  # as the server does
    series, minutes = (5_000, 3) if quick else (SERIES, MINUTES)
    clock = Clock()
    begin = clock.now_ms // 1000 + WARM_UP * INTERVAL_SECONDS
    tune_process()
    with contextlib.ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        arguments = [str(number) for number in (port, series, begin, begin + 60 * minutes)]
        stack.enter_context(helper("tests.benchmarks.fake_churn", arguments))
        ready = f"http://127.0.0.1:{port}/api/v1/query?query=1"
        wait_until(lambda: answers(ready), 20, "the fake source answers")
        store = open_store(StoreSettings(path=base / "store"))
        stack.callback(store.close)
        state = open_database(base / "state.db")
        stack.callback(state.close)
        writer = StoreWriter(store)
        writer.start()
        stack.callback(writer.stop)
        context = Context(
            series=store,
            writer=writer,
            watermarks=Watermarks(state),
            gaps=Gaps(state),
            bindings=Bindings(state),
            health=HealthBoard(),
            now=clock,
            query=lambda query, time_ms: Engine(store).instant(query, time_ms, Budget()),
        )
        source = collector(port, series, context)
        stack.callback(source.close)
        cycles(source, clock, WARM_UP)
        drain(writer)
        before, known = rss_mb(), store.series_count
        begun = time.monotonic()
        cycles(source, clock, minutes * 60 // INTERVAL_SECONDS)
        drain(writer)
        took = time.monotonic() - begun
        peak, churned = rss_mb(), store.series_count - known
        for _ in range(2):  # those that were there last get their stale markers after the first
            clock.now_ms += 2 * DAY_MS
            cycles(source, clock, WARM_UP)
            drain(writer)
        forgotten = store.expire(clock.now_ms - DAY_MS)
        cycles(source, clock, WARM_UP)
        drain(writer)
        after = rss_mb()
    expected = series * minutes * 60 // INTERVAL_SECONDS
    row = Row(
        "c: series churn",
        f"{series * 60 // INTERVAL_SECONDS} new series a minute for {minutes} min "
        f"({churned} in all, {took:.0f} s of work)",
        f"RSS {before:.0f} MB before, {peak:.0f} at its height, {after:.0f} after retention",
        "none",
        f"{after / before:.2f}",
        "≤ 1.20 of before",
        f"{after:.0f} MB",
        after <= 1.2 * before and churned >= expected and forgotten >= expected and not quick,
    )
    return publish([row], quick=quick)


if __name__ == "__main__":
    raise SystemExit(main())
