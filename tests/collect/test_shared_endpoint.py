"""Several clusters behind one real Prometheus, asked with a selector: nothing of one leaks.

Each cluster tells its nodes in another way, one is there twice as an HA pair that nothing
deduplicates, and one has no kube-state-metrics.
"""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from aggregator.collect.cycle import ClusterCollector
from aggregator.collect.registry_series import RegistrySeries
from aggregator.fleet.freshness import Freshness
from aggregator.fleet.registry import Registry
from aggregator.fleet.settings import ClusterSettings, CollectSettings
from aggregator.profile.format import Source
from aggregator.profile.load import load_profile
from aggregator.promql.parse import parse
from aggregator.promql.plan import Node, VectorSelector, children
from tests.collect.stage import Stage
from tests.profile.asking import ask
from tests.servers import Request, Response, prometheus, scripted, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

PROFILE = load_profile("kubernetes").served_by(Source.PROMETHEUS)
SCRAPED_SECONDS = 15.0


@dataclass
class Site:
    """What one cluster exposes: two nodes, and a host that is none of them.

    `hosts` are the label sets of node-exporter's series of the first node, the second, the host.
    """

    nodes: tuple[str, str]
    hosts: tuple[dict[str, str], dict[str, str], dict[str, str]]
    version: str
    ksm: bool = True

    def text(self) -> str:
        """Return the exposition; each value tells where it comes from."""
        lines = []
        for number, labels in enumerate(self.hosts):
            own = {key: value for key, value in labels.items() if key != "nodename"}
            lines += [
                _line("node_uname_info", 1, **labels),
                _line("node_memory_MemAvailable_bytes", 100 - 10 * number, **own),
                _line("node_memory_MemTotal_bytes", 100, **own),
            ]
        lines.append(_line("kubelet_running_pods", 1, instance="kubelet"))
        if not self.ksm:
            return "\n".join(lines) + "\n"
        lines.append(_line("kube_namespace_created", 1, namespace="shop"))
        lines.append(_line("traefik_service_requests_total", 9, service=SERVICE, code="200"))
        for number, node in enumerate(self.nodes):
            address = f"10.0.0.{number + 1}"
            version = {"kubelet_version": self.version}
            pod = {"namespace": "shop", "pod": f"{node}-pod"}
            lines += [
                _line("kube_node_info", 1, node=node, internal_ip=address, **version),
                _line("kube_node_status_condition", 1, node=node, condition="Ready", status="true"),
                _line(
                    "kube_pod_container_resource_requests", 2, **pod, container="c", resource="cpu"
                ),
                _line("kube_pod_status_phase", 1, **pod, phase="Running"),
                _line("kube_namespace_created", 1, namespace=f"shop-{node}"),
                _line("kube_pod_info", 1, **pod, node=node),
                _line("kube_pod_info", 1, namespace="agents", pod=f"agent-{number}", node=node),
            ]
        return "\n".join(lines) + "\n"


def _line(name: str, value: float, **labels: str) -> str:
    pairs = ",".join(f"{key}={json.dumps(text)}" for key, text in labels.items())
    return f"{name}{{{pairs}}} {value}"


# Which piece is the namespace depends on the namespaces that the cluster has.
SERVICE = "shop-web-api-80@kubernetes"
BASTION = {"instance": "192.0.2.9:9100", "nodename": "bastion"}


def _hosts(first: dict[str, str], second: dict[str, str]) -> tuple[dict[str, str], ...]:
    return first, second, BASTION


SITES = {
    "by-label": Site(
        ("l1", "l2"),
        _hosts({"instance": "a:1", "node": "l1"}, {"instance": "b:1", "node": "l2"}),
        "v1.31.2",
    ),
    "by-name": Site(("n1", "n2"), _hosts({"instance": "n1"}, {"instance": "n2:9100"}), "v1.32.2"),
    "by-address": Site(
        ("a1", "web"),
        _hosts({"instance": "10.0.0.1:9100"}, {"instance": "10.0.0.2:9100"}),
        "v1.33.2",
    ),
    "by-host": Site(
        ("h1", "h2"),
        _hosts({"instance": "x:9100", "nodename": "h1"}, {"instance": "y:9100", "nodename": "h2"}),
        "v1.34.2",
    ),
    "by-pod": Site(
        ("p1", "p2"),
        _hosts(
            {"instance": "1:9100", "namespace": "agents", "pod": "agent-0"},
            {"instance": "2:9100", "namespace": "agents", "pod": "agent-1"},
        ),
        "v1.35.2",
    ),
    "no-ksm": Site(("", ""), _hosts({"instance": "z1:9100"}, {"instance": "z2:9100"}), "", False),
}
NODES = {name: site.nodes for name, site in SITES.items() if site.ksm}


@dataclass
class Shared:
    """One Prometheus that holds every cluster, and the log of what it was asked."""

    url: str
    log: Path

    def queries(self) -> list[str]:
        """Return every query that came so far."""
        return [json.loads(line)["params"]["query"] for line in self.log.read_text().splitlines()]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """Run the Prometheus until it has scraped every cluster, `by-name` from two replicas."""
    base = tmp_path_factory.mktemp("shared")

    def answer(request: Request) -> Response:
        site = SITES[request.path.strip("/")]
        return Response(200, site.text().encode(), content_type="text/plain; version=0.0.4")

    with ExitStack() as stack:
        target = stack.enter_context(scripted(answer)).url.removeprefix("http://")
        jobs = [(name, "") for name in SITES] + [("by-name", "b")]
        config = f"global: {{scrape_interval: 1s, query_log_file: {base / 'queries.log'}}}\n"
        config += "scrape_configs:\n" + "".join(
            f"  - job_name: {name}{replica}\n"
            f"    metrics_path: /{name}\n"
            "    honor_labels: true\n"
            "    static_configs:\n"
            f"      - targets: ['{target}']\n"
            f"        labels: {{cluster: {name}, prometheus_replica: 'r{replica}'}}\n"
            "    relabel_configs: [{target_label: job, replacement: things}]\n"
            for name, replica in jobs
        )
        server = stack.enter_context(prometheus(base, config))
        count = f"count(up == 1 and up offset {SCRAPED_SECONDS:.0f}s == 1) == {len(jobs)}"
        wait_until(lambda: ask(server.url, count), 60, "every cluster is scraped for a while")
        yield Shared(server.url, base / "queries.log")


def cluster_registry(shared: Shared, *names: str, selector: bool = True) -> Registry:
    """Return clusters behind the shared endpoint."""
    clusters = [
        ClusterSettings.model_validate(
            {
                "name": name,
                "region": "europe",
                "prometheus": {
                    "url": shared.url,
                    **({"selector": f'cluster="{name}"'} if selector else {}),
                },
            }
        )
        for name in names
    ]
    collect = {"interval": "5s", "lag": "0s", "raw": [{"match": "up"}]}
    return Registry(clusters, CollectSettings.model_validate(collect))


def collected(stage: Stage, registry: Registry, name: str, *, history: bool = False) -> None:
    """Collect one cluster at two instants as the clock goes, and its history if that is asked."""
    found = registry.get(name)
    assert found is not None
    collecting = ClusterCollector(found, PROFILE, stage.context)
    stage.clock[0] = int(time.time() * 1000)
    outcome = collecting.cycle()
    assert outcome is not None
    assert outcome.answered
    stage.clock[0] += 60_000  # everything else is asked about
    collecting.cycle()
    while history and collecting.read_history():
        pass
    collecting.close()


def values(stage: Stage, metric: str, name: str) -> dict[str, float | str]:
    """Return the first value of each series that the cluster has of a metric."""
    return {key: found[0][1] for key, found in stage.samples(metric, cluster=name).items()}


@pytest.mark.parametrize("name", NODES)
def test_nodes_are_named_however_the_cluster_tells_them(stage: Stage, shared: Shared, name: str):
    """Series of node-exporter carry the node's name; a host that is none is filed without one."""
    collected(stage, cluster_registry(shared, name), name)
    first, second = SITES[name].nodes
    found = values(stage, "fleet:node_memory_utilisation_ratio", name)
    assert found == {
        f"node={first}": 0.0,
        f"node={second}": pytest.approx(0.1),
        "": pytest.approx(0.2),
    }
    ready = values(stage, "fleet:node_ready", name)
    assert ready == {f"node={first}": 1.0, f"node={second}": 1.0}


def test_hosts_speak_for_themselves_where_nobody_knows_the_nodes(stage: Stage, shared: Shared):
    """Without kube-state-metrics a host is its own name, though other clusters name nodes."""
    collected(stage, cluster_registry(shared, "no-ksm"), "no-ksm")
    found = values(stage, "fleet:node_memory_utilisation_ratio", "no-ksm")
    assert found == {
        "node=z1": 0.0,
        "node=z2": pytest.approx(0.1),
        "node=bastion": pytest.approx(0.2),
    }


def test_an_endpoint_of_several_clusters_needs_a_selector(stage: Stage, shared: Shared):
    """Without a selector nothing is collected, and the clusters that are there are named."""
    registry = cluster_registry(shared, "by-name", selector=False)
    collecting = ClusterCollector(next(iter(registry)), PROFILE, stage.context)
    stage.clock[0] = int(time.time() * 1000)
    outcome = collecting.cycle()
    collecting.close()
    assert outcome is not None
    assert "several clusters are behind this endpoint" in outcome.error
    assert all(f'"{name}"' in outcome.error for name in SITES)
    assert stage.samples("fleet:node_ready") == {}


def test_replicas_are_not_counted_twice(stage: Stage, shared: Shared):
    """Sums over an HA pair that nobody deduplicated are those of one; raw copies are one series."""
    collected(stage, cluster_registry(shared, "by-name"), "by-name")
    assert values(stage, "fleet:namespace_cpu_requests_cores", "by-name") == {"namespace=shop": 4.0}
    [series] = stage.samples("up", cluster="by-name")
    assert "replica" not in series
    assert "exported_cluster=by-name" in series
    assert len(ask(shared.url, 'up{cluster="by-name"}')) == 2


def test_empty_is_zero_only_with_presence(stage: Stage, shared: Shared):
    """Where nothing waits zero is stored if kube-state-metrics is there, and otherwise nothing."""
    registry = cluster_registry(shared, "by-label", "no-ksm")
    for name in ("by-label", "no-ksm"):
        collected(stage, registry, name)
    assert values(stage, "fleet:namespace_containers_waiting", "by-label") == {"": 0.0}
    assert values(stage, "fleet:namespace_containers_waiting", "no-ksm") == {}
    assert values(stage, "fleet:evictions", "no-ksm") == {"": 0.0}  # the kubelet would say


def test_namespaces_of_another_cluster_split_no_names(stage: Stage, shared: Shared):
    """What a transform looks names up in is this cluster's."""
    collected(stage, cluster_registry(shared, "by-address"), "by-address")
    rates = stage.samples("fleet:ingress_requests_per_second", cluster="by-address")
    assert set(rates) == {"code_class=2xx,namespace=shop-web,service=api"}
    collected(stage, cluster_registry(shared, "by-name"), "by-name")
    other = stage.samples("fleet:ingress_requests_per_second", cluster="by-name")
    assert set(other) == {"code_class=2xx,namespace=shop,service=web-api"}


def test_every_selector_of_every_query_picks_the_cluster(stage: Stage, shared: Shared):
    """Probes, batches, what names are looked up in, raw copies and history have the matcher."""
    before = len(shared.queries())
    collected(stage, cluster_registry(shared, "by-pod"), "by-pod", history=True)
    wait_until(lambda: len(shared.queries()) >= before + 8, 10, "the log is written")
    asked = [query for query in shared.queries()[before:] if query != "vector(1)"]
    assert any("count(" in query for query in asked)
    assert any("last_over_time(" in query for query in asked)
    assert any("kube_node_info" in query for query in asked)
    assert any(query.endswith("ms]") for query in asked)
    for query in asked:
        for selector in _selectors(parse(query)):
            assert 'cluster="by-pod"' in str(selector), query


def test_series_that_follow_are_each_clusters_own(stage: Stage, shared: Shared):
    """Versions and region sums come from what each cluster has, each node counted once."""
    registry = cluster_registry(shared, *NODES)
    for name in NODES:
        collected(stage, registry, name)
    context = stage.context
    groups = {metric.name: metric.group for metric in PROFILE.metrics}
    state = (context.watermarks, context.gaps, context.health)
    RegistrySeries(Freshness(registry, groups, *state), PROFILE, context).write(stage.clock[0])
    minors = {name: values(stage, "fleet:kubelet_minor", name) for name in NODES}
    assert minors == {name: {"": float(31 + n)} for n, name in enumerate(NODES)}
    sums = stage.samples("fleet:region_cpu_requests_cores", region="europe")
    assert [found[-1][1] for found in sums.values()] == [4.0 * len(NODES)]


def _selectors(node: Node) -> Iterator[VectorSelector]:
    if isinstance(node, VectorSelector):
        yield node
    for child in children(node):
        yield from _selectors(child)
