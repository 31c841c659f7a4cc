"""Starts the simulated clusters and says how to collect them."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from aggregator.demo.scenario import Scenario, Switch, add_switch, load_switches
from aggregator.demo.sites import SITES, Site
from aggregator.errors import SourceUnreachableError

_READY_SECONDS = 60.0
_ONSET_MS = 15 * 60_000  # the incident began this long before the demo
_STORY_MS = 3 * 3_600_000  # one that began longer ago is told anew

_CONFIG = """\
# Written by `aggregator demo` at every start; the simulated clusters are gone when it ends.
store: {{path: {store}}}
api: {{listen: '{listen}'}}
collect:
  interval: 15s
  lag: 3s
  raw: [{{match: up}}]
clusters:
{clusters}"""


@dataclass(frozen=True, slots=True)
class DemoFiles:
    """Where the demo keeps what it makes."""

    directory: Path

    @property
    def switches(self) -> Path:
        """The list of scenario switches."""
        return self.directory / "scenario.json"

    @property
    def config(self) -> Path:
        """The configuration that collects the simulated clusters."""
        return self.directory / "fleet.yaml"


def begin_story(files: DemoFiles, now_ms: int) -> None:
    """Let Europe be slow since a quarter of an hour, unless something happened lately."""
    switches = load_switches(files.switches)
    if switches and switches[-1].time_ms > now_ms - _STORY_MS:
        return
    if switches:
        add_switch(files.switches, Switch(now_ms - _STORY_MS, Scenario.CALM))
    add_switch(files.switches, Switch(now_ms - _ONSET_MS, Scenario.EUROPE_SLOW))


@contextmanager
def simulated_fleet(files: DemoFiles, listen: str) -> Iterator[Path]:
    """Run the simulated clusters; yields the configuration that collects them.

    Raises `SourceUnreachableError` if one of them does not start.
    """
    with ExitStack() as stack:
        ports = [_free_port() for _ in SITES]
        processes = [
            stack.enter_context(_process(site, port, files.switches))
            for site, port in zip(SITES, ports, strict=True)
        ]
        for site, port, process in zip(SITES, ports, processes, strict=True):
            _wait_ready(site, port, process)
        clusters = "".join(
            f"  - {{name: {site.name}, region: {site.region}, labels: {{environment: demo}}, "
            f"prometheus: {{url: 'http://127.0.0.1:{port}/prometheus'}}{_loki(site, port)}}}\n"
            for site, port in zip(SITES, ports, strict=True)
        )
        store = files.directory / "store"
        files.config.write_text(_CONFIG.format(store=store, listen=listen, clusters=clusters))
        yield files.config


def _loki(site: Site, port: int) -> str:
    """Return the block of a cluster whose logs are counted."""
    return f", loki: {{url: 'http://127.0.0.1:{port}'}}" if site.affected else ""


@contextmanager
def _process(site: Site, port: int, switches: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "aggregator.demo.server", site.name, str(port), str(switches)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)  # noqa: S603  our own program
    try:
        yield process
    finally:
        if process.stdin is not None:
            process.stdin.close()  # the process ends when its standard input does
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_ready(site: Site, port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if requests.get(f"http://127.0.0.1:{port}/readyz", timeout=2).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.05)
    message = "the simulated cluster did not start; its messages are above"
    raise SourceUnreachableError(site.name, message, kind="refused")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
