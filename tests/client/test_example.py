"""The documentation's examples, on a running aggregator."""

import re
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aggregator.client import FleetWarning
from aggregator.client.connection import DEFAULT_URL
from aggregator.model.samples import SampleBlock
from aggregator.store.open import open_store
from aggregator.store.settings import StoreSettings
from tests.servers import ROOT, RealServer, aggregator

PAGE = ROOT / "docs" / "python-client.md"
CLUSTERS = {"eu-1": "europe", "eu-2": "europe", "us-1": "us"}
NODE_METRICS = ("fleet:node_ready", "fleet:node_cpu_utilisation_ratio",
                "fleet:node_memory_utilisation_ratio")  # fmt: skip
STEP_MS, STEPS = 30_000, 120
RESULTS = ("nodes", "cpu", "signals", "by_region", "tidy", "samples")

pytestmark = pytest.mark.integration


def fill(directory: Path) -> None:
    """Store an hour of three clusters with two nodes each, up to now."""
    series: list[dict[str, str]] = []
    for cluster, region in CLUSTERS.items():
        place = {"cluster": cluster, "region": region}
        series.append({"__name__": "fleet:cluster_cpu_utilisation_ratio", **place})
        series.append({"__name__": "up", "job": "node", **place})
        series += [{"__name__": name, "node": f"{cluster}-{node}", **place}
                   for name in NODE_METRICS for node in "ab"]  # fmt: skip
    newest = int(time.time()) * 1000 // STEP_MS * STEP_MS
    times = newest - np.arange(STEPS - 1, -1, -1, dtype=np.int64) * STEP_MS
    store = open_store(StoreSettings(path=directory))
    ids = np.repeat(store.series_ids(series), STEPS)
    values = np.random.default_rng(1).random(ids.size)
    store.write(SampleBlock(ids, np.tile(times, len(series)), values))
    store.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RealServer]:
    """Run an aggregator that has data of clusters which it cannot reach any more."""
    fill(tmp_path / "data")
    clusters = ", ".join(
        f"{{name: {cluster}, region: {region}, prometheus: {{url: 'http://127.0.0.1:9'}}}}"
        for cluster, region in CLUSTERS.items()
    )
    with aggregator(tmp_path, f"collect: {{interval: 1s}}\nclusters: [{clusters}]\n") as running:
        yield running


def test_the_examples_run(server: RealServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The page's code, run as it is from top to bottom, finds data in every step."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
    assert DEFAULT_URL in code
    names: dict[str, Any] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FleetWarning)
            exec(compile(code.replace(DEFAULT_URL, server.url), PAGE, "exec"), names)  # noqa: S102  our own page
        assert [name for name in RESULTS if not len(names[name])] == []
        told = capsys.readouterr().out
        assert len(names["total"]) if not told else "is unreachable, no data yet" in told
        assert names["busiest"] in names["cpu"].columns
        regions = names["by_region"].columns.get_level_values("region")
        assert set(regions) == {"europe", "us"}
        tidy = names["tidy"]
        assert sorted(tidy.columns) == ["__name__", "cluster", "node", "region", "value"]
        assert len(tidy) > 100
    finally:
        names["fleet"].close()
