"""Log metrics of a fleet: apart from Prometheus, and nothing of the lines themselves."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from aggregator import telemetry
from aggregator.collect.collector import Collector, freshness_of
from aggregator.collect.registry_series import RegistrySeries
from aggregator.fleet.health import Outcome
from aggregator.fleet.registry import Registry
from aggregator.fleet.subjects import LOG_METRICS
from aggregator.fleet.view import ClusterView, cluster_views
from aggregator.profile.format import Profile
from tests.collect.lokistage import TEXT, log_profile, loki, registry
from tests.collect.stage import T0, Stage, profile
from tests.servers import Response, wait_until

SHOP = {"namespace": "shop"}
LINE = "card 4111-1111-1111-1111 refused"
BOTH = Profile((*profile("m").metrics, *log_profile("panics", "errors").metrics))


@pytest.fixture
def real_time(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Return the stage on the real clock."""
    monkeypatch.setattr("tests.collect.stage.T0", int(time.time() * 1000))
    stage.prometheus.vectors["m"] = lambda _: [({"x": "1"}, 1.0)]
    return replace(stage, context=replace(stage.context, now=lambda: int(time.time() * 1000)))


@contextmanager
def collecting(stage: Stage, clusters: Registry) -> Iterator[Collector]:
    """Run a collector."""
    collector = Collector(clusters, BOTH, stage.context)
    collector.start()
    try:
        yield collector
    finally:
        collector.stop()


def views(stage: Stage, clusters: Registry) -> dict[str, ClusterView]:
    """Return what the API shows of the clusters."""
    freshness = freshness_of(clusters, BOTH, stage.context)
    found = cluster_views(freshness, stage.context.bindings, stage.context.now())
    return {view.cluster: view for view in found}


def test_a_slow_loki_delays_nobody(real_time: Stage) -> None:
    """While one Loki hangs its Prometheus misses no instant, and another's logs are counted."""
    stage = real_time
    with loki() as (slow, slow_server), loki() as (fast, fast_server):
        slow.hanging = True
        fast.vectors["panics"] = lambda _: [(SHOP, 2.0)]
        urls = {"slow": slow_server.url, "fast": fast_server.url, "none": None}
        clusters = registry(stage, urls, interval="1s", lag="0s")
        health = stage.context.log_health
        with collecting(stage, clusters):
            wait_until(lambda: health.get("slow").failures > 0, 30, "the deadline")
            wait_until(lambda: stage.samples("fleet:panics", cluster="fast"), 30, "logs")
            seen = views(stage, clusters)
        for name in urls:
            times = [at for at, _ in stage.samples("fleet:m", cluster=name)["x=1"]]
            assert {after - before for before, after in pairwise(times)} <= {1_000}
            assert len(times) >= 2
    assert health.get("slow").kind == "timeout"
    assert stage.context.health.get("slow").failures == 0
    assert seen["slow"].error.startswith("Loki: no ")
    states = {
        name: {one.subject: one.state for one in view.subjects} for name, view in seen.items()
    }
    assert states["fast"][LOG_METRICS] == "ok"
    assert states["slow"][LOG_METRICS] == "never"
    assert LOG_METRICS not in states["none"]
    served = {one.metric: one.state for one in seen["fast"].details().bindings}
    assert served["fleet:panics"] == "ok"
    assert "fleet:panics" not in {one.metric for one in seen["none"].details().bindings}


def test_a_planted_line_reaches_nothing_of_ours(
    real_time: Stage, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither store, state, log, health nor our metrics hold what a line says, however it comes."""
    stage = real_time
    streams = {"stream": SHOP, "values": [["1", LINE]]}
    body = {"status": "success", "data": {"resultType": "streams", "result": [streams]}}
    with loki() as (fake, server), capture_logs() as logged:
        fake.refused["panics"] = Response(200, json.dumps(body).encode())
        fake.refused["errors"] = Response(
            400,
            f"pipeline error: 'LabelFilterErr' for series: '{LINE}'".encode(),
            content_type=TEXT,
        )
        clusters = registry(stage, {"a": server.url}, interval="1s", lag="0s")
        with collecting(stage, clusters):
            health = stage.context.log_health
            wait_until(lambda: len(health.get("a").quarantined) == 2, 30, "both refused")
            seen = views(stage, clusters)["a"]
        stage.context.watermarks.flush()
    assert len(fake.asked) >= 2
    assert "log lines" in health.get("a").quarantined["fleet:panics"]
    written = capfd.readouterr()
    held = [
        *(str(one) for one in (logged, seen, seen.details(), health.get("a"), written)),
        telemetry.render().decode(),
        *(path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()),
        str(stage.samples("fleet:panics")) + str(stage.samples("fleet:errors")),
    ]
    held = [text[:200] for text in held if "4111-1111" in text]  # ports and times have no hyphen
    assert not held
    assert (tmp_path / "state.db").exists()


def test_a_loki_that_comes_and_goes(real_time: Stage) -> None:
    """A reload adds log metrics, ends them, and forgets what served them."""
    stage = real_time
    with loki() as (fake, server):
        fake.vectors["panics"] = lambda _: [(SHOP, 2.0)]
        without = registry(stage, {"a": None}, interval="1s", lag="0s")
        with_loki = registry(stage, {"a": server.url}, interval="1s", lag="0s")
        with collecting(stage, without) as collector:
            collector.apply(with_loki)
            wait_until(lambda: stage.samples("fleet:panics"), 30, "logs")
            assert stage.context.bindings.of("a")["fleet:panics"].candidates == ("text",)
            collector.apply(without)
            wait_until(
                lambda: stage.samples("fleet:panics")["namespace=shop"][-1][1] == "stale", 30, "end"
            )
            assert stage.context.bindings.of("a")["fleet:panics"].candidates == ()


def test_own_series_tell_both_sources(stage: Stage) -> None:
    """How a cluster's Loki is asked is told apart from its Prometheus."""
    clusters = registry(stage, {"a": "http://127.0.0.1:1", "b": None})
    stage.context.health.ended("a", Outcome(T0, answered=True, duration_seconds=0.5), None)
    stage.context.log_health.ended(
        "a", Outcome(T0, answered=False, error="x", kind="refused", duration_seconds=2.5), None
    )
    freshness = freshness_of(clusters, BOTH, stage.context)
    RegistrySeries(freshness, BOTH, stage.context).write(T0)
    assert stage.samples("fleet:collection_success", cluster="a") == {
        "source=prometheus": [(0, 1.0)],
        "source=loki": [(0, 0.0)],
    }
    assert stage.samples("fleet:collection_duration_seconds") == {
        "source=prometheus": [(0, 0.5)],
        "source=loki": [(0, 2.5)],
    }
    assert stage.samples("fleet:collection_interval_seconds", cluster="a") == {
        "source=prometheus": [(0, 15.0)],
        "source=loki": [(0, 300.0)],
    }
    assert "source=loki" not in stage.samples("fleet:collection_interval_seconds", cluster="b")
