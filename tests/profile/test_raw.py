from collections.abc import Mapping

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.profile.raw import raw_labels


def stored(*rows: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the stored label sets of *rows*, without cluster and region."""
    result = raw_labels([orjson.dumps(dict(row)) for row in rows], "india-1", "india").labels
    for labels in result:
        assert (labels.pop("cluster"), labels.pop("region")) == ("india-1", "india")
    return result


def test_names_and_labels_stay():
    """A raw copy keeps its name and labels."""
    labels = {"__name__": "up", "job": "node", "instance": "a:1"}
    assert stored(labels) == [labels]


def test_cluster_and_region_of_the_source_make_way():
    """Our cluster and region win; the source's become exported_ labels, and are counted."""
    row = orjson.dumps({"__name__": "up", "cluster": "other", "region": "moon"})
    result = raw_labels([row], "india-1", "india")
    assert result.labels == [
        {
            "__name__": "up",
            "cluster": "india-1",
            "exported_cluster": "other",
            "exported_region": "moon",
            "region": "india",
        }
    ]
    assert result.renamed == {"cluster": 1, "region": 1}


def test_an_exported_cluster_that_exists_stays():
    """If exported_cluster is taken the source's cluster moves on, as Prometheus does it."""
    row = {"__name__": "up", "cluster": "other", "exported_cluster": "third"}
    assert stored(row) == [
        {
            "__name__": "up",
            "exported_cluster": "third",
            "exported_exported_cluster": "other",
        }
    ]


def test_the_alerts_of_a_source_are_renamed():
    """`ALERTS` is ours: a source's is stored as `source_ALERTS`."""
    rows = [{"__name__": "ALERTS", "alertname": "X"}, {"__name__": "ALERTS_FOR_STATE"}]
    assert [labels["__name__"] for labels in stored(*rows)] == [
        "source_ALERTS",
        "source_ALERTS_FOR_STATE",
    ]


@pytest.mark.parametrize("first", ["a", "b"])
def test_of_replicas_one_is_kept(first: str):
    """Of a series in two replicas one row is stored: the same one in any order of rows."""
    rows = [
        {"__name__": "up", "prometheus_replica": name, "job": "x"}
        for name in ("ab" if first == "a" else "ba")
    ]
    result = raw_labels([orjson.dumps(row) for row in rows], "c", "r")
    assert result.rows.tolist() == [0 if first == "a" else 1]
    assert result.labels == [{"__name__": "up", "job": "x", "cluster": "c", "region": "r"}]
    assert result.rejected == {"shadowed": 1}


def test_empty_labels_are_absent():
    """An empty label value is left out."""
    assert stored({"__name__": "up", "job": ""}) == [{"__name__": "up"}]


def test_an_answer_without_rows_is_empty():
    """Nothing in, nothing out."""
    result = raw_labels([], "c", "r")
    assert (result.rows.tolist(), result.labels) == ([], [])


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({"__name__": "fleet:node_ready"}, "reserved_name"),
        ({"job": "x"}, "no_name"),
        ({"__name__": ""}, "no_name"),
        ({"__name__": "<script>"}, "invalid_name"),
        ({"__name__": "up\n"}, "invalid_name"),
        ({"__name__": "a" * 300}, "invalid_name"),
        ({"__name__": "up", 'x"y': "1"}, "invalid_label_name"),
        ({"__name__": "up", "": "1"}, "invalid_label_name"),
        ({"__name__": "up", "a" * 300: "1"}, "invalid_label_name"),
        ({"__name__": "up", "x": "y" * 2**20}, "label_value_too_long"),
        ({"__name__": "up", **{f"l{n}": "x" for n in range(100)}}, "too_many_labels"),
        ({"__name__": "up", "x": 7}, "malformed"),
    ],
)
def test_hostile_series_are_refused_and_counted(labels: dict[str, str], reason: str):
    """What cannot be stored safely is left out with its reason, and the others are stored."""
    good = {"__name__": "up", "job": "good"}
    result = raw_labels([orjson.dumps(labels), orjson.dumps(good)], "c", "r")
    assert result.rows.tolist() == [1]
    assert result.rejected == {reason: 1}


ROWS = st.lists(
    st.dictionaries(
        st.sampled_from(
            ["__name__", "cluster", "exported_cluster", "region", "replica", "job", "a", "__x"]
        ),
        st.sampled_from(["", "up", "ALERTS", "source_ALERTS", "fleet:x", "other"]),
        max_size=6,
    ),
    max_size=30,
)


@given(ROWS)
@settings(max_examples=200, deadline=None)
def test_series_are_ours_and_distinct(rows: list[dict[str, str]]):
    """Whatever a cluster sends, its series carry our cluster, are distinct and all accounted."""
    result = raw_labels([orjson.dumps(row) for row in rows], "india-1", "india")
    for labels in result.labels:
        assert (labels["cluster"], labels["region"]) == ("india-1", "india")
        assert not labels["__name__"].startswith(("fleet:", "ALERTS"))
        assert all(labels.values())
    distinct = {tuple(sorted(labels.items())) for labels in result.labels}
    assert len(distinct) == len(result.labels) == result.rows.size
    assert result.rows.size + sum(result.rejected.values()) == len(rows)
