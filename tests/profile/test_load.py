import re
from pathlib import Path

import pytest

from aggregator.errors import ConfigError
from aggregator.profile.format import EmptyMeans, LabelSource, Merge, Profile, ProfileFile, Unit
from aggregator.profile.load import load_profile

METRIC = """\
metrics:
  - name: fleet:widgets
    help: Widgets made
    unit: count
    group: shop
    labels: [namespace]
    candidates:
      - {id: own, quality: exact, expr: 'sum by (ns) (widgets{$sel})', map: {namespace: ns}}
"""


def load(tmp_path: Path, text: str, *before: str) -> Profile:
    """Load *text* as a profile of its own, after the profiles *before*."""
    (tmp_path / "own.yaml").write_text(text)
    return load_profile([*before, "own.yaml"], base=tmp_path)


def test_the_bundled_profile_loads():
    """The bundled profile holds the fleet metrics with their units, groups and candidates."""
    profile = load_profile("kubernetes")
    requests = profile.by_name["fleet:ingress_requests_per_second"]
    assert requests.unit is Unit.REQUESTS_PER_SECOND
    assert requests.candidates[0].map["code_class"] == LabelSource(("status",), "class")
    assert profile.by_name["fleet:workload_replicas_ready"].candidates[0].merge is Merge.UNION
    assert profile.by_name["fleet:namespace_oom_kills"].empty_means is EmptyMeans.ZERO
    assert "fleet:node_ready" in profile.groups["nodes"]


def test_a_later_profile_adds_and_overrides(tmp_path: Path):
    """A metric of a later file replaces the one of its name in its place; new ones follow."""
    text = METRIC + METRIC.removeprefix("metrics:\n").replace("widgets", "node_ready")
    bundled = load_profile("kubernetes")
    profile = load(tmp_path, text, "kubernetes")
    names = [metric.name for metric in profile.metrics]
    assert names == [*(metric.name for metric in bundled.metrics), "fleet:widgets"]
    assert profile.by_name["fleet:node_ready"].group == "shop"


def test_kept_bindings_are_resolved():
    """Bindings of the last run are found again, in the profile's order, without unknown ones."""
    profile = load_profile("kubernetes")
    keys = [("fleet:node_ready", "ksm"), ("fleet:gone", "x"), ("fleet:node_ready", "gone")]
    assert [item.key for item in profile.resolve(keys)] == [("fleet:node_ready", "ksm")]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("fleet:widgets", "widgets", "own.yaml:2: metrics[0].name: String should match"),
        ("unit: count", "unit: ms", "own.yaml:4: metrics[0].unit: Input should be 'bool'"),
        ("help: Widgets made", "helpp: x", "own.yaml:2: metrics[0].help: Field required"),
        ("group: shop", "group: shop\n    colour: red", "own.yaml:6: metrics[0].colour: Extra"),
        ("[namespace]", "[cluster]", "own.yaml:6: metrics[0].labels: cluster is set by the agg"),
        ("namespace: ns", "pod: ns", "own: pod is not among the metric's labels"),
        (": ns}", ": ns|upper}", "'upper' is not a transform; there are after_slash, class"),
        (": ns}", ": 'a,b'}", "which needs |join"),
        (": ns}", ": a-b}", "does not name source labels"),
        ("expr: 'sum by (ns) (widgets{$sel})'", "scale: 2", "give exactly one of expr and derive"),
        (": ns}}", ": ns}}\n      - {id: own, quality: close, expr: x}", "the same id"),
        (": ns}}", ": ns}, const: {namespace: x}}", "namespace is in both map and const"),
        (": ns}}", ": ns}, scale: 0}", "scale: Input should be greater than 0"),
        ("group: shop", "group: shop\n    empty_means: zero", "needs presence"),
        ("group: shop", "group: shop\n    group: shop", "own.yaml:6: metrics[0].group: the key"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, old: str, new: str, message: str):
    """A mistake in a profile is an error with file, line and path."""
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(tmp_path, METRIC.replace(old, new, 1))


@pytest.mark.parametrize(
    ("derive", "message"),
    [
        ("{metric: 'fleet:absent', part: {a: b}}", "there is no metric fleet:absent"),
        ("{metric: 'fleet:widgets', part: {a: b}}", "fleet:widgets has no label a"),
        ("{metric: 'fleet:widgets', part: {namespace: b}}", "fleet:widgets has no label namesp"),
        ("{metric: 'fleet:share', part: {namespace: b}}", "fleet:share is derived itself"),
    ],
)
def test_a_derived_metric_needs_its_source(tmp_path: Path, derive: str, message: str):
    """What is derived names a recorded metric that has the labels."""
    text = METRIC + (
        "  - {name: 'fleet:share', help: x, unit: ratio, group: shop, labels: [namespace],\n"
        f"     candidates: [{{id: d, quality: exact, derive: {derive}}}]}}\n"
    )
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(tmp_path, text)


def test_a_metric_twice_in_one_file_is_refused(tmp_path: Path):
    """Within one file a metric is defined once."""
    with pytest.raises(ConfigError, match="fleet:widgets is defined twice"):
        load(tmp_path, METRIC + METRIC.removeprefix("metrics:\n"))


def test_an_unknown_name_is_refused():
    """A name that is neither bundled nor a path is an error that says what there is."""
    with pytest.raises(ConfigError, match="not a bundled profile"):
        load_profile("kubernets")


def test_the_format_has_a_json_schema():
    """The format is described for editors."""
    schema = ProfileFile.model_json_schema()
    [source] = schema["$defs"]["Candidate"]["properties"]["map"]["patternProperties"].values()
    assert source["type"] == "string"
    assert "code|class" in source["examples"]
