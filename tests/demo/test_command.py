"""`aggregator demo` as people run it: a picture soon, a story, little work, a clean end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
import requests

from aggregator.demo.sites import SITES
from tests.servers import RealServer, wait_until
from tests.servers import demo as run_demo

pytestmark = pytest.mark.integration

PICTURE_SECONDS = 20.0
END_SECONDS = 15.0
CYCLES = 5
MOST_CPU = 0.10  # of a core, for the four clusters together
NAMES = {site.name for site in SITES}


def values(demo: RealServer, query: str, label: str) -> dict[str, float]:
    """Return the values of an instant query by one label of its series."""
    url = f"{demo.url}/prometheus/api/v1/query"
    answer = requests.get(url, params={"query": query}, timeout=10).json()
    return {row["metric"][label]: float(row["value"][1]) for row in answer["data"]["result"]}


def collections(demo: RealServer) -> float:
    """Return how many collections the least collected cluster has behind it."""
    lines = requests.get(f"{demo.url}/metrics", timeout=10).text.splitlines()
    done = dict.fromkeys(NAMES, 0.0)
    for line in lines:
        for name in NAMES:
            if line.startswith("aggregator_collections_total{") and f'cluster="{name}"' in line:
                done[name] += float(line.rsplit(" ", 1)[1])
    return min(done.values())


def simulated(demo: RealServer) -> Sequence[psutil.Process]:
    """Return the processes of the simulated clusters."""
    return psutil.Process(demo.process.pid).children()


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """Return the CPU time that *processes* have used."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """Run the demo."""
    with run_demo(tmp_path_factory.mktemp("demo")) as running:
        yield running


def test_a_picture_comes_soon(demo: RealServer) -> None:
    """Within 20 s of readiness every cluster answers with its CPU."""
    query = "fleet:cluster_cpu_utilisation_ratio"
    wait_until(
        lambda: set(values(demo, query, "cluster")) == NAMES,
        PICTURE_SECONDS,
        "four clusters have data",
    )


def test_europe_is_in_trouble(demo: RealServer) -> None:
    """From the start the share of failed requests in Europe is above every other region's."""
    query = "max by (region) (fleet:ingress_error_ratio)"
    regions = {site.region for site in SITES}
    wait_until(lambda: set(values(demo, query, "region")) == regions, 60, "regions have data")
    ratios = values(demo, query, "region")
    europe = ratios.pop("europe")
    assert europe > 2 * max(ratios.values())


def test_simulated_clusters_do_little(demo: RealServer) -> None:
    """Between questions about what they have, the four clusters use a tenth of a core at most."""
    history = "count_over_time(fleet:cluster_cpu_utilisation_ratio[110m])"

    def has_history() -> bool:
        found = values(demo, history, "cluster")
        return set(found) == NAMES and min(found.values()) > 400

    wait_until(has_history, 60, "two hours of history")
    processes = simulated(demo)
    assert len(processes) == len(SITES)
    shares = []
    for _ in range(CYCLES):
        first, used, begun = collections(demo), cpu_seconds(processes), time.monotonic()
        wait_until(lambda least=first + 1: collections(demo) >= least, 60, "a collection")
        shares.append((cpu_seconds(processes) - used) / (time.monotonic() - begun))
    assert min(shares) <= MOST_CPU, shares


def test_a_scenario_is_played_and_the_end_is_clean(tmp_path: Path) -> None:
    """`demo scenario` adds a switch to the running demo's file; SIGTERM leaves no process."""
    with run_demo(tmp_path) as demo:
        file = tmp_path / "data" / "scenario.json"
        before = json.loads(file.read_text())
        data = ("--data", str(file.parent))
        for command in ((*data, "scenario", "calm"), ("scenario", "europe-slow", *data)):
            program = [sys.executable, "-m", "aggregator", "demo"]
            subprocess.run([*program, *command], cwd=tmp_path, check=True, timeout=60)
        after = json.loads(file.read_text())
        assert after[:-2] == before
        assert [switch["scenario"] for switch in after[-2:]] == ["calm", "europe-slow"]
        processes = [psutil.Process(demo.process.pid), *simulated(demo)]
        assert len(processes) == 1 + len(SITES)
        os.killpg(demo.process.pid, signal.SIGTERM)
        demo.process.wait(END_SECONDS)
        assert psutil.wait_procs(processes, timeout=END_SECONDS)[1] == []
        assert demo.process.returncode == 0
