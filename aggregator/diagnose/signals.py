"""The signals that tell how a cluster is doing, and from where on they are trouble."""

import math
from dataclasses import dataclass
from enum import Enum


class Unit(Enum):
    """What a value is counted in."""

    RATIO = "ratio"
    SECONDS = "seconds"
    COUNT = "count"


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal: `query` gives one value for each cluster, with the labels cluster and region.

    A value of `warn` or more is degraded, of `critical` or more is bad.
    """

    name: str
    title: str
    query: str
    unit: Unit
    warn: float
    critical: float


SIGNALS: tuple[Signal, ...] = (
    Signal(
        "errors",
        "Ingress errors",
        '(sum by (cluster, region) (fleet:ingress_requests_per_second{code_class="5xx"})'
        " or 0 * sum by (cluster, region) (fleet:ingress_requests_per_second))"
        " / sum by (cluster, region) (fleet:ingress_requests_per_second)",
        Unit.RATIO,
        0.01,
        0.05,
    ),
    Signal(
        "latency",
        "Ingress latency p95",
        'max by (cluster, region) (fleet:ingress_latency_seconds{point="upstream"})',
        Unit.SECONDS,
        0.5,
        2.0,
    ),
    Signal(
        "cpu",
        "CPU",
        "max by (cluster, region) (fleet:cluster_cpu_utilisation_ratio)",
        Unit.RATIO,
        0.8,
        0.95,
    ),
    Signal(
        "restarts",
        "Restarts in 15 min",
        "sum by (cluster, region) (fleet:namespace_container_restarts)",
        Unit.COUNT,
        2.0,
        10.0,
    ),
    Signal(
        "nodes",
        "Nodes not ready",
        "1 - avg by (cluster, region) (fleet:node_ready)",
        Unit.RATIO,
        0.05,
        0.2,
    ),
    Signal(
        "memory",
        "Memory of the fullest node",
        "max by (cluster, region) (fleet:node_memory_utilisation_ratio)",
        Unit.RATIO,
        0.9,
        0.97,
    ),
)


def format_value(value: float, unit: Unit) -> str:
    """Return *value* with its unit and at most three significant digits (`1.24 s`, `38 %`)."""
    if not math.isfinite(value):
        return "not a number"
    match unit:
        case Unit.RATIO:
            return f"{_digits(100 * value)} %"
        case Unit.SECONDS if abs(value) < 1:
            return f"{_digits(1000 * value)} ms"
        case Unit.SECONDS:
            return f"{_digits(value)} s"
        case Unit.COUNT:
            return _digits(value)


def _digits(value: float) -> str:
    if value == 0:
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{min(places, 4)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_age(seconds: float) -> str:
    """Return a duration as people say it: `12 s`, `4 min`, `3 h`, `2 d`."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
