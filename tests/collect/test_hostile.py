"""A cluster that does its worst: limits hold, the others do not notice, everything is counted."""

import itertools
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from urllib.parse import parse_qs

import pytest

from aggregator.collect.collector import Collector
from aggregator.fleet.registry import Registry
from aggregator.fleet.settings import ClusterSettings, CollectSettings
from aggregator.model.budget import Budget
from aggregator.model.labels import Matcher, MatchOp
from tests.collect.stage import Request, Response, Stage, profile
from tests.servers import scripted, wait_until

INTERVAL_SECONDS = 2
NEW_A_MINUTE = 200_000
LIMIT = 3_000
HEALTHY = ("h1", "h2", "h3")
_WINDOW = re.compile(r"\[\d+ms\]$")
_MEGABYTE = "m" * 1_000_000
_WORST: tuple[dict[str, str], ...] = (
    {"__name__": "ok", "x": '"><script>alert(1)</script>\n\\"'},
    {"__name__": "ok", "x": "other", "cluster": "h1", "region": "moon"},
    {"__name__": "ALERTS", "alertname": "Fake", "alertstate": "firing"},
    {"__name__": "fleet:m", "x": "1", "cluster": "h1"},
    {"__name__": "fleet:cluster_state", "state": "ok", "cluster": "h1"},
    {"__name__": 'up"} or vector(1)\n', "x": "1"},
    {"__name__": "<b>name</b>", "x": "1"},
    {"__name__": "ok", "bad label\n": "1"},
    {"__name__": "ok", "x": _MEGABYTE},
    {"x": "no name"},
)


@dataclass
class HostilePrometheus:
    """Answers every question with names that were never seen before, and with the worst of all."""

    numbers: Iterator[int] = field(default_factory=itertools.count)
    asked: int = 0

    def __call__(self, request: Request) -> Response:
        """Answer one request."""
        if request.path.endswith("/buildinfo"):
            return Response(200, b"[" * 10_000)
        params = dict(request.query)
        params |= {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        query, at = params["query"], float(params.get("time", "0"))
        if "count" in query or query == "vector(1)" or "start" in params:
            rows = [{"metric": {"__rule__": "0"}, "value": [at, "1"]}]
            return _answer("vector", [] if "up)" in query else rows)
        self.asked += 1
        if _WINDOW.search(query):
            rows = [{"metric": each, "values": [[at - 0.5, "1"]]} for each in self._series("raw")]
            return _answer("matrix", rows)
        tagged = ({"__rule__": "0", "cluster": "h1", **each} for each in self._series("recorded"))
        return _answer("vector", [{"metric": each, "value": [at, "1"]} for each in tagged])

    def _series(self, kind: str) -> list[dict[str, str]]:
        count = NEW_A_MINUTE * INTERVAL_SECONDS // 60
        new = [{"__name__": "exploded", "x": f"{kind}-{next(self.numbers)}"} for _ in range(count)]
        return [*_WORST, *new]


def _answer(kind: str, rows: list[dict[str, object]]) -> Response:
    body = {"status": "success", "data": {"resultType": kind, "result": rows}}
    return Response(200, json.dumps(body, separators=(",", ":")).encode())


def _registry(urls: dict[str, str]) -> Registry:
    clusters = [
        ClusterSettings.model_validate(
            {"name": name, "region": "europe", "prometheus": {"url": url}}
        )
        for name, url in urls.items()
    ]
    settings = {
        "interval": f"{INTERVAL_SECONDS}s",
        "lag": "0s",
        "raw": [{"match": '{x=~".+"}'}],
        "limits": {"series": LIMIT},
    }
    return Registry(clusters, CollectSettings.model_validate(settings))


def _names(stage: Stage, **matching: str) -> list[dict[str, str]]:
    """Return the label sets of every series with these labels."""
    matchers = [Matcher(name, MatchOp.EQUAL, value) for name, value in matching.items()]
    end_ms = 2 * int(time.time() * 1000)
    return stage.store.select(matchers, 0, end_ms, stage.store.strings(), Budget()).labels.dicts()


def test_a_hostile_cluster(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    """Limits hold, no name passes for another cluster's or ours, and the others are on time."""
    started = int(time.time() * 1000)
    monkeypatch.setattr("tests.collect.stage.T0", started)
    stage.prometheus.vectors["m"] = lambda _: [({"x": "1"}, 1.0)]
    hostile = HostilePrometheus()
    context = replace(stage.context, now=lambda: int(time.time() * 1000))
    with scripted(hostile) as server:
        urls = {"bad": server.url} | dict.fromkeys(HEALTHY, stage.server.url)
        collector = Collector(_registry(urls), profile("m"), context)
        collector.start()
        try:
            wait_until(lambda: hostile.asked >= 12, 60, "six cycles of the hostile cluster")
            marks = context.watermarks
            wait_until(lambda: _until(marks, "h1") > started + 12_000, 30, "six instants of h1")
        finally:
            collector.stop()
    for name in HEALTHY:
        times = [at for at, _ in stage.samples("fleet:m", cluster=name)["x=1"]]
        assert {after - before for before, after in pairwise(times)} == {INTERVAL_SECONDS * 1000}
        assert context.health.get(name).dropped == {}
        assert context.gaps.open(name) == ()
        assert len(_names(stage, __name__="fleet:m", cluster=name)) == 1
        states = {each["state"] for each in _names(stage, __name__="fleet:cluster_state")}
        assert states <= {"ok", "never"}
    _check_names(stage)
    _check_counts(stage)


def _until(marks, name: str) -> int:
    mark = marks.get(name, "fleet:things")
    return 0 if mark is None else mark.data_until_ms or 0


def _check_names(stage: Stage) -> None:
    found = _names(stage, cluster="bad")
    raw = [each for each in found if not each["__name__"].startswith("fleet:")]
    assert {each["region"] for each in found} == {"europe"}
    assert {each["__name__"] for each in raw} == {"exploded", "ok", "source_ALERTS"}
    assert {
        "__name__": "ok",
        "x": "other",
        "exported_cluster": "h1",
        "exported_region": "moon",
    } in [
        {name: value for name, value in each.items() if name not in {"cluster", "region"}}
        for each in raw
    ]
    assert max(len(value) for each in found for value in each.values()) <= 4_096
    recorded = [each for each in found if each["__name__"] == "fleet:m"]
    # as many as the limit at once, and hardly any more in these seconds
    assert 0 < len(raw) <= LIMIT + 60
    assert 0 < len(recorded) <= LIMIT + 60


def _check_counts(stage: Stage) -> None:
    health = stage.context.health.get("bad")
    assert {
        "series_limit",
        "new_series_limit",
        "reserved_name",
        "invalid_name",
        "invalid_label_name",
        "label_value_too_long",
        "no_name",
    } <= health.rejected.keys()
    assert health.rejected["series_limit"] > 10_000
    assert set(health.dropped) == {"fleet:things", 'raw:{x=~".+"}'}
    raw, recorded = health.dropped['raw:{x=~".+"}'], health.dropped["fleet:things"]
    assert (raw.metric, raw.label) == ("exploded", "x")
    assert (recorded.metric, recorded.label) == ("fleet:m", "x")
    assert "not stored" in health.error
    assert "script" not in health.error
