"""A scope shows what a store of only the matching series would."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import aggregator.promql
from aggregator.errors import QueryError, QueryExecutionError, QuerySyntaxError
from aggregator.model.budget import Budget
from aggregator.model.stepmatrix import StepRange
from aggregator.promql.engine import Engine
from aggregator.promql.parse import parse
from aggregator.promql.scope import admits, check_plan, parse_scope
from tests.promql.scoped import asked, fleets, matches, stored, within


def answer(store, query, scope=()):
    """Return everything an engine says of *query*, comparable as a whole."""
    engine, budget = Engine(store), Budget()
    try:
        if query.count == 1:
            result = engine.instant(query.text, query.start_ms, budget, scope=scope)
        else:
            steps = StepRange(query.start_ms, query.step_ms, query.count)
            result = engine.range(query.text, steps, budget, scope=scope)
    except QueryError as error:
        return type(error), str(error)
    told = (result.kind, result.text, result.warnings, result.infos, budget.samples)
    if result.ranges is not None:
        samples = result.ranges.samples
        parts = (samples.offsets, samples.times, samples.values)
        return told, result.ranges.labels.dicts(), *(part.tobytes() for part in parts)
    if result.matrix is None:
        return told
    matrix = result.matrix
    values = np.where(matrix.present, matrix.values, 0.0)
    return told, matrix.series.dicts(), values.tobytes(), matrix.present.tobytes()


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(fleet=fleets(), match=matches(), query=asked())
def test_a_scope_is_a_smaller_store(fleet, match, query):
    """With a scope a query answers byte by byte what a store of only the matching series does."""
    assert answer(stored(fleet), query, parse_scope(match)) == answer(
        stored(within(fleet, match)), query
    )


@pytest.mark.parametrize(
    ("match", "labels", "expected"),
    [('region="europe"', {"region": "europe"}, True), ('region="europe"', {}, False),
     ('region=""', {}, True), ('region!="us"', {}, True), ('region=~"us|"', {}, True),
     ('region!~".*"', {}, False), ('region="eu",cluster=~"a.*",', {"region": "eu", "cluster": "ab"},
      True), ('region="eu",cluster=~"a.*"', {"region": "eu", "cluster": "ba"}, False),
     ('"größe"="1"', {"größe": "1"}, True), ('"up"', {"__name__": "up"}, True)],
)  # fmt: skip
def test_admits(match, labels, expected):
    """A label that is absent counts as empty; regexes match the whole value; all must match."""
    assert admits(parse_scope(match), labels) is expected


@pytest.mark.parametrize(
    "text",
    ['region="europe"}', 'region="europe"} or {a="b"', 'region="europe"}#', 'region="europe" #',
     "up", 'up{region="europe"}', 'region=~"("', "region", 'region="europe" cluster="a"', "{}",
     'a="b"}[5m', 'a="b"} offset 5m #'],
)  # fmt: skip
def test_no_scope(text):
    """What is not matchers and nothing else is refused."""
    with pytest.raises(QuerySyntaxError):
        parse_scope(text)


def test_unknown_nodes_are_refused():
    """A kind of node that nobody has looked at is refused within a scope, wherever it is."""

    @dataclass(frozen=True)
    class Novelty:
        start: int = 0
        end: int = 0

    check_plan(parse("sum by (a) (rate(up[5m] offset 1m)) + max_over_time(up[5m:1m]) > -(1)"))
    object.__setattr__(plan := parse("-up"), "expr", Novelty())
    with pytest.raises(QueryExecutionError, match="Novelty is not available"):
        check_plan(plan)


def test_series_are_selected_in_one_place():
    """Nothing but the leaf planner asks the store which series there are."""
    folder = Path(aggregator.promql.__file__).parent
    asking = re.compile(r"reader\s*\.\s*(?!(?:read|newest|strings|computes|cells|sums)\b)\w+")
    selecting = [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*.py"))
        if asking.search(path.read_text())
    ]
    assert selecting == ["context.py"]
