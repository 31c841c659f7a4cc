import json
import re
from pathlib import Path

import pytest

from aggregator.cli import main
from aggregator.errors import ConfigError
from aggregator.profile.format import (
    EmptyMeans,
    LabelSource,
    Merge,
    Profile,
    ProfileFile,
    Source,
    Unit,
)
from aggregator.profile.lint import lint
from aggregator.profile.load import load_profile
from aggregator.profile.transforms import TRANSFORMS

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


CHANGE = """\
change:
  - name: fleet:node_ready
    before:
      - {id: mine, quality: exact, expr: 'max by (node) (node_up{$sel})'}
    after:
      - {id: last, quality: rough, expr: 'max by (node) (ping{$sel})'}
    without: [kubelet-up]
remove: [fleet:evictions]
"""


def test_a_later_profile_changes_without_copying(tmp_path: Path):
    """Candidates come before and after those there are, or go; a metric can go altogether."""
    bundled = load_profile("kubernetes")
    profile = load(tmp_path, CHANGE, "kubernetes")
    ready = profile.by_name["fleet:node_ready"]
    assert [candidate.id for candidate in ready.candidates] == ["mine", "ksm", "last"]
    assert ready.group == bundled.by_name["fleet:node_ready"].group
    gone = bundled.by_name.keys() - profile.by_name.keys()
    assert gone == {"fleet:evictions"}
    assert [metric.name for metric in profile.metrics] == [
        metric.name for metric in bundled.metrics if metric.name not in gone
    ]


def test_a_changed_candidate_takes_the_place_of_its_namesake(tmp_path: Path):
    """A candidate with a known id replaces that one."""
    text = CHANGE.replace("id: mine", "id: ksm").partition("remove")[0]
    ready = load(tmp_path, text, "kubernetes").by_name["fleet:node_ready"]
    assert [candidate.id for candidate in ready.candidates] == ["ksm", "last"]
    assert "node_up" in (ready.candidates[0].expr or "")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("fleet:node_ready", "fleet:absent", "own.yaml:2: change[0].name: there is no metric"),
        ("[kubelet-up]", "[kubelet-uq]", "own.yaml:7: change[0].without: fleet:node_ready has no"),
        ("[fleet:evictions]", "[fleet:x]", "own.yaml:8: remove[0]: there is no metric fleet:x to"),
        ("expr: 'max by (node) (ping{$sel})'", "scale: 2", "own.yaml:6: change[0].after[0]: give"),
        ("'max by (node) (ping{$sel})'", "x, const: {pod: a}", "own.yaml:2: change[0]: last: pod"),
        ("without: [kubelet-up]", "withou: []", "own.yaml:7: change[0].withou: Extra inputs"),
    ],
)
def test_mistakes_in_changes_are_told_with_their_place(
    tmp_path: Path, old: str, new: str, message: str
):
    """A change of what is not there, or into what cannot be, is an error with its place."""
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(tmp_path, CHANGE.replace(old, new, 1), "kubernetes")


def test_logs_are_another_source():
    """Metrics that Loki serves say what their window is and how often they are asked for."""
    profile = load_profile("kubernetes")
    logs = profile.served_by(Source.LOKI)
    assert {metric.group for metric in logs.metrics} == {"logs"}
    for metric in logs.metrics:
        assert metric.interval == 300_000
        assert metric.window in {300_000, 900_000}
    others = profile.served_by(Source.PROMETHEUS)
    assert len(others.metrics) + len(logs.metrics) == len(profile.metrics)


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
        ("group: shop", "group: shop\n    source: loki", "needs window and interval"),
        ("group: shop", "group: shop\n    window: 5m", "needs window and interval"),
        ("group: shop", "group: shop\n    each: [pod]", "each is by pod, which needs a const"),
        (": ns}}", ": ns}, presence: x}", "presence matters only with empty_means: zero"),
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
        ("{metric: 'fleet:log_oom_lines', part: {app: b}}", "comes from loki, not from prom"),
    ],
)
def test_a_derived_metric_needs_its_source(tmp_path: Path, derive: str, message: str):
    """What is derived names a recorded metric that has the labels."""
    text = METRIC + (
        "  - {name: 'fleet:share', help: x, unit: ratio, group: shop, labels: [namespace],\n"
        f"     candidates: [{{id: d, quality: exact, derive: {derive}}}]}}\n"
    )
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(tmp_path, text, "kubernetes")


def test_a_metric_twice_in_one_file_is_refused(tmp_path: Path):
    """Within one file a metric is defined once."""
    with pytest.raises(ConfigError, match="fleet:widgets is defined twice"):
        load(tmp_path, METRIC + METRIC.removeprefix("metrics:\n"))


def test_an_unknown_name_is_refused():
    """A name that is neither bundled nor a path is an error that says what there is."""
    with pytest.raises(ConfigError, match="not a bundled profile"):
        load_profile("kubernets")


def test_the_documented_example_works(tmp_path: Path):
    """The profile that the documentation shows loads and has no problems."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "profile.md").read_text()
    example = page.split("```yaml\n")[2].partition("```")[0]
    profile = load(tmp_path, example, "kubernetes")
    requests = profile.by_name["fleet:ingress_requests_per_second"]
    assert requests.candidates[0].id == "our-proxy"
    assert "fleet:checkout_payments_per_second" in profile.by_name
    assert lint(profile) == []


def test_every_key_and_transform_is_documented():
    """The page about profiles names every key of the format, every unit and every transform."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "profile.md").read_text()
    schema = ProfileFile.model_json_schema()
    keys = {key for model in schema["$defs"].values() for key in model.get("properties", {})}
    words = {*keys, *schema["properties"], *TRANSFORMS, *(unit.value for unit in Unit)}
    assert not {word for word in words if not re.search(rf"(?<![\w/]){word}(?![\w/])", page)}


def test_the_command_line_checks_a_profile(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """`config check` says what is wrong with a profile's expressions, and ends with 1."""
    (tmp_path / "own.yaml").write_text(METRIC.replace("widgets{$sel}", "widgets"))
    file = tmp_path / "fleet.yaml"
    file.write_text("collect: {profile: [kubernetes, ./own.yaml]}\n")
    assert main(["config", "check", "-c", str(file)]) == 1
    problem = "problem: fleet:widgets / own: the selector of widgets does not end with $sel\n"
    assert capsys.readouterr().out.startswith(problem)


def test_the_command_line_prints_the_json_schema(capsys: pytest.CaptureFixture[str]):
    """`config schema --profile` prints the schema of a profile's file."""
    assert main(["config", "schema", "--profile"]) == 0
    assert json.loads(capsys.readouterr().out)["properties"].keys() == {
        "metrics",
        "change",
        "remove",
    }


def test_the_format_has_a_json_schema():
    """The format is described for editors."""
    schema = ProfileFile.model_json_schema()
    [source] = schema["$defs"]["Candidate"]["properties"]["map"]["patternProperties"].values()
    assert source["type"] == "string"
    assert "code|class" in source["examples"]
