"""The simulated Loki finds something for the metrics of the bundled profile."""

from pathlib import Path

import orjson
import pytest

from aggregator.api.exchange import Reply, Request
from aggregator.collect.logbinding import expression
from aggregator.demo.logs import routes
from aggregator.demo.scenario import Scenario, Switch, add_switch
from aggregator.model.budget import Budget
from aggregator.profile.format import Bound, Source
from aggregator.profile.load import load_profile

BEGIN = 1_795_000_000_000
HOUR = 3_600_000
BOUNDS = load_profile("kubernetes").served_by(Source.LOKI).bounds
# Nothing runs out of memory in the demo; every other story is told.
TOLD = [BOUNDS[key] for key in BOUNDS if key[1] in ("level", "nginx-json", "text")]


@pytest.mark.parametrize(
    "bound", [one for one in TOLD if "oom" not in one.key[0]], ids=lambda bound: "-".join(bound.key)
)
def test_an_incident_is_seen_in_the_logs(tmp_path: Path, bound: Bound) -> None:
    """There are more lines, or as many, while Europe is slow."""
    switches = tmp_path / "scenario.json"
    add_switch(switches, Switch(BEGIN, Scenario.EUROPE_SLOW))
    labels, query = (route.handler for route in routes(switches, lambda: BEGIN))

    def total(text: str, time_ms: int) -> float:
        pairs = [("query", expression(bound, text, "")), ("time", f"{time_ms}000000")]
        reply = query(Request({}, pairs, b"", None, Budget()))
        assert isinstance(reply, Reply)
        rows = orjson.loads(reply.body)["data"]["result"]
        return sum(float(row["value"][1]) for row in rows)

    expr = bound.candidate.expr or ""
    assert total(expr, BEGIN + HOUR) >= total(expr, BEGIN - HOUR)
    if bound.candidate.id != "text" or "error" not in bound.key[0]:
        assert total(expr, BEGIN + HOUR) > 0
    if bound.candidate.presence is not None:
        assert total(bound.candidate.presence, BEGIN - HOUR) > 0
    reply = labels(Request({}, [], b"", None, Budget()))
    assert isinstance(reply, Reply)
    assert "namespace" in orjson.loads(reply.body)["data"]
