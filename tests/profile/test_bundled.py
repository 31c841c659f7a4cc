"""The bundled profile, asked of a real Prometheus that holds two clusters."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from aggregator.profile.format import Bound
from aggregator.profile.load import load_profile
from tests.profile import asking
from tests.profile.asking import ask, onboard
from tests.servers import Request, Response, prometheus, scripted, wait_until

pytestmark = pytest.mark.integration

PROFILE = load_profile("kubernetes")
CONFIG = """
global: {{scrape_interval: 200ms}}
scrape_configs:
  - job_name: nginx
    metrics_path: /nginx
    static_configs:
      - {{targets: ["{host}"], labels: {{cluster: eu, namespace: ingress-nginx, service: nginx}}}}
  - job_name: cluster
    metrics_path: /cluster
    static_configs: [{{targets: ["{host}"], labels: {{cluster: eu}}}}]
  - job_name: traefik
    metrics_path: /traefik
    static_configs: [{{targets: ["{host}"], labels: {{cluster: us}}}}]
"""
CLUSTER = """
node_cpu_seconds_total{{cpu="0",mode="idle"}} {idle}
node_cpu_seconds_total{{cpu="0",mode="user"}} {busy}
kube_node_status_condition{{node="n1",condition="Ready",status="true"}} 1
kube_pod_info{{namespace="shop",pod="web-0"}} 1
kube_deployment_spec_replicas{{namespace="shop",deployment="web"}} 3
kube_statefulset_replicas{{namespace="shop",statefulset="db"}} 2
"""
NGINX = """
nginx_ingress_controller_requests{{namespace="shop",service="web",status="200"}} {busy}
nginx_ingress_controller_requests{{namespace="shop",service="web",status="204"}} {busy}
nginx_ingress_controller_requests{{namespace="shop",service="web",status="503"}} {busy}
"""
TRAEFIK = """
kube_namespace_created{{namespace="shop"}} 1
kube_namespace_created{{namespace="shop-eu"}} 1
traefik_service_requests_total{{service="shop-eu-web-80@kubernetes",code="200"}} {busy}
"""


def expose(request: Request) -> Response:
    """Answer a scrape with counters that follow the clock: one second of work in each second."""
    now = time.time()
    text = {"/cluster": CLUSTER, "/nginx": NGINX, "/traefik": TRAEFIK}[request.path]
    body = text.format(busy=now, idle=3 * now).lstrip()
    return Response(body=body.encode(), content_type="text/plain")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a Prometheus that scrapes both clusters, until it has rates of both."""
    directory: Path = tmp_path_factory.mktemp("bundled")
    with scripted(expose) as exposed:
        config = CONFIG.format(host=exposed.url.removeprefix("http://"))
        with prometheus(directory, config) as running:
            wait_until(
                lambda: len(ask(running.url, "count by (cluster) (up offset 1s == 1)")) == 2,
                30,
                "two scrapes",
            )
            yield running.url


def collect(url: str, selector: str, bound: list[Bound]) -> Mapping[str, float]:
    """Return what one collection stores, by metric and label values."""
    stored = asking.collect(url, bound, selector)
    return {" ".join(text for _, text in key): value for key, value in stored.items()}


def test_a_cluster_with_nginx(server: str):
    """Requests behind ingress-nginx have the object's namespace, classes, and an error ratio."""
    bound = onboard(server, PROFILE, 'cluster="eu"')
    keys = {item.metric.name: item.candidate.id for item in bound}
    assert keys["fleet:ingress_requests_per_second"] == "nginx-exported"
    assert keys["fleet:node_cpu_utilisation_ratio"] == "node-exporter"
    stored = collect(server, 'cluster="eu"', bound)
    assert 0.0 < stored["fleet:cluster_cpu_utilisation_ratio"] < 1.5
    assert stored["fleet:node_ready n1"] == 1.0
    assert stored["fleet:workload_replicas_desired shop web deployment"] == 3.0
    assert stored["fleet:workload_replicas_desired shop db statefulset"] == 2.0
    assert stored["fleet:namespace_containers_waiting"] == 0.0
    assert "fleet:namespace_oom_kills" not in stored
    requests = {key: value for key, value in stored.items() if "requests_per" in key}
    assert sorted(requests) == [
        "fleet:ingress_requests_per_second 2xx shop web",
        "fleet:ingress_requests_per_second 5xx shop web",
    ]
    assert stored["fleet:ingress_error_ratio shop web"] == pytest.approx(1 / 3, rel=0.01)


def test_a_cluster_with_traefik(server: str):
    """The same names behind Traefik, whose service names are split at the longest namespace."""
    bound = onboard(server, PROFILE, 'cluster="us"')
    stored = collect(server, 'cluster="us"', bound)
    assert sorted(key for key in stored if "ingress" in key) == [
        "fleet:ingress_error_ratio shop-eu web",
        "fleet:ingress_requests_per_second 2xx shop-eu web",
    ]
    assert stored["fleet:ingress_error_ratio shop-eu web"] == 0.0
