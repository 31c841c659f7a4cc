"""What was acknowledged survives kill -9: the watermark never promises what is not stored."""

import random
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from tests.expositions import exposed
from tests.integration.fidelity import ask, samples
from tests.servers import RealServer, aggregator, free_port, prometheus, wait_until

SELECTOR = '{__name__=~"node_.*|process_.*"}'
KILLS = 10


def watermark_ms(directory: Path) -> int:
    """Return how far the state says that the copies reach, 0 before the first."""
    with sqlite3.connect(directory / "data" / "state.db") as state:
        rows = state.execute("select max(data_until_ms) from watermarks").fetchall()
    return rows[0][0] or 0


@pytest.mark.integration
@pytest.mark.timeout(300)
def test_acknowledged_samples_survive_kill_9(tmp_path: Path, shared_dir: Path) -> None:
    """After ten kills every sample up to the watermark is there once, equal to the source's."""
    dice = random.Random(7)
    with exposed(shared_dir / "expositions" / "node-exporter") as cluster:
        config = cluster.scrape_config("1s")
        with prometheus(tmp_path / "source", config) as source:
            count = f"count({SELECTOR})"
            wait_until(lambda: ask(source.url, count, time.time()), 30, "the source has data")
            begin_ms = int(time.time() * 1000)
            fleet = (
                "collect: {interval: 1s, lag: 1s, profile: [],"
                f" raw: [{{match: '{SELECTOR}'}}]}}\n"
                f"clusters: [{{name: one, region: test, prometheus: {{url: '{source.url}'}}}}]\n"
            )
            # Looked at with the source out of reach, or the overlap would bring back what was lost.
            alone = fleet.replace(source.url, f"http://127.0.0.1:{free_port()}")
            reached = []
            for _ in range(KILLS):
                with aggregator(tmp_path / "centre", fleet, "/healthz") as centre:
                    time.sleep(dice.uniform(0.3, 4.0))
                    centre.process.send_signal(signal.SIGKILL)
                    centre.process.wait(10)
                until_ms = watermark_ms(tmp_path / "centre")
                if until_ms > begin_ms:
                    with aggregator(tmp_path / "centre", alone, "/healthz") as centre:
                        compare(source, centre, begin_ms, until_ms)
                reached.append(until_ms)
    assert reached == sorted(reached)
    assert reached[-1] > begin_ms


def compare(source: RealServer, centre: RealServer, begin_ms: int, until_ms: int) -> None:
    """Fail unless the centre has each of the source's samples in (begin, until] once, unchanged."""
    selector, end = f"{SELECTOR}[{until_ms - begin_ms}ms]", until_ms / 1000
    theirs = samples(ask(source.url, selector, end))
    rows = ask(f"{centre.url}/prometheus", selector, end)
    ours = samples(rows)
    assert len(ours) == len(rows), "a series is there twice"
    for labels, pairs in theirs.items():
        expected = {stamp: value for stamp, value in pairs.items() if stamp > begin_ms}
        stored = {stamp: value for stamp, value in ours[labels].items() if stamp > begin_ms}
        assert stored == expected, f"{labels}: {stored} is not {expected}"
