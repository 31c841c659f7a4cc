"""Real servers started on free ports and stopped by pid, and a scripted HTTP server.

A real server is a context manager: it starts, waits until it is ready, and prints its log if it
does not become so. Nothing here fakes a module of ours.
"""

import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

READY_SECONDS = 60.0
ROOT = Path(__file__).resolve().parents[1]


def free_port() -> int:
    """Return a TCP port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def binary(name: str) -> str:
    """Return the path of a server's program; skip without it, fail without it in CI."""
    path = shutil.which(name)
    if path is None:
        message = f"{name} is not installed; `make test` as root installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Poll *condition* until it is true; fail the test after *seconds*."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds:g} s")
        time.sleep(0.02)


def answers(url: str) -> bool:
    """Tell whether a GET of *url* answers with success."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310  always http
            return bool(response.status < 400)
    except (urllib.error.URLError, OSError):
        return False


@dataclass
class RealServer:
    """A running server program."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def stop(self) -> None:
        """End the program by its pid and wait for it."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)


@contextmanager
def running(
    command: Sequence[str],
    url: str,
    ready_path: str,
    directory: Path,
    environment: Mapping[str, str] | None = None,
) -> Iterator[RealServer]:
    """Run *command* until the block ends; it is ready once `url + ready_path` answers.

    *environment* is added to our own.
    """
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / f"{Path(command[0]).name}.log"
    environment = {**os.environ, **(environment or {})}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT, env=environment)
    server = RealServer(url, process, log)
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not answers(url + ready_path):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{command[0]} is not ready:\n{log.read_text()[-4000:]}")
            time.sleep(0.05)
        yield server
    finally:
        server.stop()


@contextmanager
def prometheus(
    directory: Path, config: str = "", flags: Sequence[str] = ()
) -> Iterator[RealServer]:
    """Run Debian's Prometheus with *config* (YAML) and its data below *directory*."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "prometheus.yml").write_text(config or "global: {scrape_interval: 1h}\n")
    port = free_port()
    command = [
        binary("prometheus"),
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-lifecycle",
        *flags,
    ]
    with running(command, f"http://127.0.0.1:{port}", "/-/ready", directory) as server:
        yield server


@contextmanager
def alertmanager(directory: Path, config: str) -> Iterator[RealServer]:
    """Run Debian's Alertmanager with *config* (YAML)."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "alertmanager.yml").write_text(config)
    port = free_port()
    command = [
        binary("prometheus-alertmanager"),
        f"--config.file={directory / 'alertmanager.yml'}",
        f"--storage.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with running(command, f"http://127.0.0.1:{port}", "/-/ready", directory) as server:
        yield server


@contextmanager
def victoria_metrics(directory: Path, flags: Sequence[str] = ()) -> Iterator[RealServer]:
    """Run Debian's single-node VictoriaMetrics."""
    port = free_port()
    command = [
        binary("victoria-metrics"),
        f"-storageDataPath={directory / 'data'}",
        f"-httpListenAddr=127.0.0.1:{port}",
        *flags,
    ]
    with running(command, f"http://127.0.0.1:{port}", "/health", directory) as server:
        yield server


@contextmanager
def aggregator(directory: Path, config: str, ready_path: str = "/readyz") -> Iterator[RealServer]:
    """Run `aggregator serve` on *config*, which must not say where it listens or stores."""
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    file = directory / "fleet.yaml"
    head = f"api: {{listen: '127.0.0.1:{port}'}}\nstore: {{path: {directory / 'data'}}}\n"
    file.write_text(head + config)
    command = [sys.executable, "-m", "aggregator", "serve", "-c", str(file)]
    with running(command, f"http://127.0.0.1:{port}", ready_path, directory) as server:
        yield server


@contextmanager
def demo(directory: Path) -> Iterator[RealServer]:
    """Run `aggregator demo` with its files in *directory*, in a process group of its own."""
    listen = f"127.0.0.1:{free_port()}"
    options = ["--data", str(directory / "data"), "--listen", listen]
    command = ["setsid", sys.executable, "-m", "aggregator", "demo", *options]
    with running(command, f"http://{listen}", "/readyz", directory) as server:
        yield server


@dataclass(frozen=True)
class Request:
    """A request that a scripted server received."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Response:
    """What a scripted server answers."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


@dataclass
class ScriptedServer:
    """An HTTP server that answers what a function of the request says, and remembers requests."""

    url: str
    requests: list[Request]


@contextmanager
def scripted(answer: Callable[[Request], Response]) -> Iterator[ScriptedServer]:
    """Serve *answer* on a free port; an exception in it is a failed test."""
    failures: list[BaseException] = []
    received: list[Request] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            parts = urlsplit(self.path)
            request = Request(
                self.command,
                parts.path,
                tuple(parse_qsl(parts.query, keep_blank_values=True)),
                {name.lower(): value for name, value in self.headers.items()},
                self.rfile.read(length),
            )
            received.append(request)
            try:
                response = answer(request)
            except BaseException as error:  # noqa: BLE001  handed to the test below
                failures.append(error)
                response = Response(500, repr(error).encode(), content_type="text/plain")
            self.send_response(response.status)
            self.send_header("Content-Type", response.content_type)
            self.send_header("Content-Length", str(len(response.body)))
            for name, value in response.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(response.body)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _serve  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Keep the test's output clean."""

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Ignore clients that hang up: tests cut connections on purpose."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield ScriptedServer(f"http://127.0.0.1:{server.server_port}", received)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
    if failures:
        raise failures[0]
