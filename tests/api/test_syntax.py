"""Query texts, formatted and as a tree, beside a real Prometheus where it knows them."""

import pytest
import requests

from aggregator.promql.parse import parse
from aggregator.promql.pretty import pretty
from tests.servers import prometheus

API = "/prometheus/api/v1"
_LONG = "the_name_of_a_metric_that_is_rather_long"
_QUERIES = (
    'sum(rate(foo{a="b"}[5m]))by(x)', "1+2*3", "-(-1)", "up", '{__name__="up"}', '{a=~"b.+"}',
    "a and on(x)b", "a*on(x,y)group_left(z)b", "a*ignoring(x)group_right b", "a>bool 2", "a or b",
    "sum without(a)(b)", 'count_values("x",up)', "topk by(a)(3,up)", "quantile(.5,up)",
    "up offset 5m", "up offset -1h", "up@10", "up@start()", "rate(up[5m]offset 1m@end())",
    "max_over_time(rate(up[5m])[1h:])", "max_over_time(rate(up[5m])[1h:30s]offset 1m)",
    "(a)", "((a+b))", "time()", "vector(1)", 'label_replace(up,"a","$1","b","(.*)")', "1e9", "0x1F",
    "Inf", "NaN", "1e-7", "a % b ^ 2 ^ 3", "a unless b", "absent(up)", '"text"', "'text'",
    "`te\\xt`", "clamp(up,0,1)", "histogram_quantile(0.9,sum by(le)(rate(x_bucket[5m])))",
    "a == b",
    f"sum by (instance, job) (rate({_LONG}[5m])) / sum by (job) (rate({_LONG}_total[5m]))",
    f"histogram_quantile(0.99, sum by (le, instance, job, namespace, cluster) (rate({_LONG}[5m])))",
    f'topk(5, {_LONG}{{a="b",c="d"}} > on (a, b, c) group_left (d, e) {_LONG}{{x="y",z=~"u|v|w"}})',
    f"({_LONG} + {_LONG} + {_LONG}) * -({_LONG} / {_LONG} / {_LONG})",
    f"max_over_time(({_LONG} + {_LONG} + {_LONG})[1h:5m])",
    f'{_LONG}{{aaaaaaaaaaaaaaaaaaaaa="b",cccccccccccccccccccccccccccccc="d",eeeeeeeeeeeeeeee="f"}}',
    f'label_replace({_LONG}, "destination_label", "$1-$2", "source_label", "(.*)-and-then-(.*)")',
)  # fmt: skip


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    """Return the URL of a running Prometheus."""
    with prometheus(tmp_path_factory.mktemp("prometheus")) as server:
        yield server.url


def test_format_is_prometheus_s(peer):
    """Each query is formatted as Prometheus formats it, and means the same afterwards."""
    differing = []
    for query in _QUERIES:
        answer = requests.get(f"{peer}/api/v1/format_query", {"query": query}, timeout=10).json()
        ours = pretty(parse(query))
        assert str(parse(ours)) == str(parse(query))
        if answer["data"] != ours:
            differing.append((query, ours, answer["data"]))
    assert not differing


def test_format(api):
    """A query comes back formatted; a bad one is an error as everywhere."""
    text = api.get(f"{API}/format_query", query="sum(up)by(a)").json()["data"]
    assert text == "sum by (a) (up)"
    bad = api.post(f"{API}/format_query", query="sum(")
    assert (bad.status_code, bad.json()["errorType"]) == (400, "bad_data")


def _parsed(api, query):
    return api.get(f"{API}/parse_query", query=query).json()["data"]


_UP = {
    "type": "vectorSelector", "name": "up", "offset": 0, "timestamp": None, "startOrEnd": None,
    "matchers": [{"name": "__name__", "value": "up", "type": "="}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("query", "tree"),
    [
        ("up", _UP),
        ("1e3", {"type": "numberLiteral", "val": "1000"}),
        ('"x"', {"type": "stringLiteral", "val": "x"}),
        ("(-up)", {"type": "parenExpr", "expr": {"type": "unaryExpr", "op": "-", "expr": _UP}}),
        ("up[5m] offset 1m", {**_UP, "type": "matrixSelector", "range": 300_000, "offset": 60_000}),
        ("up @ 1.5", {**_UP, "timestamp": 1500}),
        ("up @ end()", {**_UP, "startOrEnd": "end"}),
        ("up[1h:1m] @ start()", {"type": "subquery", "expr": _UP, "range": 3_600_000,
         "step": 60_000, "offset": 0, "timestamp": None, "startOrEnd": "start"}),
        ("topk by (a) (2, up)", {"type": "aggregation", "op": "topk", "expr": _UP,
         "param": {"type": "numberLiteral", "val": "2"}, "grouping": ["a"], "without": False}),
        ("round(up)", {"type": "call", "args": [_UP], "func": {"name": "round",
         "argTypes": ["vector", "scalar"], "variadic": 1, "returnType": "vector"}}),
        ("up > bool 1", {"type": "binaryExpr", "op": ">", "lhs": _UP, "bool": True,
         "rhs": {"type": "numberLiteral", "val": "1"}, "matching": None}),
        ("up * on (a) group_left (b) up", {"type": "binaryExpr", "op": "*", "lhs": _UP, "rhs": _UP,
         "bool": False, "matching": {"card": "many-to-one", "labels": ["a"], "on": True,
         "include": ["b"], "fillValues": {"lhs": None, "rhs": None}}}),
    ],
)  # fmt: skip
def test_tree(api, query, tree):
    """Each kind of node has Prometheus's fields."""
    assert _parsed(api, query) == tree


def test_a_deep_tree(api):
    """The deepest query that parses has a tree."""
    assert _parsed(api, "abs(" * 90 + "up" + ")" * 90)["type"] == "call"
    assert _parsed(api, "up" + "+up" * 240)["type"] == "binaryExpr"


def test_exemplars(api):
    """There are no exemplars, also when milliseconds are sent for seconds."""
    for end in ("1795328222", "1795328222000"):
        answer = api.post(f"{API}/query_exemplars", query="test", start="1795324622", end=end)
        assert answer.status_code == 200
        assert answer.json() == {"status": "success", "data": []}
    for bad in ({"query": "sum("}, {"start": "5", "end": "4"}, {"start": "x"}):
        form = {"query": "up", "start": "1", "end": "2", **bad}
        assert api.post(f"{API}/query_exemplars", **form).status_code == 400
