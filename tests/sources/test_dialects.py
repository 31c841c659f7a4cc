"""Dialects: what a server turns out to be, and how it is asked because of that."""

import time
import urllib.request
from pathlib import Path

import pytest

from aggregator.errors import SourceUnreachableError
from aggregator.sources.dialects import DialectName, of_address
from aggregator.sources.prometheus import PrometheusSource
from aggregator.sources.settings import PrometheusSettings
from tests.servers import (
    Request,
    Response,
    free_port,
    prometheus,
    scripted,
    victoria_metrics,
    wait_until,
)

EMPTY = b'{"status":"success","data":{"resultType":"vector","result":[]}}'
VICTORIA = {"X-Server-Hostname": "vm"}
BUILD = '{{"status":"success","data":{}}}'


def source_of(*urls: str, **settings: object) -> PrometheusSource:
    """Return a source of these replicas."""
    given = {"replicas": urls, **settings}
    return PrometheusSource("a", PrometheusSettings.model_validate(given), timeout_seconds=5)


@pytest.mark.parametrize(
    ("data", "headers", "name", "params"),
    [
        ('{"version":"2.42.0+ds","revision":"x"}', {}, "prometheus", set()),
        ('{"version":"3.5.0","revision":"x"}', {}, "prometheus", set()),
        ('{"version":"v0.0.95","revision":"x"}', {}, "prometheus", set()),
        (
            '{"version":"0.37.2","revision":"x"}',
            {},
            "thanos",
            {("dedup", "true"), ("partial_response", "true")},
        ),
        ('{"application":"Grafana Mimir","version":"2.10.5"}', {}, "mimir", set()),
        ("{}", VICTORIA, "victoriametrics", {("nocache", "1")}),
        (
            '{"version":"2.24.0"}',
            {"X-Server-Hostname": "vm"},
            "victoriametrics",
            {("nocache", "1")},
        ),
        ("[1]", {}, "prometheus", set()),
    ],
)
def test_what_a_server_says_of_itself(data, headers, name, params):
    """A server is recognised by its build information, and queries carry what it needs."""

    def answer(request: Request) -> Response:
        if request.path == "/api/v1/status/buildinfo":
            return Response(200, BUILD.format(data).encode(), headers)
        return Response(200, EMPTY, headers)

    with scripted(answer) as server:
        source = source_of(server.url)
        assert source.find_dialect(3.0)
        assert source.dialect.name == name
        source.instant("up", 1_000)
        assert source.find_dialect(3.0)
        asked = set(server.requests[-1].query)
        assert len(server.requests) == 2
    assert {pair for pair in asked if pair[0] not in {"query", "time", "timeout"}} == params


@pytest.mark.parametrize(
    ("status", "body", "found"),
    [(404, b"no such page", True), (200, b"<html>log in", True), (403, b"not this", False)],
)
def test_a_server_that_does_not_say(status: int, body: bytes, found: bool):
    """Without build information it is taken for a Prometheus; a refusal may end some time."""
    with scripted(lambda _: Response(status, body, content_type="text/plain")) as server:
        source = source_of(server.url)
        assert source.find_dialect(3.0) is found
        assert source.dialect.name is DialectName.PROMETHEUS


def test_a_replica_that_is_down_says_nothing():
    """The other replica is asked what it is; without any the source is unreachable."""
    with scripted(lambda _: Response(200, BUILD.format('{"application":"Mimir"}').encode())) as up:
        source = source_of(f"http://127.0.0.1:{free_port()}", up.url)
        assert source.find_dialect(3.0)
        assert source.dialect.name is DialectName.MIMIR
    with pytest.raises(SourceUnreachableError):
        source_of(f"http://127.0.0.1:{free_port()}").find_dialect(3.0)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://monitoring.googleapis.com/v1/projects/p/location/global/prometheus", "gmp"),
        ("https://w-x.eastus.prometheus.monitor.azure.com", "azure"),
        ("https://monitoring.googleapis.com.example.com", None),
        ("https://example.com/monitoring.googleapis.com", None),
    ],
)
def test_managed_services_by_their_address(url: str, name: str | None):
    """Google's and Azure's services are known by their host, and take exact names only."""
    found = of_address(url)
    assert (None if found is None else found.name.value) == name
    assert found is None or found.exact_names


def test_what_is_set_is_not_asked_for():
    """A dialect of the configuration counts, and a tenant goes with every request."""
    with scripted(lambda _: Response(200, EMPTY)) as server:
        source = source_of(server.url, dialect="thanos", tenant="shop")
        assert source.find_dialect(3.0)
        source.instant("up", 1_000)
        [request] = server.requests
    assert ("partial_response", "true") in request.query
    assert request.headers["x-scope-orgid"] == "shop"


@pytest.mark.integration
def test_a_real_prometheus_is_one(tmp_path: Path):
    """Debian's Prometheus is recognised."""
    with prometheus(tmp_path) as server:
        source = source_of(server.url)
        assert source.find_dialect(3.0)
        assert source.dialect.name is DialectName.PROMETHEUS


@pytest.mark.integration
def test_a_real_victoriametrics_shows_samples_late(tmp_path: Path):
    """Debian's VictoriaMetrics is recognised; a new series is seen within its lag."""
    with victoria_metrics(tmp_path) as server:
        source = source_of(server.url)
        assert source.find_dialect(3.0)
        assert source.dialect.name is DialectName.VICTORIAMETRICS
        at_ms, begun = int(time.time() * 1000), time.monotonic()
        line = f"fresh 7 {at_ms}\n".encode()
        url = f"{server.url}/api/v1/import/prometheus"
        urllib.request.urlopen(url, data=line, timeout=5).close()  # noqa: S310  always http

        def seen() -> bool:
            return source.instant("fresh", at_ms).series == 1

        wait_until(seen, 60, "the sample")
        assert source.instant("fresh", at_ms).times.tolist() == [at_ms]
    assert time.monotonic() - begun < source.dialect.lag_ms / 1000
