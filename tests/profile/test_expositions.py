"""The bundled profile against what real components expose, scraped by a real Prometheus."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from aggregator.profile.format import Bound, Source
from aggregator.profile.load import load_profile
from tests.profile import coverage, expected
from tests.profile.asking import collect, onboard
from tests.profile.flavours import WINDOW, Flavour, running
from tests.profile.texts import Text, Values

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

PROFILE = load_profile("kubernetes").served_by(Source.PROMETHEUS)
Stored = Mapping[str, Values]


@pytest.fixture(scope="module")
def flavours(
    shared_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Flavour]]:
    """Run every flavour of cluster."""
    with running(shared_dir, tmp_path_factory.mktemp("flavours")) as found:
        yield found


@pytest.fixture(scope="module")
def bindings(flavours: dict[str, Flavour]) -> Mapping[str, list[Bound]]:
    """Onboard every flavour once."""
    return {name: onboard(one.url, PROFILE, window=WINDOW) for name, one in flavours.items()}


@pytest.fixture(scope="module")
def stored(
    flavours: dict[str, Flavour], bindings: Mapping[str, list[Bound]]
) -> Mapping[str, Stored]:
    """Collect every flavour once: values by metric and sorted labels."""
    found: dict[str, dict[str, Values]] = {}
    for name, flavour in flavours.items():
        metrics = found[name] = {}
        for key, value in collect(flavour.url, bindings[name], window=WINDOW).items():
            labels = dict(key)
            metric = labels.pop("__name__").removeprefix("fleet:")
            declared = sorted(PROFILE.by_name[f"fleet:{metric}"].labels)
            values = tuple(labels.get(label, "") for label in declared)
            metrics.setdefault(metric, {})[values] = value
    return found


def differences(metric: str, found: Stored, wanted: Values) -> str:
    """Return how a metric differs from what it should be, nothing if it does not."""
    values = found.get(metric, {})
    if values.keys() != wanted.keys():
        extra, missing = values.keys() - wanted.keys(), wanted.keys() - values.keys()
        return f"{metric}: unexpected {sorted(extra)[:3]}, missing {sorted(missing)[:3]}"
    # Scrapes are not exactly as far apart as the growth of counters supposes.
    wrong = {
        key: (value, wanted[key])
        for key, value in values.items()
        if value != pytest.approx(wanted[key], rel=0.03, abs=1e-12)
    }
    return f"{metric}: {wrong}" if wrong else ""


@pytest.mark.parametrize(
    ("flavour", "expectations"),
    [
        ("kubernetes-1.31", expected.OF_KUBERNETES),
        ("kubernetes-1.35", expected.OF_KUBERNETES),
        ("node-exporter", expected.OF_NODE_EXPORTER),
        ("gatekeeper", expected.OF_GATEKEEPER),
    ],
)
def test_values_are_what_the_exposition_says(
    flavours: dict[str, Flavour],
    stored: Mapping[str, Stored],
    flavour: str,
    expectations: Mapping[str, expected.Expectation],
):
    """Each fleet metric equals what plain Python makes of the text that was scraped."""
    text = Text.parse(flavours[flavour].texts.values())
    found = [
        differences(metric, stored[flavour], expect(text))
        for metric, expect in expectations.items()
    ]
    assert not [line for line in found if line]


def test_both_generations_of_kube_state_metrics_mean_the_same(stored: Mapping[str, Stored]):
    """What version 1 alone serves has the values of version 2, up to pods that ended."""
    old, new = stored["kube-state-metrics 1"], stored["kube-state-metrics 1 and 2"]
    assert new == {metric: values for metric, values in new.items() if metric in old}
    differing = ("requests_", "limits_", "age_seconds", "restarts")  # the last two: asked later
    same = [metric for metric in new if not any(word in metric for word in differing)]
    assert {metric: old[metric] for metric in same} == {metric: new[metric] for metric in same}
    assert len(same) > 20


def test_the_newer_generation_is_bound_where_both_are(bindings: Mapping[str, list[Bound]]):
    """Names of version 1 beside those of version 2, as OpenCost adds them, change nothing."""

    def served(name: str) -> set[str]:
        return {item.candidate.id for item in bindings[name]}

    assert "ksm-v2" in served("kube-state-metrics 1 and 2")
    assert "ksm-v1" not in served("kube-state-metrics 1 and 2")
    assert "ksm-v1" in served("kube-state-metrics 1")
    assert "ksm-v2" not in served("kube-state-metrics 1")


def test_the_coverage_in_the_documentation_is_what_is_bound(
    flavours: dict[str, Flavour],
    bindings: Mapping[str, list[Bound]],
    stored: Mapping[str, Stored],
):
    """The table of which candidate serves what, and of how many series, is what was found here."""
    sizes = {
        name: coverage.Size.of(one.url, sum(map(len, stored[name].values())))
        for name, one in flavours.items()
    }
    assert coverage.documented() == coverage.table(bindings, sizes), (
        "run: python -m tests.profile.coverage ../shared"
    )
