"""Starts what is measured as processes of their own, and reads their CPU and memory."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import requests

from tests.servers import RealServer


@dataclass(frozen=True)
class Usage:
    """What a process has used so far, at one moment of the wall clock."""

    wall_seconds: float
    cpu_seconds: float
    rss_bytes: int


@dataclass
class Measured:
    """A process under measurement."""

    url: str
    pid: int

    @staticmethod
    def of(server: RealServer) -> "Measured":
        """Measure a server that the tests started."""
        return Measured(server.url, server.process.pid)

    def usage(self) -> Usage:
        """Return what it has used until now."""
        process = psutil.Process(self.pid)
        times = process.cpu_times()
        return Usage(time.monotonic(), times.user + times.system, process.memory_info().rss)

    def metric(self, name: str) -> float:
        """Return the sum of one metric of its /metrics."""
        body = requests.get(self.url + "/metrics", timeout=30).text
        values = [
            float(line.rsplit(" ", 1)[1])
            for line in body.splitlines()
            if line.startswith((name + " ", name + "{"))
        ]
        return sum(values)


@contextmanager
def helper(module: str, arguments: Sequence[str]) -> Iterator[int]:
    """Run a module of the benchmarks as a process that ends with the block; yields its pid."""
    process = subprocess.Popen([sys.executable, "-m", module, *arguments])
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(10)


def samples_per_cpu(before: Usage, after: Usage, samples: float) -> float:
    """Return the CPU seconds one million samples took between two readings."""
    return (after.cpu_seconds - before.cpu_seconds) / samples * 1e6
