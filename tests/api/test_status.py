"""What the server says of itself and of its data: build, metadata, cardinality."""

import pytest

from aggregator.api.status import Metadata
from tests.api.conftest import NOW_MS

API = "/prometheus/api/v1"
TOKENS = [
    {"name": "all", "token": "all"},
    {"name": "europe", "token": "europe", "match": 'region="europe"'},
]


@pytest.fixture
def seeded(api):
    """Return the API over a few series and what is known of two metrics."""
    _seed(api)
    return api


def _seed(api):
    for cluster, region in (("eu-1", "europe"), ("eu-2", "europe"), ("us-1", "us")):
        labels = {"__name__": "fleet:node_ready", "cluster": cluster, "region": region}
        for node in ("a", "bb"):
            api.seed({**labels, "node": node}, [(-60, 1.0), (-30, 1.0)])
    api.seed({"__name__": "fleet:us_only", "cluster": "us-1", "region": "us"}, [(0, 1.0)])
    api.metadata.update(
        {
            "fleet:node_ready": [Metadata("gauge", "Whether the node is ready", "bool")],
            "fleet:us_only": [Metadata("gauge", "A", ""), Metadata("counter", "B", "")],
            "fleet:without_data": [Metadata("gauge", "C", "")],
        }
    )


def _asking(api, token, path, **parameters):
    return api.session.get(
        f"{api.url}{API}/{path}",
        params=parameters,
        headers={"Authorization": f"Bearer {token}"},
        timeout=10,
    ).json()["data"]


def test_metadata(seeded):
    """Each metric has a list of what is known of it; both limits cut, 0 does not."""
    everything = seeded.get(f"{API}/metadata", limit=0).json()["data"]
    assert list(everything) == ["fleet:node_ready", "fleet:us_only", "fleet:without_data"]
    assert everything["fleet:node_ready"] == [
        {"type": "gauge", "help": "Whether the node is ready", "unit": "bool"}
    ]
    assert list(seeded.get(f"{API}/metadata", limit=1).json()["data"]) == ["fleet:node_ready"]
    one = seeded.post(f"{API}/metadata", metric="fleet:us_only", limit_per_metric=1)
    assert one.json()["data"] == {"fleet:us_only": [{"type": "gauge", "help": "A", "unit": ""}]}
    bad = seeded.get(f"{API}/metadata", limit_per_metric="many")
    assert bad.json()["error"] == "limit_per_metric must be a number"


def test_cardinality(seeded):
    """Series are counted by metric, label, pair and cluster, largest first."""
    data = seeded.get(f"{API}/status/tsdb").json()["data"]
    assert data == {
        "headStats": {
            "numSeries": 7,
            "numLabelPairs": 9,
            "chunkCount": 0,
            "minTime": NOW_MS - 60_000,
            "maxTime": NOW_MS,
        },
        "seriesCountByMetricName": [
            {"name": "fleet:node_ready", "value": 6},
            {"name": "fleet:us_only", "value": 1},
        ],
        "labelValueCountByLabelName": [
            {"name": "cluster", "value": 3},
            {"name": "__name__", "value": 2},
            {"name": "node", "value": 2},
            {"name": "region", "value": 2},
        ],
        "memoryInBytesByLabelName": [
            {"name": "__name__", "value": 29},
            {"name": "cluster", "value": 12},
            {"name": "region", "value": 8},
            {"name": "node", "value": 3},
        ],
        "seriesCountByLabelValuePair": [
            {"name": "__name__=fleet:node_ready", "value": 6},
            {"name": "region=europe", "value": 4},
            {"name": "cluster=us-1", "value": 3},
            {"name": "node=a", "value": 3},
            {"name": "node=bb", "value": 3},
            {"name": "region=us", "value": 3},
            {"name": "cluster=eu-1", "value": 2},
            {"name": "cluster=eu-2", "value": 2},
            {"name": "__name__=fleet:us_only", "value": 1},
        ],
        "seriesCountByCluster": [
            {"name": "us-1", "value": 3},
            {"name": "eu-1", "value": 2},
            {"name": "eu-2", "value": 2},
        ],
    }
    short = seeded.get(f"{API}/status/tsdb", limit=1).json()["data"]
    assert short["seriesCountByLabelValuePair"] == data["seriesCountByLabelValuePair"][:1]
    assert short["seriesCountByCluster"] == data["seriesCountByCluster"]
    for limit in ("0", "-3", "x", "10001"):
        bad = seeded.get(f"{API}/status/tsdb", limit=limit)
        assert bad.status_code == 400
        assert bad.json()["error"].startswith("limit must be a positive number")


def test_cardinality_within_a_scope(run):
    """A restricted token learns how many series it sees, not how many there are."""
    with run(tokens=TOKENS) as api:
        _seed(api)
        data = _asking(api, "europe", "status/tsdb")
        assert data["headStats"]["numSeries"] == 4
        assert {each["name"] for each in data["seriesCountByCluster"]} == {"eu-1", "eu-2"}
        assert data["headStats"]["maxTime"] == NOW_MS - 30_000


def test_cardinality_of_nothing(api):
    """An empty store has no series and no times."""
    data = api.get(f"{API}/status/tsdb").json()["data"]
    assert set(data["headStats"].values()) == {0}
    assert data["seriesCountByMetricName"] == data["seriesCountByCluster"] == []
