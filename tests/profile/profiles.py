"""Small profiles and answers for the tests."""

from collections.abc import Mapping, Sequence

import orjson

from aggregator.profile.format import Bound, Candidate, FleetMetric


def candidate(id: str = "a", **keys: object) -> Candidate:  # noqa: A002  the profile's own word
    """Return a candidate; without `expr` or `derive` it asks for `x`."""
    asked = {} if "derive" in keys else {"expr": f"{id}{{$sel}}"}
    return Candidate.model_validate({"id": id, "quality": "exact", **asked, **keys})


def metric(name: str, labels: Sequence[str], *candidates: Candidate, **keys: object) -> FleetMetric:
    """Return a fleet metric, counting things unless told otherwise."""
    plain = {"help": "Of a test", "unit": "count", "group": "test", **keys}
    return FleetMetric.model_validate(
        {"name": f"fleet:{name}", "labels": labels, "candidates": candidates, **plain}
    )


def bound(*metrics: FleetMetric) -> list[Bound]:
    """Bind every candidate of *metrics*."""
    return [Bound(metric, candidate) for metric in metrics for candidate in metric.candidates]


def row(rule: object, labels: Mapping[str, str]) -> bytes:
    """Return the label set of an answer's row."""
    return orjson.dumps({"__rule__": str(rule), **labels})


REQUESTS = metric(
    "requests_per_second",
    ["namespace", "code_class"],
    candidate("nginx", map={"namespace": "ns", "code_class": "status|class"}, scale=0.5),
    unit="req/s",
)
ERRORS = metric(
    "error_ratio",
    ["namespace"],
    candidate(
        "derived",
        derive={"metric": "fleet:requests_per_second", "part": {"code_class": "5xx"}},
    ),
    unit="ratio",
)
LATENCY = metric(
    "latency_seconds",
    ["service"],
    candidate("traefik", map={"service": "service|traefik_svc"}),
    unit="seconds",
)
WORKLOADS = metric(
    "replicas",
    ["type", "workload"],
    candidate("deployment", merge="union", map={"workload": "deployment"}, const={"type": "d"}),
    candidate("copy", merge="union", map={"workload": "name"}, const={"type": "d"}),
)
