"""A Loki that answers from a script, and clusters that have one."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from aggregator.fleet.registry import Registry
from aggregator.fleet.settings import ClusterSettings, CollectSettings
from aggregator.profile.format import FleetMetric, Profile
from tests.collect.stage import T0, Row, Stage
from tests.servers import Request, Response, ScriptedServer, scripted

STATS = {"summary": {"execTime": 0.01, "totalLinesProcessed": 5}, "ingester": {"totalReached": 1}}
MINUTE = 60_000
TEXT = "text/plain; charset=utf-8"


@dataclass
class FakeLoki:
    """Says what its tables say: `vectors` by a piece of the expression, and the streams' `labels`.

    Expressions with a piece of `refused` get that answer, all of them that of `fail`; with
    `hanging` set nothing is answered until `released`.
    """

    vectors: dict[str, Callable[[int], Sequence[Row]]] = field(default_factory=dict)
    labels: list[str] = field(default_factory=lambda: ["namespace", "app"])
    refused: dict[str, Response] = field(default_factory=dict)
    fail: Response | None = None
    hanging: bool = False
    released: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, int]] = field(default_factory=list)

    def __call__(self, request: Request) -> Response:
        """Answer one request."""
        if self.hanging:
            self.released.wait(60)
        if self.fail is not None:
            return self.fail
        if request.path == "/loki/api/v1/labels":
            body: dict[str, object] = {"status": "success"}
            return _json({**body, "data": self.labels} if self.labels else body)
        assert request.path == "/loki/api/v1/query"
        params = dict(request.query)
        params |= {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        query, time_ms = params["query"], int(params["time"]) // 1_000_000
        if query == "vector(1)":
            return vector([({}, 1.0)], time_ms)
        self.asked.append((query, time_ms))
        for piece, response in self.refused.items():
            if piece in query:
                return response
        found = (rows for piece, rows in self.vectors.items() if piece in query)
        return vector(next(found, lambda _: [])(time_ms), time_ms)

    def times(self, piece: str) -> list[int]:
        """Return for which instants, in minutes since T0, a metric was asked."""
        return [(time_ms - T0) // MINUTE for query, time_ms in self.asked if piece in query]


def vector(rows: Sequence[Row], time_ms: int) -> Response:
    """Return an answer as Loki gives it, statistics included."""
    result = [
        {"metric": dict(labels), "value": [time_ms / 1000, str(value)]} for labels, value in rows
    ]
    data = {"resultType": "vector", "result": result, "stats": STATS}
    return _json({"status": "success", "data": data})


def _json(body: Mapping[str, object]) -> Response:
    return Response(200, json.dumps(body, separators=(",", ":")).encode())


@contextmanager
def loki() -> Iterator[tuple[FakeLoki, ScriptedServer]]:
    """Run a scripted Loki."""
    fake = FakeLoki()
    with scripted(fake) as server:
        try:
            yield fake, server
        finally:
            fake.released.set()


def registry(stage: Stage, urls: Mapping[str, str | None], **collect: object) -> Registry:
    """Return a registry of clusters behind the stage's Prometheus, each with a Loki of its own."""
    clusters = []
    for name, url in urls.items():
        own: dict[str, object] = {} if url is None else {"loki": {"url": url, "timeout": "2s"}}
        cluster = {"name": name, "region": "europe", "prometheus": {"url": stage.server.url}, **own}
        clusters.append(ClusterSettings.model_validate(cluster))
    return Registry(clusters, CollectSettings.model_validate({"interval": "15s", **collect}))


def log_profile(*names: str, **fields: object) -> Profile:
    """Return a profile whose metrics `fleet:<name>` count lines with a word, by namespace."""
    return Profile(tuple(log_metric(name, **fields) for name in names))


def log_metric(name: str, **fields: object) -> FleetMetric:
    """Return one such metric; *fields* replace its own."""
    expr = f'sum by (namespace) (count_over_time({{namespace=~".+",$sel}} |= "{name}" [$window]))'
    metric = {
        "name": f"fleet:{name}",
        "help": "Lines",
        "unit": "count",
        "group": "logs",
        "source": "loki",
        "window": "5m",
        "interval": "5m",
        "labels": ("namespace",),
        "candidates": [{"id": "text", "quality": "close", "expr": expr}],
    }
    return FleetMetric.model_validate({**metric, **fields})
