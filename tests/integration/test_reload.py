"""A running server takes up what is edited, and says what it keeps instead, and why."""

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.servers import RealServer, free_port, prometheus, running, wait_until

pytestmark = pytest.mark.integration

SECONDS = 40.0  # a file is looked at every 2 s; the rest is for busy machines
SCRAPE_SELF = (
    "global: {scrape_interval: 1s}\n"
    "scrape_configs: [{job_name: self, static_configs: [{targets: ['%s']}]}]\n"
)


@dataclass(frozen=True)
class Files:
    """The configuration of a server on *port*; all of its clusters share one Prometheus."""

    directory: Path
    port: int
    source: str

    @property
    def main(self) -> Path:
        """The configuration."""
        return self.directory / "fleet.yaml"

    def write(self, *names: str, store: str = "retention: 30d") -> None:
        """Write a configuration with the clusters *names*."""
        self.main.write_text(
            f"api: {{listen: '127.0.0.1:{self.port}'}}\n"
            f"store: {{path: {self.directory / 'data'}, backend: memory, {store}}}\n"
            "rules: {files: []}\n"
            "collect: {interval: 1s, lag: 1s, profile: [], raw: [{match: up}]}\n"
            "include: [clusters.d/*.yaml]\n" + self.clusters(*names)
        )

    def clusters(self, *names: str) -> str:
        """Return a list of clusters, each on a line of its own."""
        return "clusters:\n" + "".join(
            f"  - {{name: {name}, region: test, prometheus: {{url: '{self.source}'}}}}\n"
            for name in names
        )


@dataclass
class Fleet:
    """A running server and its files."""

    server: RealServer
    files: Files

    def states(self) -> Mapping[str, str]:
        """Return the state of every cluster that the server knows."""
        answer = requests.get(f"{self.server.url}/api/v1/clusters", timeout=10).json()
        return {source["cluster"]: source["state"] for source in answer["sources"]}

    def collected(self) -> set[str]:
        """Return the clusters of which a query at this moment has data."""
        url, query = f"{self.server.url}/prometheus/api/v1/query", {"query": "up"}
        answer = requests.get(url, params=query, timeout=10).json()
        return {row["metric"]["cluster"] for row in answer["data"]["result"]}

    def logged(self, *words: str) -> int:
        """Return how many lines of the log contain all *words*."""
        lines = self.server.log.read_text().splitlines()
        return sum(all(word in line for word in words) for line in lines)

    def becomes(self, *names: str) -> None:
        """Wait until exactly *names* are known, and all of them collected."""
        expected = dict.fromkeys(names, "ok")
        wait_until(lambda: self.states() == expected, SECONDS, f"{names} are collected")
        wait_until(lambda: self.collected() >= set(names), SECONDS, f"{names} have data")


@pytest.fixture(scope="module")
def running_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Run a real Prometheus and a server."""
    directory = tmp_path_factory.mktemp("reload")
    with prometheus(directory / "source", "global: {scrape_interval: 1s}\n") as source:
        config = directory / "source" / "prometheus.yml"
        config.write_text(SCRAPE_SELF % source.url.removeprefix("http://"))
        requests.post(f"{source.url}/-/reload", timeout=10).raise_for_status()
        files = Files(directory, free_port(), source.url)
        files.write("first")
        url = f"http://127.0.0.1:{files.port}"
        command = [sys.executable, "-m", "aggregator", "serve", "-c", str(files.main)]
        with running(command, url, "/readyz", directory / "centre") as server:
            yield Fleet(server, files)


@pytest.fixture
def fleet(running_fleet: Fleet) -> Fleet:
    """Return the running server with one cluster, whatever the test before has left."""
    for file in running_fleet.files.directory.glob("clusters.d/*"):
        file.unlink()
    running_fleet.files.write("first")
    running_fleet.becomes("first")
    return running_fleet


def test_clusters_come_and_go_with_the_file(fleet: Fleet) -> None:
    """An added cluster is collected without a restart, and a removed one is not listed."""
    fleet.files.write("first", "second")
    fleet.becomes("first", "second")
    fleet.files.write("second")
    fleet.becomes("second")


def test_an_included_file_is_taken_up(fleet: Fleet) -> None:
    """A file that appears under `include` adds its clusters, and takes them along when it goes."""
    extra = fleet.files.directory / "clusters.d" / "more.yaml"
    extra.parent.mkdir(exist_ok=True)
    extra.write_text(fleet.files.clusters("third", "fourth"))
    fleet.becomes("first", "third", "fourth")
    extra.write_text(fleet.files.clusters("fourth"))
    fleet.becomes("first", "fourth")
    extra.unlink()
    fleet.becomes("first")


def test_sighup_reads_the_file_again(fleet: Fleet) -> None:
    """SIGHUP takes up an edit that leaves no trace in the file's size and times."""
    before = fleet.files.main.stat()
    fleet.files.write("other")
    os.utime(fleet.files.main, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert fleet.files.main.stat().st_size == before.st_size
    fleet.server.process.send_signal(signal.SIGHUP)
    fleet.becomes("other")


@pytest.mark.parametrize(
    ("broken", "line", "says"),
    [
        ("clusters: [", 2, ""),
        ("clusters:\n  - {name: first, region: test, prometheus: {ulr: 'http://x'}}", 2, "ulr"),
        ("clusters: []\nclusters: []", 2, ""),
    ],
    ids=["syntax", "unknown key", "duplicate key"],
)
def test_a_broken_file_keeps_what_runs(fleet: Fleet, broken: str, line: int, says: str) -> None:
    """A broken configuration is refused with file and line, and collection goes on."""
    place = f"{fleet.files.main}:{line}"
    known = fleet.logged("the running one stays", place, says)
    fleet.files.main.write_text(f"{broken}\n")
    wait_until(
        lambda: fleet.logged("the running one stays", place, says) > known,
        SECONDS,
        f"the log names {place}",
    )
    fleet.becomes("first")


def test_what_needs_a_restart_is_said(fleet: Fleet) -> None:
    """A changed `store` keeps its running value with a warning; the clusters beside it apply."""
    fleet.files.write("first", "fifth", store="retention: 7d")
    fleet.becomes("first", "fifth")
    assert fleet.logged("needs a restart", "store") == 1
