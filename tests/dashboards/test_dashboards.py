"""Every dashboard is valid, readable and safe to ship: Grafana's lint rules and ours."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from aggregator.bundled import bundled_files
from aggregator.model.labels import METRIC_NAME
from aggregator.profile.load import load_profile
from aggregator.promql.parse import parse
from aggregator.promql.plan import VectorSelector, children

Json = dict[str, Any]

FILES = bundled_files("dashboards", "*.json")
# What the aggregator serves beside the fleet metrics of the profile.
OWN_METRICS = {"ALERTS", "ALERTS_FOR_STATE"}
UNITS = {"short", "percentunit", "s", "reqps", "bytes"}
DATA_PANELS = {"stat", "table", "timeseries", "state-timeline"}
BUILT_IN = {"__data", "__field", "__url_time_range", "__rate_interval", "__interval", "__range"}
# Fields of the Prometheus data source's annotations, which the schema leaves to it.
ANNOTATION_FIELDS = {
    "expr", "step", "titleFormat", "textFormat", "tagKeys", "useValueForTime",
}  # fmt: skip
VARIABLE = re.compile(r"\$\{?([a-zA-Z_]\w*)")
LABEL_VALUES = re.compile(r"label_values\((?P<selector>.+), (?P<label>[a-z_]+)\)")


def _panels(dashboard: Json) -> Iterator[Json]:
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def _data_panels(dashboard: Json) -> list[Json]:
    return [panel for panel in _panels(dashboard) if panel["type"] in DATA_PANELS]


def _expressions(dashboard: Json) -> list[str]:
    """Return every PromQL expression: panels, annotations, variables."""
    found = [target["expr"] for panel in _data_panels(dashboard) for target in panel["targets"]]
    found += [each["expr"] for each in dashboard["annotations"]["list"] if "expr" in each]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            match = LABEL_VALUES.fullmatch(variable["query"]["query"])
            assert match is not None, variable["name"]
            found.append(match["selector"])
    return found


def _selectors(expression: str) -> list[VectorSelector]:
    nodes = [parse(expression.replace("$__rate_interval", "2m"))]
    selectors = []
    while nodes:
        node = nodes.pop()
        if isinstance(node, VectorSelector):
            selectors.append(node)
        nodes += children(node)
    return selectors


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def dashboard(request: pytest.FixtureRequest) -> Json:
    """Load each dashboard in turn."""
    loaded: Json = json.loads(request.param.read_text())
    assert loaded["uid"] == request.param.stem
    return loaded


def test_it_is_what_grafana_knows(dashboard: Json, shared_dir: Path) -> None:
    """The dashboard, each panel's options and its field settings are valid to the letter."""
    contracts = shared_dir / "contracts" / "grafana"
    for annotation in dashboard["annotations"]["list"]:
        for field in ANNOTATION_FIELDS:
            annotation.pop(field, None)
    schema = json.loads((contracts / "dashboard-classic.schema.json").read_text())
    jsonschema.validate(dashboard, schema, jsonschema.Draft7Validator)
    schemas = json.loads((contracts / "panels.schema.json").read_text())["schemas"]
    for panel in _panels(dashboard):
        kind = panel["type"].replace("-", "")
        custom = panel.get("fieldConfig", {}).get("defaults", {}).get("custom")
        for part, value in (("Options", panel.get("options")), ("FieldConfig", custom)):
            if value is not None and f"{kind}.{part}" in schemas:
                jsonschema.validate(value, schemas[f"{kind}.{part}"], jsonschema.Draft7Validator)


def test_it_belongs_to_the_family(dashboard: Json) -> None:
    """Uid, tag, links, time range and refresh are those of all our dashboards."""
    assert re.fullmatch(r"fleet-[a-z0-9-]{1,34}", dashboard["uid"])
    assert dashboard["title"].startswith("Fleet / ")
    assert "fleet" in dashboard["tags"]
    assert dashboard["editable"] is False
    assert dashboard["schemaVersion"] in (41, 42)
    assert dashboard["graphTooltip"] == 1
    assert dashboard["refresh"] in ("1m", "5m")
    assert "id" not in dashboard
    [link] = dashboard["links"]
    assert (link["type"], link["tags"]) == ("dashboards", ["fleet"])
    assert link["asDropdown"]
    assert link["includeVars"]
    assert link["keepTime"]


def test_variables_choose_source_region_and_cluster(dashboard: Json) -> None:
    """Variables are chained, refresh with the time range, and read one series per cluster."""
    source, region, cluster, *rest = dashboard["templating"]["list"]
    assert (source["name"], source["type"], source["label"]) == (
        "datasource", "datasource", "Data source",
    )  # fmt: skip
    assert (region["name"], cluster["name"]) == ("region", "cluster")
    assert 'region=~"$region"' in cluster["query"]["query"]
    for variable in (region, cluster, *rest):
        assert variable["datasource"]["uid"] == "${datasource}"
        assert variable["refresh"] == 2
        assert variable["sort"] > 0
        assert variable["multi"]
        assert variable["includeAll"]
        assert variable["allValue"] == ".+"
        assert "kube_pod" not in variable["query"]["query"]


def test_every_variable_is_defined_and_used(dashboard: Json) -> None:
    """Nothing refers to a variable that does not exist, and none is there for nothing."""
    defined = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(VARIABLE.findall(json.dumps({**dashboard, "templating": {}})))
    assert used - BUILT_IN == defined
    chained = json.dumps(dashboard["templating"])
    assert set(VARIABLE.findall(chained)) - BUILT_IN - {"__all"} <= defined


def test_panels_explain_themselves(dashboard: Json) -> None:
    """Every panel has a title, a description, a data source by variable and a known unit."""
    for panel in _panels(dashboard):
        if panel["type"] == "row":
            assert panel["title"]
            continue
        assert panel["title"]
        assert len(panel["description"]) > 20, panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
    for panel in _data_panels(dashboard):
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"] in UNITS
        assert panel["interval"] == "30s"
        assert panel["targets"]
        steps = [defaults["thresholds"]]
        steps += [
            part["value"]
            for override in panel["fieldConfig"]["overrides"]
            for part in override["properties"]
            if part["id"] == "thresholds"
        ]
        for thresholds in steps:
            assert thresholds["steps"][0]["value"] is None


def test_panels_are_placed_without_overlap(dashboard: Json) -> None:
    """Ids are unique, nothing overlaps or leaves the grid, and few enough panels are open."""
    ids = [panel["id"] for panel in _panels(dashboard)]
    assert len(set(ids)) == len(ids)
    assert min(ids) > 0
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        cells = {(grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    assert sum(panel["type"] in DATA_PANELS for panel in dashboard["panels"]) <= 25


def test_queries_fit_their_panels(dashboard: Json) -> None:
    """Tables ask once and as tables, graphs over time; refIds and legends are in order."""
    for panel in _data_panels(dashboard):
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            table = panel["type"] == "table"
            assert target["format"] == ("table" if table else "time_series")
            assert target["instant"] is not target["range"]
            if panel["type"] in ("timeseries", "state-timeline"):
                assert target["range"]
                assert "{{" in target["legendFormat"]
            if table:
                assert target["instant"]


def test_expressions_parse_and_select_by_cluster(dashboard: Json) -> None:
    """Each expression is PromQL of ours, names its metric, and keeps to the chosen clusters."""
    profile = {metric.name for metric in load_profile(("kubernetes",)).metrics}
    variables = {
        LABEL_VALUES.fullmatch(variable["query"]["query"])["selector"]
        for variable in dashboard["templating"]["list"]
        if variable["type"] == "query"
    }
    for expression in _expressions(dashboard):
        for selector in _selectors(expression):
            matchers = {matcher.name: str(matcher) for matcher in selector.matchers}
            name = matchers.pop(METRIC_NAME).split('"')[1]
            assert name in profile | OWN_METRICS, expression
            if expression not in variables:
                assert matchers["cluster"] == 'cluster=~"$cluster"', expression
                assert matchers["region"] == 'region=~"$region"', expression
        for fixed in re.findall(r"\b(?:rate|increase|irate)\(.*?\[(.*?)\]", expression):
            assert fixed == "$__rate_interval", expression


def test_links_lead_somewhere_and_carry_place_and_time(dashboard: Json) -> None:
    """A link goes to a dashboard that exists, with data source, variables and time range."""
    known = {json.loads(path.read_text())["uid"] for path in FILES}
    urls = re.findall(r'"url": "(/d/[^"]+)"', json.dumps(dashboard))
    assert urls
    for url in urls:
        assert url.split("/")[2].split("?")[0] in known
        for part in ("${datasource:queryparam}", "${__url_time_range}", "var-cluster="):
            assert part in url
        assert ":percentencode}" in url


def test_annotations_can_be_switched_off(dashboard: Json) -> None:
    """Alerts and rollouts are shown with colours of their own and a switch."""
    names = {each["name"]: each for each in dashboard["annotations"]["list"]}
    assert {"Alerts", "Rollouts"} <= set(names)
    for annotation in names.values():
        assert annotation["hide"] is False
        assert annotation["iconColor"]
