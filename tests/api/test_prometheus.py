"""The Prometheus API through a real socket."""

import gzip

import numpy as np
import pytest

from aggregator.api.exchange import Request
from aggregator.api.prometheus import PrometheusApi
from aggregator.errors import QueryTimeoutError
from aggregator.model.budget import Budget
from aggregator.model.samples import SampleBlock
from aggregator.promql.engine import Engine
from aggregator.store.memory import MemoryStore
from tests.api.conftest import NOW_MS

NOW = NOW_MS // 1000
API = "/prometheus/api/v1"


@pytest.fixture
def seeded(api):
    """Return the API over a few series."""
    for cluster, value in (("eu-1", 1.0), ("eu-2", 0.0), ("us-1", 1.0)):
        samples = [(second, value) for second in range(-600, 1, 15)]
        api.seed({"__name__": "up", "cluster": cluster, "region": cluster[:2]}, samples)
    api.seed({"__name__": "http.status", "größe": "a\\b\n"}, [(0, float("nan"))])
    return api


def test_instant_vector(seeded):
    """An instant query answers a vector in Prometheus's envelope."""
    answer = seeded.get(f"{API}/query", query='up{cluster="eu-1"}', time=NOW)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "status": "success",
        "data": {
            "resultType": "vector",
            "result": [
                {
                    "metric": {"__name__": "up", "cluster": "eu-1", "region": "eu"},
                    "value": [NOW, "1"],
                }
            ],
        },
    }


@pytest.mark.parametrize(
    ("query", "kind", "result"),
    [
        ("1.5e3 + 4", "scalar", [NOW, "1504"]),
        ('"hello"', "string", [NOW, "hello"]),
        ("no_such_metric", "vector", []),
        ("no_such_metric[5m]", "matrix", []),
        ("vector(1) / 0", "vector", [{"metric": {}, "value": [NOW, "+Inf"]}]),
        ('up{cluster="eu-1"}[20s]', "matrix",
         [{"metric": {"__name__": "up", "cluster": "eu-1", "region": "eu"},
           "values": [[NOW - 15, "1"], [NOW, "1"]]}]),
    ],
)  # fmt: skip
def test_result_types(seeded, query, kind, result):
    """Scalars, strings, empty results and range selectors have Prometheus's shapes."""
    data = seeded.get(f"{API}/query", query=query, time=NOW).json()["data"]
    assert data == {"resultType": kind, "result": result}


def test_odd_labels(seeded):
    """Names and values outside of the plain alphabet come back as they are."""
    [series] = seeded.get(f"{API}/query", query='{"http.status"}').json()["data"]["result"]
    assert series == {
        "metric": {"__name__": "http.status", "größe": "a\\b\n"},
        "value": [NOW, "NaN"],
    }


def test_range(seeded):
    """A range query answers at start + n * step, ends included."""
    answer = seeded.get(
        f"{API}/query_range", query="sum by (region) (up)", start=NOW - 60, end=NOW, step=40
    )
    assert answer.json()["data"] == {
        "resultType": "matrix",
        "result": [
            {"metric": {"region": "eu"}, "values": [[NOW - 60, "1"], [NOW - 20, "1"]]},
            {"metric": {"region": "us"}, "values": [[NOW - 60, "1"], [NOW - 20, "1"]]},
        ],
    }


def test_form_and_query_string(seeded):
    """A POST takes its parameters from the form and from the URL, the form's first."""
    url = f"{seeded.url}{API}/query?time={NOW}&query=1"
    answer = seeded.session.post(url, data={"query": "2"}, timeout=10)
    assert answer.json()["data"] == {"resultType": "scalar", "result": [NOW, "2"]}


def test_limit(seeded):
    """`limit` cuts any list and says so; 0 means all."""
    cut = "results truncated due to limit"
    for path, parameters in (
        ("query", {"query": "up"}),
        ("query", {"query": "up[1m]"}),
        ("query_range", {"query": "up", "start": NOW, "end": NOW, "step": 1}),
        ("series", {"match[]": "up"}),
        ("labels", {}),
        ("label/cluster/values", {}),
    ):
        whole = seeded.get(f"{API}/{path}", limit=0, **parameters).json()
        part = seeded.get(f"{API}/{path}", limit=2, **parameters).json()
        entries = [
            each["data"] if isinstance(each["data"], list) else each["data"]["result"]
            for each in (whole, part)
        ]
        assert len(entries[0]) > 2
        assert entries[1] == entries[0][:2]
        assert part["warnings"] == [cut]
        assert "warnings" not in whole


def test_lookback_delta(seeded):
    """`lookback_delta` changes how far back a sample counts."""
    api = f"{API}/query"
    assert len(seeded.get(api, query="up", time=NOW + 200).json()["data"]["result"]) == 3
    short = seeded.get(api, query="up", time=NOW + 200, lookback_delta="1m")
    assert short.json()["data"]["result"] == []


def test_stats(seeded):
    """`stats=all` adds how much was read."""
    data = seeded.get(f"{API}/query", query="up[1m]", stats="all").json()["data"]
    assert data["stats"]["samples"]["totalQueryableSamples"] >= 12
    assert data["stats"]["timings"]["evalTotalTime"] > 0


def test_freshness_warnings(seeded):
    """What is not fresh is said in `warnings`, after the engine told what it read."""
    seeded.warnings.append("cluster us-1 (us): raw:up is unreachable")
    answer = seeded.get(f"{API}/query", query='up{region="us"}').json()
    assert answer["warnings"] == ["cluster us-1 (us): raw:up is unreachable"]
    assert {str(each) for each in seeded.reads[0].matchers} == {'__name__="up"', 'region="us"'}
    values = seeded.get(f"{API}/label/cluster/values").json()
    assert values["warnings"] == answer["warnings"]


def test_infos(seeded):
    """The engine's infos are in the envelope."""
    answer = seeded.get(f"{API}/query", query="rate(up[1m])").json()
    assert all(info.startswith("PromQL info:") for info in answer["infos"])


def test_labels_and_values(seeded):
    """Label names and values come sorted, narrowed by selectors."""
    names = seeded.post(f"{API}/labels").json()["data"]
    assert names == ["__name__", "cluster", "größe", "region"]
    narrowed = seeded.get(f"{API}/labels", **{"match[]": "up"}).json()["data"]
    assert narrowed == ["__name__", "cluster", "region"]
    values = seeded.get(f"{API}/label/cluster/values", **{"match[]": 'up{region="eu"}'})
    assert values.json() == {"status": "success", "data": ["eu-1", "eu-2"]}
    escaped = seeded.get(f"{API}/label/U__gr_f6__df_e/values")
    assert escaped.json()["data"] == ["a\\b\n"]
    assert seeded.get(f"{API}/label/nope/values").json() == {"status": "success", "data": []}


def test_series(seeded):
    """Series that several selectors match come once."""
    answer = seeded.get(f"{API}/series", **{"match[]": ['up{region="eu"}', 'up{cluster="eu-1"}']})
    assert answer.json()["data"] == [
        {"__name__": "up", "cluster": "eu-1", "region": "eu"},
        {"__name__": "up", "cluster": "eu-2", "region": "eu"},
    ]


def test_several_selectors_of_labels(seeded):
    """Names and values that any of several selectors finds come once, sorted."""
    both = {"match[]": ['up{region="us"}', '{"http.status"}', 'up{region="eu"}']}
    names = seeded.get(f"{API}/labels", **both).json()["data"]
    assert names == ["__name__", "cluster", "größe", "region"]
    values = seeded.get(f"{API}/label/cluster/values", **both).json()["data"]
    assert values == ["eu-1", "eu-2", "us-1"]


def test_selectors_share_one_budget(run):
    """The series of all selectors together count, before their labels are put together."""
    with run(query={"series": 3}) as api:
        for number in range(4):
            api.seed({"__name__": "up", "n": str(number)}, [(0, 1.0)])
        halves = ['up{n=~"[01]"}', 'up{n=~"[23]"}']
        assert api.get(f"{API}/series", **{"match[]": halves[:1]}).status_code == 200
        answer = api.get(f"{API}/series", **{"match[]": halves})
    assert (answer.status_code, answer.json()["errorType"]) == (422, "execution")


@pytest.mark.parametrize("handler", ["series", "labels", "label_values"])
def test_a_cancelled_request_looks_for_no_more_labels(handler):
    """What is asked of the label index ends between selectors when the client went away."""
    store = MemoryStore()
    api = PrometheusApi(Engine(store), store, lambda *_: (), lambda: NOW_MS)
    budget = Budget()
    budget.cancel("the client went away")
    pairs = [("match[]", "up"), ("match[]", "down")]
    with pytest.raises(QueryTimeoutError, match="the client went away"):
        getattr(api, handler)(Request({"name": "cluster"}, pairs, b"", None, budget))


def test_build_info(api):
    """The build info says nothing of features, or Grafana would take us for another product."""
    data = api.get(f"{API}/status/buildinfo").json()["data"]
    assert data["version"].startswith("3.")
    assert "features" not in data


@pytest.mark.parametrize(
    ("path", "parameters", "error"),
    [
        ("query", {"query": "up", "limit": "x"}, 'invalid parameter "limit"'),
        ("query", {"query": "up", "limit": "-1"}, 'invalid parameter "limit"'),
        ("query", {"query": "up", "lookback_delta": "-5"}, 'invalid parameter "lookback_delta"'),
        ("query", {"query": "up", "time": "9e99"}, 'invalid parameter "time"'),
        ("query_range", {"query": '"a"', "start": 0, "end": 1, "step": 1}, "invalid expression"),
        ("labels", {"start": 5, "end": 4}, 'invalid parameter "end"'),
        ("series", {"match[]": "rate(up[1m])"}, 'invalid parameter "match[]"'),
        ("series", {"match[]": ["up"] * 101}, 'invalid parameter "match[]": more than 100'),
        ("labels", {"match[]": ["up"] * 101}, 'invalid parameter "match[]": more than 100'),
    ],
)
def test_bad_data(api, path, parameters, error):
    """A parameter that cannot be used is named, in an error without a `data` field."""
    answer = api.get(f"{API}/{path}", **parameters)
    assert answer.status_code == 400
    assert answer.json()["errorType"] == "bad_data"
    assert answer.json()["error"].startswith(error)
    assert "data" not in answer.json()


def test_sample_limit(run):
    """A query that reads too much is refused with 422."""
    with run(query={"samples": 50}) as api:
        api.seed({"__name__": "up"}, [(-second, 1.0) for second in range(100)])
        answer = api.get(f"{API}/query", query="count_over_time(up[5m])")
    assert (answer.status_code, answer.json()["errorType"]) == (422, "execution")


def test_compression(seeded):
    """A long answer is compressed for who accepts gzip, and never otherwise than by gzip."""
    ids = seeded.store.series_ids([{"__name__": "many", "n": str(n)} for n in range(100)])
    times = np.full(100, NOW_MS, dtype=np.int64)
    seeded.store.write(SampleBlock(ids, times, np.zeros(100)))
    url = f"{seeded.url}{API}/query?query=many"
    plain = seeded.session.get(url, headers={"Accept-Encoding": "zstd, br"}, timeout=10)
    assert "content-encoding" not in plain.headers
    zipped = seeded.session.get(
        url, headers={"Accept-Encoding": "zstd, gzip"}, timeout=10, stream=True
    )
    assert zipped.headers["content-encoding"] == "gzip"
    assert zipped.headers["vary"] == "accept-encoding"
    assert gzip.decompress(zipped.raw.read()) == plain.content
    refused = seeded.session.get(url, headers={"Accept-Encoding": "gzip;q=0"}, timeout=10)
    assert "content-encoding" not in refused.headers
