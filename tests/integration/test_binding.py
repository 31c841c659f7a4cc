"""A metric that an exporter renames under a real Prometheus: the fleet metric goes on."""

import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.servers import (
    RealServer,
    Request,
    Response,
    aggregator,
    prometheus,
    scripted,
    wait_until,
)

INTERVAL_SECONDS = 2
METRIC = "fleet:cluster_cpu_allocatable_cores"
SCRAPES = (
    "global: {{scrape_interval: 1s}}\n"
    "scrape_configs: [{{job_name: ksm, static_configs: [{{targets: ['{target}']}}]}}]\n"
)
FLEET = """\
collect: {{interval: 2s, lag: 1s}}
clusters: [{{name: one, region: test, prometheus: {{url: '{source}'}}}}]
rules: {{files: []}}
"""


@dataclass
class Exporter:
    """kube-state-metrics before and after a change of its names."""

    renamed: bool = False

    def answer(self, _request: Request) -> Response:
        """Serve one scrape."""
        sample = (
            'kube_node_status_allocatable_cpu_cores{node="n"} 8\n'
            if self.renamed
            else 'kube_node_status_allocatable{node="n",resource="cpu"} 8\n'
        )
        return Response(200, sample.encode(), content_type="text/plain")


def binding(centre: RealServer) -> dict[str, Any]:
    """Return what the API says of the metric."""
    answer = requests.get(f"{centre.url}/api/v1/clusters/one", timeout=10).json()
    [found] = [each for each in answer["cluster"]["bindings"] if each["metric"] == METRIC]
    return found


def query(centre: RealServer, expr: str) -> list[dict[str, Any]]:
    """Return the result of an instant query."""
    url = f"{centre.url}/prometheus/api/v1/query"
    result: list[dict[str, Any]] = requests.get(url, params={"query": expr}, timeout=10).json()[
        "data"
    ]["result"]
    return result


def times(centre: RealServer) -> list[float]:
    """Return when the metric has samples, in the last minutes."""
    found = query(centre, f"{METRIC}[5m]")
    return [] if not found else [float(at) for at, _ in found[0]["values"]]


@pytest.mark.integration
def test_a_renamed_metric_goes_on(tmp_path: Path) -> None:
    """The binding moves within three cycles, which is to be seen, and no gap is longer."""
    exporter = Exporter()
    with scripted(exporter.answer) as target:
        scrapes = SCRAPES.format(target=target.url.removeprefix("http://"))
        with (
            prometheus(tmp_path / "source", scrapes) as source,
            aggregator(tmp_path / "centre", FLEET.format(source=source.url)) as centre,
        ):
            # what the Prometheus had before it scraped for the first time is not asked for at once
            wait_until(lambda: binding(centre)["state"] == "ok", 90, "the first binding")
            assert binding(centre)["candidates"] == ["ksm-v2"]
            begun = time.time()
            wait_until(lambda: times(centre)[-1:] > [begun + 2], 40, "some samples")
            exporter.renamed = True
            renamed = time.time()
            wait_until(lambda: binding(centre)["candidates"] == ["ksm-v1"], 40, "the move")
            moved = binding(centre)
            assert moved["previous"] == ["ksm-v2"]
            # the last scrape of the old name, the lag, the cluster's own offset, three cycles
            assert moved["since"] < renamed + 1 + 1 + 1 + 4 * INTERVAL_SECONDS
            wait_until(lambda: times(centre)[-1:] > [moved["since"] + 4], 40, "samples of the new")
            seen = [at for at in times(centre) if at >= begun]
            wait_until(
                lambda: {one["metric"]["candidate"] for one in info(centre)} == {"ksm-v1"},
                20,
                "the series that tells what serves it",
            )
            assert max(after - before for before, after in pairwise(seen)) <= 3 * INTERVAL_SECONDS
            log = centre.log.read_text()
    assert "served by another candidate" in log


def info(centre: RealServer) -> list[dict[str, Any]]:
    """Return the series that tell what serves the metric."""
    return query(centre, f'fleet:binding_info{{metric="{METRIC}"}}')
