"""A Prometheus that answers from a script, and everything a collector works with."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs

import numpy as np

from aggregator.collect.context import Context
from aggregator.fleet.health import HealthBoard
from aggregator.fleet.registry import Cluster, Registry
from aggregator.fleet.settings import ClusterSettings, CollectSettings
from aggregator.model.budget import Budget
from aggregator.model.labels import Matcher, MatchOp
from aggregator.model.samples import SampleBlock, is_stale
from aggregator.profile.format import FleetMetric, Profile
from aggregator.promql.engine import Engine
from aggregator.state.bindings import Bindings
from aggregator.state.database import open_database
from aggregator.state.gaps import Gaps
from aggregator.state.watermarks import Watermarks
from aggregator.store.memory import MemoryStore
from tests.servers import Request, Response, ScriptedServer, scripted

Row = tuple[Mapping[str, str], float]
PROMETHEUS = Response(200, b'{"status":"success","data":{"version":"2.42.0"}}')
T0 = 1_700_000_040_000  # on every grid used here
_BRANCH = re.compile(
    r"label_replace\(([^()]*(?:\([^()]*(?:\([^()]*\))?[^()]*\))?[^()]*), "
    r'"__rule__", "(\w+)", "", ""\)'
)
_HOUR = re.compile(r"last_over_time\((\w+)\[1h\]\)")
_RANGE = re.compile(r"(\{.*\})\[(\d+)ms\]")


@dataclass
class FakePrometheus:
    """Says what its tables say: `vectors` by expression, and raw samples by label set (JSON).

    `earlier` are vectors that had data within the last hour, `up` the targets by their clusters.

    Expressions in `refused` are answered with that status. A raw series is visible for 5 minutes
    after its newest sample, or until its time in `ended`.
    """

    vectors: dict[str, Callable[[int], Sequence[Row]]] = field(default_factory=dict)
    earlier: dict[str, Callable[[int], Sequence[Row]]] = field(default_factory=dict)
    raw: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    up: list[Row] = field(default_factory=list)
    ended: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    error_type: str = "execution"
    warnings: list[str] = field(default_factory=list)
    fail: Response | None = None
    build: Response = PROMETHEUS
    queries: list[str] = field(default_factory=list)

    def __call__(self, request: Request) -> Response:
        """Answer one request."""
        if request.path.endswith("/status/buildinfo"):
            return self.fail or self.build
        params = dict(request.query)
        params |= {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        query = params["query"]
        self.queries.append(query)
        if self.fail is not None:
            return self.fail
        for expr, status in self.refused.items():
            if expr in query:
                error = {"status": "error", "errorType": self.error_type, "error": f"no {expr}"}
                return Response(status, json.dumps(error).encode())
        if request.path.endswith("/query_range"):
            start, end, step = (_ms(params[name]) for name in ("start", "end", "step"))
            return self._success("matrix", self._range(query, range(start, end + 1, step)))
        time_ms = _ms(params["time"])
        if _RANGE.fullmatch(query):
            return self._success("matrix", self._window(query, time_ms))
        return self._success(
            "vector",
            [
                {"metric": dict(labels), "value": [time_ms / 1000, _text(value)]}
                for labels, value in self._vector(query, time_ms)
            ],
        )

    def _success(self, kind: str, result: list[dict[str, object]]) -> Response:
        body = {"status": "success", "data": {"resultType": kind, "result": result}}
        if self.warnings:
            body["warnings"] = self.warnings
        return Response(200, json.dumps(body, separators=(",", ":")).encode())

    def _vector(self, query: str, time_ms: int) -> list[Row]:
        if query == "vector(1)":
            return [({}, 1.0)]
        if query.startswith("count by (cluster,"):
            return self.up
        if query.startswith("{"):
            return [
                (json.loads(labels), seen[-1])
                for labels, samples in self._matching(query).items()
                if (seen := [value for at, value in samples if time_ms - 300_000 < at <= time_ms])
                and time_ms < self.ended.get(labels, time_ms + 1)
            ]
        rows: list[Row] = []
        for expr, tag in _BRANCH.findall(query):
            counted = re.fullmatch(r"count\((.*)\)", expr)
            asked = counted[1] if counted else expr
            hour = _HOUR.fullmatch(asked)
            earlier = self.earlier if hour else self.vectors
            found = earlier.get(hour[1] if hour else asked, lambda _: [])(time_ms)
            if counted:
                found = [({}, float(len(found)))] if found else []
            rows += [({**labels, "__rule__": tag}, value) for labels, value in found]
        return rows

    def _range(self, query: str, times: range) -> list[dict[str, object]]:
        series: dict[str, list[tuple[float, str]]] = {}
        for at in times:
            for labels, value in self._vector(query, at):
                series.setdefault(json.dumps(labels), []).append((at / 1000, _text(value)))
        return [{"metric": json.loads(key), "values": found} for key, found in series.items()]

    def _window(self, query: str, time_ms: int) -> list[dict[str, object]]:
        found = _RANGE.fullmatch(query)
        assert found
        left = time_ms - int(found[2])  # closed at both ends, as in 2.x
        rows = []
        for labels, samples in self._matching(found[1]).items():
            seen = [(at / 1000, _text(value)) for at, value in samples if left <= at <= time_ms]
            if seen:
                rows.append({"metric": json.loads(labels), "values": seen})
        return rows

    def _matching(self, selector: str) -> dict[str, list[tuple[int, float]]]:
        name = re.search(r'__name__="([^"]*)"', selector)
        return {
            labels: samples
            for labels, samples in sorted(self.raw.items())
            if name is None or json.loads(labels)["__name__"] == name[1]
        }


def raw_series(name: str, **labels: str) -> str:
    """Return the key of a raw series."""
    return json.dumps({"__name__": name, **labels})


def _ms(seconds: str) -> int:
    return round(float(seconds) * 1000)


def _text(value: float) -> str:
    if np.isnan(value):
        return "NaN"
    return {np.inf: "+Inf", -np.inf: "-Inf"}.get(value, repr(value))


@dataclass
class Stage:
    """A cluster behind a scripted Prometheus, an empty store, empty state and a clock."""

    prometheus: FakePrometheus
    server: ScriptedServer
    store: MemoryStore
    context: Context
    clock: list[int]
    accepting: list[bool]

    def cluster(self, **collect: object) -> Cluster:
        """Return the cluster `a`, with settings of its own."""
        return next(iter(self.registry(**collect)))

    def registry(self, *names: str, **collect: object) -> Registry:
        """Return a registry of clusters behind the same server."""
        clusters = [
            ClusterSettings.model_validate(
                {"name": name, "region": "europe", "prometheus": {"url": self.server.url}}
            )
            for name in names or ("a",)
        ]
        return Registry(clusters, CollectSettings.model_validate({"interval": "15s", **collect}))

    def samples(self, name: str, **matching: str) -> dict[str, list[tuple[int, float | str]]]:
        """Return what is stored of a metric: (ms since T0, value or `stale`) by label set."""
        matchers = [
            Matcher(label, MatchOp.EQUAL, value)
            for label, value in {"__name__": name, **matching}.items()
        ]
        start, end = 0, 2 * T0  # what was collected from a real server lies at present
        found = self.store.select(matchers, start, end, self.store.strings(), Budget())
        out: dict[str, list[tuple[int, float | str]]] = {}
        for run in self.store.read(found.ids, start, end, Budget()):
            stale = is_stale(run.values)
            for row in range(run.count):
                labels = found.labels.labels(run.first_row + row)
                for stamp in ("__name__", "cluster", "region"):
                    labels.pop(stamp, None)
                key = ",".join(f"{label}={value}" for label, value in sorted(labels.items()))
                window = slice(int(run.offsets[row]), int(run.offsets[row + 1]))
                out[key] = [
                    (int(at) - T0, "stale" if gone else float(value))
                    for at, value, gone in zip(
                        run.times[window], run.values[window], stale[window], strict=True
                    )
                ]
        return out


class DirectWriter:
    """Writes at once, on the caller's thread; refuses while the store is not `accepting`."""

    def __init__(self, store: MemoryStore, accepting: list[bool]) -> None:
        self._store, self._accepting = store, accepting

    def submit(
        self, block: SampleBlock, on_stored: Callable[[], None], timeout_seconds: float
    ) -> bool:
        """Store *block* now."""
        assert timeout_seconds > 0
        if not self._accepting[0]:
            return False
        self._store.write(block)
        on_stored()
        return True


@contextmanager
def stage(directory: Path) -> Iterator[Stage]:
    """Set everything up, with the clock at T0 plus the default lag."""
    prometheus, store, accepting, clock = FakePrometheus(), MemoryStore(), [True], [T0 + 5_000]
    database = open_database(directory / "state.db")
    context = Context(
        store,
        DirectWriter(store, accepting),
        Watermarks(database),
        Gaps(database),
        Bindings(database),
        HealthBoard(),
        lambda: clock[0],
        lambda query, time_ms: Engine(store).instant(query, time_ms, Budget()),
    )
    try:
        with scripted(prometheus) as server:
            yield Stage(prometheus, server, store, context, clock, accepting)
    finally:
        database.close()


def profile(*exprs: str, group: str = "things", labels: Sequence[str] = ("x",)) -> Profile:
    """Return a profile with one metric `fleet:<expr>` for each expression."""
    return Profile(
        tuple(
            FleetMetric.model_validate(
                {
                    "name": f"fleet:{expr}",
                    "help": "A thing",
                    "unit": "count",
                    "group": group,
                    "labels": tuple(labels),
                    "candidates": [{"id": "only", "quality": "exact", "expr": expr}],
                }
            )
            for expr in exprs
        )
    )


def union(*exprs: str) -> Profile:
    """Return a profile with the metric `fleet:union`, which has a candidate for each expression."""
    candidates = [
        {"id": expr, "quality": "exact", "expr": expr, "merge": "union"} for expr in exprs
    ]
    metric = {"name": "fleet:union", "help": "A thing", "unit": "count", "group": "things"}
    return Profile(
        (FleetMetric.model_validate({**metric, "labels": ("x",), "candidates": candidates}),)
    )
