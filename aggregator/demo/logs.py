"""A simulated Loki: answers the instant queries of the bundled profile with made-up numbers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aggregator.api.exchange import Reply, Request, Route, json_reply
from aggregator.demo.scenario import ERRORS, POOL, RESTARTS, Stage, curve, load_switches

_LABELS = ["app", "container", "namespace", "pod"]


@dataclass(frozen=True, slots=True)
class _Count:
    """What a query finds: so much in calm times, and so much more while *stage* shows."""

    labels: Mapping[str, str]
    calm: float
    more: float
    stage: Stage


_SHOP = {"namespace": "shop", "app": "checkout"}
# By a piece of the expression; what is not here finds nothing.
_FOUND: Mapping[str, tuple[_Count, ...]] = {
    'detected_level=~".+"': (_Count({}, 90_000.0, 0.0, ERRORS),),
    'status=~".+"': (_Count({}, 40_000.0, 0.0, ERRORS),),
    'detected_level=~"error': (
        _Count(_SHOP, 0.05, 6.0, ERRORS),
        _Count({"namespace": "shop", "app": "catalog"}, 0.02, 2.5, ERRORS),
        _Count({"namespace": "payments", "app": "ledger"}, 0.01, 0.6, ERRORS),
    ),
    "panic: ": (_Count(_SHOP, 0.0, 9.0, RESTARTS),),
    'status=~"5': (_Count({"host": "shop.example.com"}, 0.1, 8.0, ERRORS),),
    "no such host": (_Count({"namespace": "platform"}, 2.0, 0.0, ERRORS),),
    "QueuePool limit": (
        _Count({"namespace": "shop"}, 0.0, 420.0, POOL),
        _Count({"namespace": "payments"}, 0.0, 60.0, POOL),
    ),
    "vector(1)": (_Count({}, 1.0, 0.0, ERRORS),),
}


def routes(switches_file: Path, now_ms: Callable[[], int]) -> tuple[Route, ...]:
    """Return the paths of Loki that are asked for log metrics."""

    def labels(_request: Request) -> Reply:
        return json_reply({"status": "success", "data": _LABELS})

    def query(request: Request) -> Reply:
        seconds = int(request.first("time") or now_ms() * 1_000_000) / 1e9
        text, switches = request.first("query"), load_switches(switches_file)
        found = next((counts for piece, counts in _FOUND.items() if piece in text), ())
        rows = []
        for count in found:
            shown = float(curve(switches, count.stage).at(np.array([seconds]))[0])
            value = count.calm + count.more * shown
            if value > 0:
                rows.append({"metric": count.labels, "value": [seconds, f"{value:.4f}"]})
        data = {"resultType": "vector", "result": rows}
        return json_reply({"status": "success", "data": data})

    return (
        Route("/loki/api/v1/labels", labels, "Labels of the streams", tag="loki"),
        Route("/loki/api/v1/query", query, "Count lines", tag="loki", methods=("GET", "POST")),
    )
