"""Asks a real Prometheus what the profile asks it, as onboarding and collection do."""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence

import numpy as np
import orjson

from aggregator.profile.batch import DEFAULT_WINDOW, batch_expression, batches
from aggregator.profile.format import Bound, Profile
from aggregator.profile.normalize import normalize
from aggregator.profile.probe import bind, probe_batches, probe_expression, probes, with_data

Rows = list[tuple[bytes, float]]


def ask(url: str, expr: str) -> Rows:
    """Return label sets and values of an instant query."""
    body = urllib.parse.urlencode({"query": expr}).encode()
    with urllib.request.urlopen(f"{url}/api/v1/query", body, timeout=30) as response:  # noqa: S310
        result = json.load(response)["data"]["result"]
    return [(orjson.dumps(row["metric"]), float(row["value"][1])) for row in result]


def onboard(
    url: str, profile: Profile, selector: str = "", window: str = DEFAULT_WINDOW
) -> list[Bound]:
    """Probe one cluster and return its bindings; what its server cannot read has no data."""
    found = []
    for batch in probe_batches(probes(profile), selector=selector):
        try:
            rows = ask(url, probe_expression(batch, selector, window))
        except urllib.error.HTTPError:
            if any('{"' not in probe.expr for probe in batch):
                raise
            continue
        found += with_data([metric for metric, _ in rows], batch)
    return bind(profile, found)


def collect(
    url: str, bound: Sequence[Bound], selector: str = "", window: str = DEFAULT_WINDOW
) -> Mapping[tuple[tuple[str, str], ...], float]:
    """Return what one collection stores, by sorted labels without `cluster` and `region`."""
    stored = {}
    for batch in batches(bound, selector=selector):
        rows = ask(url, batch_expression(batch, selector, window))
        layout = normalize([metric for metric, _ in rows], batch, "ours", "europe")
        values, present = layout.apply(np.array([value for _, value in rows]))
        assert layout.rejected == {}
        for labels, value, there in zip(layout.labels, values[:, 0], present[:, 0], strict=True):
            assert (labels.pop("cluster"), labels.pop("region")) == ("ours", "europe")
            if there:
                stored[tuple(sorted(labels.items()))] = float(value)
    return stored
