"""The fleet API, health and documentation."""

import re

import jsonschema
import pytest

from aggregator.fleet.view import (
    BindingView,
    ClusterView,
    Coverage,
    Details,
    DroppedView,
    GapView,
    SubjectView,
)

SUBJECT = SubjectView("fleet:nodes", "late", 30.0, 1000.0, 90.0, "")
GAP = GapView("raw:up", 10.0, 40.0, "unreachable")
KSM = ("kube-state-metrics",)
BINDING = BindingView(
    "fleet:node_ready", "nodes", "ok", KSM, "exact", "", 1000.0, 90.0, 10.0, ("kubelet-up",)
)
DROPPED = DroppedView("raw:up", 5, 4, "up", "job", 9, 10.0, "5 series above the limit")


def _view(name, region, state):
    return ClusterView(
        cluster=name,
        region=region,
        labels={"environment": "prod"},
        state=state,
        data_until=1000.0 if state != "never" else None,
        age_seconds=90.0 if state != "never" else None,
        error="" if state == "ok" else "connection refused",
        place="its nodes are elsewhere" if name == "us-1" else "",
        interval_seconds=30.0,
        dialect="thanos",
        coverage=Coverage(3, 4),
        subjects=(SUBJECT,),
        gaps=(GAP,),
        series={"recorded": 7},
        rejected={},
        dropped=(DROPPED,),
        details=lambda: Details((BINDING,), {"nodes": Coverage(1, 2)}),
    )


@pytest.fixture
def fleet(api):
    """Return the API over two clusters."""
    api.clusters += [_view("eu-1", "europe", "ok"), _view("us-1", "us", "never")]
    return api


def test_clusters(fleet):
    """The list says state, age and error of each cluster, and its sources."""
    answer = fleet.get("/api/v1/clusters").json()
    assert [each["cluster"] for each in answer["clusters"]] == ["eu-1", "us-1"]
    assert answer["clusters"][0]["labels"] == {"environment": "prod"}
    assert answer["clusters"][0]["coverage"] == {"served": 3, "metrics": 4}
    assert [each["place"] for each in answer["clusters"]] == ["", "its nodes are elsewhere"]
    assert not {"subjects", "bindings", "details"} & answer["clusters"][0].keys()
    assert answer["sources"][1] == {
        "cluster": "us-1",
        "region": "us",
        "state": "never",
        "data_until": None,
        "age_seconds": None,
        "error": "connection refused",
    }
    only = fleet.get("/api/v1/clusters", region="us").json()
    assert [each["cluster"] for each in only["sources"]] == ["us-1"]


def test_cluster(fleet):
    """One cluster has its subjects, bindings and gaps; an unknown one is 404."""
    answer = fleet.get("/api/v1/clusters/eu-1").json()
    assert answer["cluster"]["subjects"][0]["subject"] == "fleet:nodes"
    [binding] = answer["cluster"]["bindings"]
    assert (binding["candidates"], binding["previous"]) == (["kube-state-metrics"], ["kubelet-up"])
    assert answer["cluster"]["groups"] == {"nodes": {"served": 1, "metrics": 2}}
    assert answer["cluster"]["dropped"][0]["text"] == "5 series above the limit"
    assert [each["cluster"] for each in answer["sources"]] == ["eu-1"]
    assert fleet.get("/api/v1/clusters/nope").status_code == 404


def test_gaps(fleet):
    """The gaps are listed by cluster."""
    gaps = fleet.get("/api/v1/gaps", region="europe").json()["gaps"]
    assert gaps == [
        {"cluster": "eu-1", "region": "europe", "subject": "raw:up", "start": 10.0, "end": 40.0,
         "reason": "unreachable"}
    ]  # fmt: skip


def test_readiness(api):
    """Readiness is 503 with what it waits for, then 200."""
    api.waiting += [f"cluster {number}" for number in range(12)]
    answer = api.get("/readyz")
    assert answer.status_code == 503
    assert "cluster 0\n" in answer.text
    assert "and 2 more" in answer.text
    api.waiting.clear()
    assert api.get("/readyz").status_code == 200


def test_metrics(api):
    """Our own metrics are in Prometheus's text format."""
    answer = api.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "# TYPE aggregator_http_requests_total counter" in answer.text


def test_documentation(api):
    """The page names every operation of the OpenAPI document and loads nothing from afar."""
    document = api.get("/openapi.json").json()
    page = api.get("/docs").text
    for path, operations in document["paths"].items():
        assert f"<code>{path}</code>" in page
        for operation in operations.values():
            assert f'id="{operation["operationId"]}"' in page
    assert not re.search(r"<script>|<style|style=|https?://", page)


def test_openapi_tells_the_truth(fleet):
    """Answers fit the schemas that the document gives for them."""
    document = fleet.get("/openapi.json").json()
    fleet.seed({"__name__": "up", "cluster": "eu-1"}, [(0, 1.0)])
    for path, parameters, status in (
        ("/prometheus/api/v1/query", {"query": "up"}, 200),
        ("/prometheus/api/v1/query", {"query": "1"}, 200),
        ("/prometheus/api/v1/query", {"query": "sum("}, 400),
        ("/prometheus/api/v1/query_range", {"query": "up", "start": 1, "end": 2, "step": 1}, 200),
        ("/prometheus/api/v1/labels", {}, 200),
        ("/prometheus/api/v1/series", {"match[]": "up"}, 200),
        ("/prometheus/api/v1/status/buildinfo", {}, 200),
        ("/api/v1/clusters", {}, 200),
        ("/api/v1/gaps", {}, 200),
    ):
        answer = fleet.get(path, **parameters)
        assert answer.status_code == status
        content = document["paths"][path]["get"]["responses"][str(status)]["content"]
        jsonschema.validate(answer.json(), content["application/json"]["schema"])
    names = [
        each["name"] for each in document["paths"]["/prometheus/api/v1/query"]["get"]["parameters"]
    ]
    assert names == ["query", "time", "limit", "timeout", "lookback_delta", "stats"]
