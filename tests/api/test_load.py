"""Many, heavy and slow clients on a real socket: nobody waits for somebody else's query."""

import contextlib
import re
import socket
import statistics
import time

import numpy as np
import psutil
import pytest

from aggregator.api.protocol import BoundedProtocol
from aggregator.model.samples import SampleBlock
from tests.api.conftest import NOW_MS
from tests.servers import wait_until

API = "/prometheus/api/v1"
TOKENS = [{"name": name, "token": name} for name in ("heavy", "small")]
NOW = NOW_MS // 1000
# Minutes of work, which can be stopped every half a second.
HEAVY = f"query=sum(stddev_over_time(big[1h:1s]))&start={NOW - 10_000}&end={NOW}&step=1"


def _fill(api, series, samples):
    """Store *series* series of *samples* samples, 15 s apart, up to now."""
    ids = api.store.series_ids([{"__name__": "big", "n": str(n)} for n in range(series)])
    times = NOW_MS - 15_000 * np.arange(samples)[::-1]
    values = np.random.default_rng(1).random(series * samples)
    api.store.write(SampleBlock(np.repeat(ids, samples), np.tile(times, series), values))
    api.seed({"__name__": "up"}, [(0, 1.0)])


def _post(api, path, form, token=""):
    """Send a request without waiting for its answer."""
    host, port = api.url.removeprefix("http://").rsplit(":", 1)
    client = socket.create_connection((host, int(port)), timeout=30)
    head = (
        f"POST {API}/{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}\r\n\r\n"
    )
    client.sendall((head + form).encode())
    return client


def _working(api):
    """Return how many requests run or wait, by our own metrics."""
    lines = api.session.get(
        f"{api.url}/metrics", headers={"Authorization": "Bearer small"}, timeout=10
    ).text.splitlines()
    names = ('aggregator_pool_busy_threads{pool="api"}', 'aggregator_pool_waiting_jobs{pool="api"}')
    return sum(float(line.split()[-1]) for line in lines if line.startswith(names))


def test_a_heavy_client_does_not_starve_a_small_one(run):
    """While one client has 50 heavy queries, another one's small ones take fractions of a second.

    Health and metrics answer too, and once the heavy client has gone nothing of it is left.
    """
    with run(tokens=TOKENS, query={"timeout": "60s"}) as api:
        _fill(api, 300, 240)
        # the same question would be answered once
        heavy = [_post(api, "query_range", f"{HEAVY}&n={n}", "heavy") for n in range(50)]
        try:
            wait_until(lambda: _working(api) >= 50, 20, "heavy queries at work")
            seconds = []
            for _ in range(60):
                began = time.perf_counter()
                answer = api.session.get(
                    f"{api.url}{API}/query",
                    params={"query": "up"},
                    headers={"Authorization": "Bearer small"},
                    timeout=20,
                )
                seconds.append(time.perf_counter() - began)
                assert answer.json()["data"]["result"]
            assert statistics.quantiles(seconds, n=100)[98] < 1.5
            assert statistics.median(seconds) < 0.5
            assert api.get("/healthz").status_code == 200
        finally:
            for client in heavy:
                client.close()
        wait_until(lambda: _working(api) == 0, 20, "the end of cancelled queries")


def test_a_query_stops_when_its_client_goes(run):
    """A query of minutes ends within a second or two of its client's leaving."""
    with run() as api:
        _fill(api, 300, 240)
        url = f"{api.url}{API}/query_range?{HEAVY}&timeout=1s"
        assert api.session.get(url, timeout=20).json()["errorType"] == "timeout"
        client = _post(api, "query_range", HEAVY)
        wait_until(lambda: _working(api) == 1, 10, "the query at work")
        client.close()
        wait_until(lambda: _working(api) == 0, 10, "the end of the query")


@pytest.mark.parametrize(
    ("limits", "status", "kind", "advice"),
    [
        ({"timeout": "300ms"}, 503, "timeout", "shorten the range"),
        ({"samples": 10_000}, 422, "execution", "select fewer series"),
        ({"series": 100}, 422, "execution", "add matchers"),
        ({"bytes": "1MiB"}, 422, "execution", "raise the step"),
    ],
)
def test_budgets(run, limits, status, kind, advice):
    """A query above a limit is refused in Prometheus's classes, with what to do about it."""
    with run(query=limits) as api:
        _fill(api, 300, 240)
        query = "sum(stddev_over_time(big[1h:1s]))" if "timeout" in limits else "big"
        answer = api.post(f"{API}/query_range", query=query, start=NOW - 3500, end=NOW, step=1)
    assert (answer.status_code, answer.json()["errorType"]) == (status, kind)
    assert advice in answer.json()["error"]
    assert "data" not in answer.json()


def test_a_client_that_does_not_read_is_cut_off(run, monkeypatch):
    """The rest of an answer that is not read is given up in time."""
    monkeypatch.setattr(BoundedProtocol, "patience_seconds", 0.2)
    with run() as api:
        _fill(api, 1_500, 240)
        form = f"query=big&start={NOW - 3500}&end={NOW}&step=5"
        with _post(api, "query_range", form) as client:
            head = client.recv(1024)
            [size] = re.findall(rb"content-length: ([0-9]+)", head)
            assert int(size) > 25e6  # more than the kernel takes for us
            wait_until(lambda: not _is_open(api, client), 20, "the end of the connection")
            assert len(head) + _rest(client) < int(size)


def _rest(client: socket.socket) -> int:
    """Return how many bytes still come, until the end, a reset, or silence."""
    received = 0
    with contextlib.suppress(TimeoutError, ConnectionResetError):
        while part := client.recv(1 << 20):
            received += len(part)
    return received


def _is_open(api, client: socket.socket) -> bool:
    """Tell whether the server still has its end of *client*'s connection."""
    ends = (int(api.url.rpartition(":")[2]), client.getsockname()[1])
    return any(
        bool(each.raddr) and (each.laddr.port, each.raddr.port) == ends
        for each in psutil.Process().net_connections("tcp")
        if each.status == "ESTABLISHED"
    )


def test_unread_answers_are_bounded(run):
    """While large answers wait for slow readers, further ones are refused; small ones are not."""
    with run(query={"bytes": "30MiB"}) as api:
        _fill(api, 600, 240)
        form = f"query=big&start={NOW - 3500}&end={NOW}&step=5"
        slow = [_post(api, "query_range", form) for _ in range(3)]
        try:
            heads = []
            for client in slow:
                client.settimeout(30)
                heads.append(client.recv(12))
            assert heads.count(b"HTTP/1.1 200") == 1
            assert heads.count(b"HTTP/1.1 503") == 2
            assert api.get(f"{API}/query", query="up").status_code == 200
        finally:
            for client in slow:
                client.close()
        again = {"query": "big", "start": NOW - 3500, "end": NOW, "step": 5}
        wait_until(
            lambda: api.post(f"{API}/query_range", **again).status_code == 200,
            20,
            "room for another answer",
        )
