"""The whole fleet: what is wrong with one cluster is that cluster's alone."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from aggregator import telemetry
from aggregator.collect.collector import Collector
from aggregator.collect.cycle import ClusterCollector
from aggregator.fleet.freshness import Freshness
from aggregator.fleet.registry import Registry
from aggregator.fleet.settings import ClusterSettings, CollectSettings
from aggregator.fleet.view import cluster_views
from aggregator.state.watermarks import Watermarks
from tests.collect.stage import FakePrometheus, Response, Stage, profile, raw_series
from tests.servers import free_port, scripted, wait_until

STORED = {"fleet:m": "x=1", "up": "job=x"}
HEALTHY = ("h1", "h2", "h3")


@contextmanager
def tcp(behave) -> Iterator[str]:
    """Serve connections with *behave(connection)*, each on a thread of its own."""
    stopping = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.1)
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(0.2)
            behave(connection, stopping)

    def accept() -> None:
        while not stopping.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                thread = threading.Thread(target=serve, args=(connection,), daemon=True)
                thread.start()
                threads.append(thread)

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stopping.set()
        acceptor.join(5)
        listener.close()
        for thread in threads:
            thread.join(5)


def hang(_connection: socket.socket, stopping: threading.Event) -> None:
    """Accept and never answer."""
    stopping.wait(60)


def trickle(connection: socket.socket, stopping: threading.Event) -> None:
    """Answer a byte at a time, for ever."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    while not stopping.wait(0.1):
        connection.sendall(b" ")


def html(_request: object) -> Response:
    """Answer with somebody's login page."""
    return Response(200, b"<html>log in", content_type="text/html")


def registry(urls: dict[str, str], region: str = "europe", **collect: object) -> Registry:
    """Return a registry of clusters at *urls*."""
    clusters = [
        ClusterSettings.model_validate({"name": name, "region": region, "prometheus": {"url": url}})
        for name, url in urls.items()
    ]
    settings = {"interval": "1s", "lag": "0s", **collect}
    return Registry(clusters, CollectSettings.model_validate(settings))


@contextmanager
def collecting(stage: Stage, clusters: Registry) -> Iterator[Collector]:
    """Run a collector on the real clock."""
    context = replace(stage.context, now=lambda: int(time.time() * 1000))
    collector = Collector(clusters, profile("m"), context)
    collector.start()
    try:
        yield collector
    finally:
        collector.stop()


def instants(stage: Stage, cluster: str) -> list[int]:
    """Return the times that are stored of `fleet:m` of a cluster."""
    found = stage.samples("fleet:m", cluster=cluster)
    return [at for at, _ in found.get("x=1", [])]


def until(stage: Stage, cluster: str) -> int:
    """Return the watermark of a cluster, 0 without one."""
    mark = stage.context.watermarks.get(cluster, "fleet:things")
    return 0 if mark is None else mark.data_until_ms or 0


@pytest.fixture
def bad_urls() -> Iterator[dict[str, str]]:
    """Serve one cluster for each way of being broken."""
    with ExitStack() as servers:
        yield {
            "hangs": servers.enter_context(tcp(hang)),
            "trickles": servers.enter_context(tcp(trickle)),
            "html": servers.enter_context(scripted(html)).url,
            "refuses": f"http://127.0.0.1:{free_port()}",
        }


def test_no_cluster_delays_another(stage: Stage, bad_urls: dict[str, str], monkeypatch):
    """Beside clusters that hang, trickle, talk HTML or refuse, the healthy ones miss no instant."""
    started = int(time.time() * 1000)
    monkeypatch.setattr("tests.collect.stage.T0", started)
    stage.prometheus.vectors["m"] = lambda _: [({"x": "1"}, 1.0)]
    urls = bad_urls | dict.fromkeys(HEALTHY, stage.server.url)
    clusters = registry(urls, interval="2s")
    with collecting(stage, clusters):
        health = stage.context.health
        wait_until(lambda: all(health.get(n).failures >= 3 for n in bad_urls), 30, "three failures")
        wait_until(lambda: all(until(stage, n) > started + 10_000 for n in HEALTHY), 30, "ticks")
        views = {
            view.cluster: view
            for view in cluster_views(
                Freshness(
                    clusters,
                    {"fleet:m": "things"},
                    stage.context.watermarks,
                    stage.context.gaps,
                    health,
                ),
                stage.context.bindings,
                int(time.time() * 1000),
            )
        }
    for name in HEALTHY:
        times = instants(stage, name)
        assert {after - before for before, after in pairwise(times)} == {2_000}
        assert views[name].state == "ok"
        assert stage.context.gaps.open(name) == ()
    kinds = {name: stage.context.health.get(name).kind for name in bad_urls}
    assert kinds == {
        "hangs": "timeout",
        "trickles": "timeout",
        "html": "html",
        "refuses": "refused",
    }
    for name in bad_urls:
        assert views[name].state == "unreachable"
        assert "next try in" in views[name].error


def test_a_failing_cluster_is_asked_ever_more_rarely(stage: Stage):
    """While the breaker is open a tick asks nothing; then a cheap probe goes first."""
    stage.prometheus.fail = Response(503, b"")
    clock = [1_700_000_000_000]
    collector = Collector(
        stage.registry(), profile("m"), replace(stage.context, now=lambda: clock[0])
    )
    health = stage.context.health
    collector.apply(stage.registry())
    asked = []
    for _ in range(60):
        failures = health.get("a").failures
        wait_until(lambda: not collector._slots["a"].busy.locked(), 10, "the cycle to end")
        clock[0] += 15_000
        before = len(stage.prometheus.queries)
        collector.tick("a")
        wait_until(lambda: not collector._slots["a"].busy.locked(), 10, "the cycle to end")
        asked.append(len(stage.prometheus.queries) > before)
        assert health.get("a").failures <= failures + 2
    assert set(stage.prometheus.queries[1:]) == {"vector(1)"}
    assert sum(asked[:10]) in {4, 5, 6}
    assert sum(asked[-40:]) == 2
    stage.prometheus.fail = None
    stage.prometheus.vectors["m"] = lambda _: [({"x": "1"}, 1.0)]
    clock[0] += 300_000
    collector.tick("a")
    wait_until(lambda: not collector._slots["a"].busy.locked(), 10, "the cycle to end")
    assert health.get("a").failures == 0
    collector._pools.stop()
    collector._slots["a"].collector.close()


def test_an_unexpected_failure_is_the_clusters(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    """A cycle that fails with anything counts as failed: health, breaker and metric hear of it."""

    def broken(_self: ClusterCollector) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(ClusterCollector, "cycle", broken)
    collector = Collector(stage.registry("broken"), profile("m"), stage.context)
    collector.apply(stage.registry("broken"))
    for _ in range(3):
        wait_until(lambda: not collector._slots["broken"].busy.locked(), 10, "the cycle to end")
        collector.tick("broken")
    wait_until(lambda: not collector._slots["broken"].busy.locked(), 10, "the cycle to end")
    health = stage.context.health.get("broken")
    assert (health.failures, health.kind, health.answered_ms) == (3, "internal", None)
    assert health.error == "collection failed unexpectedly; see our log"
    assert health.open_until_ms == stage.clock[0] + 30_000
    assert telemetry.COLLECTIONS.labels("broken", "internal")._value.get() == 3
    collector._pools.stop()
    collector._slots["broken"].collector.close()


def test_reconfiguration_touches_only_what_changed(stage: Stage, monkeypatch):
    """Clusters come, change and go; the others keep their state, the removed one leaves none."""
    monkeypatch.setattr("tests.collect.stage.T0", int(time.time() * 1000))
    other = FakePrometheus(vectors={"m": lambda _: [({"x": "1"}, 1.0)]})
    stage.prometheus.vectors["m"] = lambda _: [({"x": "1"}, 1.0)]
    with scripted(other) as server:
        one, two = {"one": stage.server.url}, {"two": server.url}
        with collecting(stage, registry(one | two)) as collector:
            wait_until(lambda: instants(stage, "one") and instants(stage, "two"), 10, "both")
            kept = collector._slots["one"].collector
            collector.apply(registry(one | {"three": server.url}))
            wait_until(lambda: instants(stage, "three"), 10, "the new one")
            assert collector._slots["one"].collector is kept
            wait_until(lambda: not stage.context.watermarks.of("two"), 10, "no watermark is left")
            seen = len(instants(stage, "two"))
            rest = len(instants(stage, "three"))
            wait_until(lambda: len(instants(stage, "three")) > rest + 1, 10, "more of the new one")
            assert len(instants(stage, "two")) <= seen + 1
            collector.apply(registry(one, lag="1s"))
            assert collector._slots["one"].collector is not kept


def test_series_of_a_cluster_that_left_end(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    """A cluster that moves or leaves ends its series; another interval or our own end does not."""
    started = int(time.time() * 1000) // 1_000 * 1_000
    monkeypatch.setattr("tests.collect.stage.T0", started)
    stage.prometheus.vectors["m"] = lambda _: [({"x": "1"}, 1.0)]
    stage.prometheus.raw[raw_series("up", job="x")] = [(started - 60_000, 1.0)]
    one = {"one": stage.server.url}

    def values(region: str) -> list[list[float | str]]:
        found = [stage.samples(name, region=region).get(key, []) for name, key in STORED.items()]
        return [[value for _, value in row] for row in found]

    def last(region: str) -> list[list[float | str]]:
        return [seen[-1:] for seen in values(region)]

    raw = [{"match": "up"}]
    with collecting(stage, registry(one, raw=raw)) as collector:
        wait_until(lambda: last("europe") == [[1.0], [1.0]], 10, "data")
        collector.apply(registry(one, raw=raw, interval="2s"))
        seen = until(stage, "one")
        wait_until(lambda: until(stage, "one") > seen, 10, "data at another interval")
        assert "stale" not in [value for row in values("europe") for value in row]
        collector.apply(registry(one, "asia", raw=raw))
        wait_until(lambda: last("europe") == [["stale"], ["stale"]], 10, "markers")
        wait_until(lambda: last("asia")[0] == [1.0], 10, "data under the new region")
        collector.apply(registry({}))
        wait_until(lambda: last("asia")[0] == ["stale"], 10, "markers")
        collector.apply(registry(one, "africa", raw=raw))
        wait_until(lambda: last("africa")[0] == [1.0], 10, "data again")
    assert last("africa")[0] == [1.0]


def test_state_of_clusters_that_left_meanwhile(stage: Stage):
    """What left the configuration while we were not running is forgotten at start."""
    stage.context.watermarks.advance("gone", 1_000, with_data=["raw:up"])
    stage.context.watermarks.flush()
    with collecting(stage, registry({"one": stage.server.url})):
        assert stage.context.watermarks.of("gone") == {}


def test_reload_while_the_state_cannot_be_written(stage: Stage):
    """A cluster that cannot be forgotten just now leaves, and others come, all the same."""
    one, two = ({name: stage.server.url} for name in ("one", "two"))
    with collecting(stage, registry(one)) as collector:
        with stage.context.bindings._database.transaction() as connection:
            connection.exec_driver_sql("DROP TABLE bindings")
        collector.apply(registry(two))
        assert list(collector._slots) == ["two"]


def test_age_is_that_of_the_least_fresh_subject(stage: Stage):
    """The metric shows the age that the API shows, and nothing while nothing is expected."""
    stage.prometheus.vectors["m"] = lambda _: [({"x": "1"}, 1.0)]
    age = telemetry.DATA_AGE_SECONDS
    with collecting(stage, registry({"aged": stage.server.url}, raw=[{"match": "up"}])):
        wait_until(lambda: age.labels("aged")._value.get() > 0, 10, "an age")
        assert age.labels("aged")._value.get() < 60
        early = int(time.time() * 1000) - 600_000
        stage.context.watermarks.advance("aged", early, with_data=["raw:up"])
        wait_until(lambda: age.labels("aged")._value.get() >= 600, 10, "the age of raw:up")
        stage.context.watermarks.forget("aged")


def test_state_that_cannot_be_written_is_said_once(stage: Stage):
    """While the state file takes no watermark collection goes on, and the log has one line."""
    stage.prometheus.vectors["m"] = lambda _: [({"x": "1"}, 1.0)]
    failures = telemetry.RUNNER_FAILURES.labels("watermarks")
    before = failures._value.get()
    clusters = registry({"one": stage.server.url})
    with capture_logs() as logged, collecting(stage, clusters) as collector:
        with stage.context.bindings._database.transaction() as connection:
            connection.exec_driver_sql("ALTER TABLE watermarks RENAME TO away")
        wait_until(lambda: not collector._durable, 10, "a failed commit")
        seen = until(stage, "one")
        wait_until(lambda: until(stage, "one") > seen + 3_000, 15, "more data")
        with stage.context.bindings._database.transaction() as connection:
            connection.exec_driver_sql("ALTER TABLE away RENAME TO watermarks")
    said = [entry["event"] for entry in logged if entry["event"].startswith("watermarks are not")]
    assert said == ["watermarks are not durable; trying on"]
    assert failures._value.get() == before
    assert Watermarks(stage.context.bindings._database).get("one", "fleet:things")


def test_clock_set_back(stage: Stage):
    """Collection goes on within an interval, and no watermark stays in the future."""
    stage.prometheus.vectors["m"] = lambda _: [({"x": "1"}, 1.0)]
    offset = [0]
    context = replace(stage.context, now=lambda: int(time.time() * 1000) + offset[0])
    clusters = registry({"one": stage.server.url})
    collector = Collector(clusters, profile("m"), context)
    with capture_logs() as logged:
        collector.start()
        try:
            wait_until(lambda: until(stage, "one"), 10, "data")
            offset[0] = -3_600_000
            wait_until(lambda: until(stage, "one") < context.now() + 1, 10, "a capped watermark")
            capped = until(stage, "one")
            wait_until(lambda: until(stage, "one") > capped, 10, "data after the step")
        finally:
            collector.stop()
    said = [entry["event"] for entry in logged if entry["event"].startswith("the clock")]
    assert said == ["the clock was set back; collecting goes on"]


def test_watermarks_become_durable(stage: Stage):
    """Watermarks reach the state file within seconds, and at the end."""
    stage.prometheus.vectors["m"] = lambda _: [({"x": "1"}, 1.0)]
    with collecting(stage, registry({"one": stage.server.url})):
        wait_until(lambda: stage.context.watermarks.of("one"), 10, "a watermark")
    assert stage.context.watermarks.flush() == 0
