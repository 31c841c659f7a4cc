"""The simulated clusters, each with another ingress controller, give one set of fleet metrics."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import orjson
import pytest

from aggregator.demo.cluster import SimulatedCluster
from aggregator.demo.sites import SITES, Ingress, Site, served
from aggregator.model.budget import Budget
from aggregator.profile.batch import batch_expression, batches
from aggregator.profile.format import Profile, Source
from aggregator.profile.load import load_profile
from aggregator.profile.normalize import normalize
from aggregator.profile.probe import bind, probe_batches, probe_expression, probes, with_data
from aggregator.promql.engine import Engine

NOW = 1_795_334_400_000
INGRESS = Profile(
    tuple(
        metric
        for metric in load_profile("kubernetes").served_by(Source.PROMETHEUS).metrics
        if metric.group in ("ingress", "nodes", "cpu")
    )
)


class Collected:
    """What one simulated cluster is found to serve, and what a collection stores of it."""

    def __init__(self, site: Site, base: Path) -> None:
        cluster = SimulatedCluster(site, base / "none.json", lambda: NOW)
        cluster.advance()
        self._engine = Engine(cluster.store)
        found = []
        for batch in probe_batches(probes(INGRESS)):
            metrics, _ = self._ask(probe_expression(batch, ""))
            found += with_data(metrics, batch)
        self.bound = bind(INGRESS, found)
        self.series: dict[str, list[Mapping[str, str]]] = {}
        for batch in batches(self.bound):
            metrics, values = self._ask(batch_expression(batch, ""))
            layout = normalize(metrics, batch, "c", "r")
            assert layout.rejected == {}
            _, there = layout.apply(values)
            for labels, present in zip(layout.labels, there[:, 0], strict=True):
                if present:
                    name = labels.pop("__name__")
                    del labels["cluster"], labels["region"]
                    self.series.setdefault(name, []).append(labels)

    def _ask(self, expr: str) -> tuple[list[bytes], np.ndarray]:
        matrix = self._engine.instant(expr, NOW, Budget()).matrix
        return [orjson.dumps(row) for row in matrix.series.dicts()], matrix.values[:, 0]


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Collected]:
    """Collect every simulated cluster once, by the name of its ingress controller."""
    base = tmp_path_factory.mktemp("demo")
    return {site.ingress.value: Collected(site, base) for site in SITES}


def test_every_controller_serves_by_a_candidate_of_its_own(collected: Mapping[str, Collected]):
    """nginx, Traefik and Istio are each found by their own metrics."""
    served_by = {
        name: {
            item.candidate.id
            for item in one.bound
            if item.metric.name == "fleet:ingress_requests_per_second"
        }
        for name, one in collected.items()
    }
    assert served_by == {
        Ingress.NGINX.value: {"nginx"},
        Ingress.NGINX_EXPORTED.value: {"nginx-exported"},
        Ingress.TRAEFIK.value: {"traefik-service"},
        Ingress.ISTIO.value: {"istio-gateway"},
    }


def test_names_labels_and_units_are_the_same_behind_every_controller(
    collected: Mapping[str, Collected],
):
    """Whatever serves them, ingress metrics have one name, unit, label set and set of services."""
    services = sorted((workload.namespace, workload.name) for workload in served())
    shapes = {}
    for name, one in collected.items():
        ingress = {key: rows for key, rows in one.series.items() if "ingress" in key}
        shapes[name] = {
            key: (
                INGRESS.by_name[key].unit,
                {tuple(labels) for labels in rows},
                {labels["code_class"] for labels in rows if "code_class" in labels},
            )
            for key, rows in ingress.items()
        }
        for rows in ingress.values():
            found = {(labels["namespace"], labels["service"]) for labels in rows}
            assert sorted(found) == services
    assert len(shapes[Ingress.NGINX.value]) == 4
    assert shapes[Ingress.NGINX.value] == shapes[Ingress.NGINX_EXPORTED.value]
    assert shapes[Ingress.NGINX.value] == shapes[Ingress.TRAEFIK.value]
    assert shapes[Ingress.NGINX.value] == shapes[Ingress.ISTIO.value]


def test_nodes_have_one_name_in_all_metrics(collected: Mapping[str, Collected]):
    """What node-exporter says of a node and what kube-state-metrics says carry the same name."""
    for site in SITES:
        series = collected[site.ingress.value].series
        names = sorted(site.node_names())
        for metric in ("node_ready", "node_cpu_utilisation_ratio", "node_filesystem_used_ratio"):
            assert sorted(labels["node"] for labels in series[f"fleet:{metric}"]) == names
