"""Everything twice: an HA pair behind one endpoint that nobody deduplicates."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from aggregator.profile.format import Source
from aggregator.profile.load import load_profile
from tests.expositions import ExposedCluster, Exposition
from tests.profile.asking import ask, collect, onboard
from tests.profile.flavours import all_texts
from tests.servers import prometheus, scripted, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

PROFILE = load_profile("kubernetes").served_by(Source.PROMETHEUS)
WINDOW, FULL_SECONDS = "20s", 24
_ALONE = 'prometheus_replica="a"'
# What the recorded components lack: each of these is added up.
_MORE = """# TYPE node_network_receive_bytes_total counter
node_network_receive_bytes_total{device="eth0"} 1e9
node_network_receive_bytes_total{device="eth1"} 2e9
# TYPE kubelet_evictions counter
kubelet_evictions{eviction_signal="memory.available"} 1e6
# TYPE container_oom_events_total counter
container_oom_events_total{container="c",namespace="shop",pod="p"} 1e6
# TYPE node_cpu_usage_seconds_total counter
node_cpu_usage_seconds_total{node="n"} 1e6
kubelet_running_pods 1
kube_node_status_capacity{node="n",resource="cpu"} 4
node_cpu_hourly_cost{node="n"} 0.5
node_ram_hourly_cost{node="n"} 0.25
container_cpu_allocation{container="c",namespace="shop",node="n",pod="p"} 2
container_memory_allocation_bytes{container="c",namespace="shop",node="n",pod="p"} 1e9
kube_node_labels{node="n",label_failure_domain_beta_kubernetes_io_region="eu-west-1"} 1
"""


@pytest.fixture(scope="module")
def pair(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a Prometheus that holds what two replicas scraped, until rates have a full window."""
    texts = all_texts(shared_dir)
    nodes = texts["kubernetes-1.35"]
    chosen = {"cadvisor": nodes["cadvisor"], "ksm": nodes["ksm"], "more": _MORE}
    components = {name: Exposition.parse(text) for name, text in chosen.items()}
    cluster = ExposedCluster(components, dict.fromkeys(components, time.monotonic() - 3600))
    with ExitStack() as stack:
        host = stack.enter_context(scripted(cluster.answer)).url.removeprefix("http://")
        config = "global: {scrape_interval: 2s}\nscrape_configs:\n" + "".join(
            f"  - job_name: {name}-{replica}\n"
            f"    metrics_path: /{name}\n"
            "    honor_labels: true\n"
            f"    static_configs: [{{targets: ['{host}'], "
            f"labels: {{prometheus_replica: {replica}}}}}]\n"
            f"    relabel_configs: [{{target_label: job, replacement: {name}}}, "
            f"{{target_label: instance, replacement: '{name}:80'}}]\n"
            for name in components
            for replica in "ab"
        )
        url = stack.enter_context(prometheus(tmp_path_factory.mktemp("pair"), config)).url
        full = f"count(up == 1 and up offset {FULL_SECONDS}s == 1) == {2 * len(components)}"
        wait_until(lambda: ask(url, full), 90, "both replicas have full windows")
        yield url


def test_what_is_there_twice_counts_once(pair: str):
    """Every series of every metric has the value that one replica alone has."""
    bound = onboard(pair, PROFILE, window=WINDOW)
    one = collect(pair, onboard(pair, PROFILE, _ALONE, WINDOW), _ALONE, WINDOW)
    two = collect(pair, bound, window=WINDOW)
    assert len({item.metric.name for item in bound}) > 40
    assert two.keys() == one.keys()
    # Replicas scrape at different moments, and ages go on between the two questions.
    different = {key for key in one if two[key] != pytest.approx(one[key], rel=0.05, abs=1e-9)}
    assert not different
