"""No source delays another: paused, trickling and nonsensical ones beside healthy ones."""

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.servers import Response, aggregator, prometheus, scripted, wait_until

INTERVAL_SECONDS = 2
SCRAPE_SELF = (
    "global: {scrape_interval: 1s}\n"
    "scrape_configs: [{job_name: self, static_configs: [{targets: ['127.0.0.1:%s']}]}]\n"
)


@contextlib.contextmanager
def trickling() -> Iterator[str]:
    """Serve one byte of an answer every 0.2 s; yields the URL."""
    stopping = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.2)

    def drip(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not stopping.wait(0.2):
                connection.sendall(b"{")

    def accept() -> None:
        while not stopping.is_set():
            with contextlib.suppress(TimeoutError):
                threading.Thread(target=drip, args=(listening.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        stopping.set()
        thread.join()
        listening.close()


def cluster(name: str, url: str) -> str:
    """Return one cluster of the configuration."""
    return f"  - {{name: {name}, region: test, prometheus: {{url: '{url}'}}}}\n"


@pytest.mark.integration
def test_sick_sources_do_not_delay_healthy_ones(tmp_path: Path) -> None:
    """Healthy clusters stay on schedule, the API answers, and each sick one is described."""
    page = Response(200, b"<!doctype html><title>Log in</title>", content_type="text/html")
    with contextlib.ExitStack() as stack:
        servers = {}
        for name in ("healthy-1", "healthy-2", "paused"):
            config = "global: {scrape_interval: 1s}\n"
            server = stack.enter_context(prometheus(tmp_path / name, config))
            port = server.url.rsplit(":", 1)[1]
            (tmp_path / name / "prometheus.yml").write_text(SCRAPE_SELF % port)
            requests.post(f"{server.url}/-/reload", timeout=10).raise_for_status()
            servers[name] = server
        urls = {name: server.url for name, server in servers.items()}
        urls["trickling"] = stack.enter_context(trickling())
        urls["html"] = stack.enter_context(scripted(lambda _request: page)).url
        config = (
            f"collect: {{interval: {INTERVAL_SECONDS}s, lag: 1s, profile: [],"
            " raw: [{match: up}]}\n"
            "clusters:\n" + "".join(cluster(name, url) for name, url in urls.items())
        )
        centre = stack.enter_context(aggregator(tmp_path / "centre", config))

        def states() -> dict[str, dict]:
            body = requests.get(f"{centre.url}/api/v1/clusters", timeout=5).json()
            return {source["cluster"]: source for source in body["sources"]}

        def is_ok(*names: str) -> bool:
            found = states()
            return all(found[name]["state"] == "ok" for name in names)

        wait_until(lambda: is_ok("healthy-1", "healthy-2", "paused"), 30, "sources are collected")
        servers["paused"].process.send_signal(signal.SIGSTOP)
        stack.callback(servers["paused"].process.send_signal, signal.SIGCONT)
        ages, slowest = [], 0.0
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            begun = time.monotonic()
            found = states()
            answer = requests.get(
                f"{centre.url}/prometheus/api/v1/query", params={"query": "up"}, timeout=5
            ).json()
            slowest = max(slowest, time.monotonic() - begun)
            ages += [found[name]["age_seconds"] for name in ("healthy-1", "healthy-2")]
            time.sleep(0.2)
        # T is at most one interval and the lag old, and half an interval later it is collected.
        assert max(ages) < 2.5 * INTERVAL_SECONDS + 1 + 1
        assert slowest < 2
        sick = ("paused", "trickling", "html")
        wait_until(
            lambda: all(states()[name]["state"] == "unreachable" for name in sick),
            30,
            "the sick clusters are unreachable",
        )
        found = states()
        assert "HTML" in found["html"]["error"]
        assert "no complete answer in" in found["paused"]["error"]
        assert "no complete answer in" in found["trickling"]["error"]
        answer = requests.get(
            f"{centre.url}/prometheus/api/v1/query", params={"query": "up"}, timeout=5
        ).json()
        warned = " ".join(answer["warnings"])
        assert "paused" in warned
        assert "healthy" not in warned
        metrics = requests.get(f"{centre.url}/metrics", timeout=5).text
        for name in sick:
            failed = [
                line
                for line in metrics.splitlines()
                if line.startswith("aggregator_collections_total{")
                and f'cluster="{name}"' in line
                and 'result="ok"' not in line
            ]
            assert failed, f"no failed collection of {name} in /metrics"
