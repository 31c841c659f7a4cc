"""Answers as frames, without a server."""

import numpy as np
import pandas as pd
import pytest

from aggregator.client.frames import label_frame, long_frame, wide_frame

UTC_MS = "datetime64[ms, UTC]"


def vector(*samples):
    """Return an instant answer of (labels, time in seconds, text)."""
    result = [{"metric": metric, "value": [second, text]} for metric, second, text in samples]
    return {"resultType": "vector", "result": result}


def matrix(*series):
    """Return a range answer of (labels, points)."""
    result = [{"metric": metric, "values": points} for metric, points in series]
    return {"resultType": "matrix", "result": result}


def test_values():
    """Every number that the API writes is the float it stands for."""
    texts = ["1", "-0", "0.1", "1e-300", "5e-324", "1.7976931348623157e+308", "+Inf", "-Inf", "NaN"]
    frame = long_frame(vector(*(({"n": str(n)}, 1.5, text) for n, text in enumerate(texts))))
    assert frame["value"].to_numpy().tobytes() == np.array(list(map(float, texts))).tobytes()


def test_times():
    """Times are whole milliseconds, however the floats of seconds come."""
    seconds = [0, 1.001, 1795328222.123, 1795328222.999, 253402300799.999]
    frame = long_frame(matrix(({}, [[second, "1"] for second in seconds])))
    assert str(frame.index.dtype) == UTC_MS
    assert frame.index.astype("int64").tolist() == [0, 1001, 1795328222123, 1795328222999,
                                                    253402300799999]  # fmt: skip


def test_absent_labels():
    """A label that a series lacks is empty, so that grouping by it loses nothing."""
    frame = long_frame(vector(({"__name__": "up", "b": "1"}, 1, "2"), ({"a": "x"}, 1, "3")))
    assert list(frame.columns) == ["__name__", "a", "b", "value"]
    assert frame[["__name__", "a", "b"]].to_numpy().tolist() == [["up", "", "1"], ["", "x", ""]]
    assert frame.groupby("a")["value"].sum().to_dict() == {"": 2.0, "x": 3.0}
    assert {str(dtype) for dtype in frame.dtypes[:-1]} == {"str"}


@pytest.mark.parametrize("answer", [vector(), matrix()])
def test_empty(answer):
    """An empty result has the columns and types that are certain, and can be computed with."""
    frame = long_frame(answer)
    assert (list(frame.columns), len(frame), frame["value"].sum()) == (["value"], 0, 0.0)
    assert (str(frame.index.dtype), frame.index.name) == (UTC_MS, "time")
    assert frame["value"].dtype == "float64"


def test_empty_range():
    """An empty range is a frame without rows and columns, in time."""
    frame = wide_frame(matrix())
    assert frame.shape == (0, 0)
    assert str(frame.index.dtype) == UTC_MS
    assert frame.resample("1min").mean().empty
    assert label_frame([]).empty


def test_ragged_ranges():
    """Series with points at different steps share the rows; a missing point is NaN."""
    frame = wide_frame(
        matrix(({"a": "x"}, [[60, "1"], [120.5, "NaN"]]), ({"a": "y"}, [[30, "2"], [60, "3"]]))
    )
    assert (frame.index.astype("int64") // 500).tolist() == [60, 120, 241]
    assert frame["x"].isna().tolist() == [True, False, True]
    assert frame["y"].dropna().tolist() == [2.0, 3.0]
    assert frame.index.is_monotonic_increasing
    assert frame.index.is_unique


def test_columns():
    """Columns are levels of labels, values of a single label, or `value`."""
    point = [[1, "1"]]
    several = wide_frame(matrix(({"__name__": "up", "b": "1"}, point), ({"a": "1"}, point)))
    assert several.columns.names == ["__name__", "a", "b"]
    assert several.columns.tolist() == [("up", "", "1"), ("", "1", "")]
    one = wide_frame(matrix(({"a": "x"}, point), ({}, point)))
    assert (one.columns.name, one.columns.tolist()) == ("a", ["x", ""])
    assert wide_frame(matrix(({}, point))).columns.tolist() == ["value"]


def test_colliding_labels():
    """Labels called as our own columns get another name, whatever else there is."""
    labels = {"value": "a", "time": "b", "label_value": "c"}
    frame = long_frame(vector((labels, 1, "1")))
    assert frame.iloc[0].to_dict() == {
        "label_label_value": "a", "label_time": "b", "label_value": "c", "value": 1.0
    }  # fmt: skip


def test_range_selectors():
    """The samples of a range selector carry the labels of their series, each with its own time."""
    frame = long_frame(matrix(({"a": "x"}, [[1, "1"], [2, "2"]]), ({"a": "y"}, [[1, "3"]])))
    assert frame["a"].tolist() == ["x", "x", "y"]
    assert frame["value"].tolist() == [1.0, 2.0, 3.0]
    assert frame.index.astype("int64").tolist() == [1000, 2000, 1000]


def test_strings():
    """A string is one row whose value is text."""
    frame = long_frame({"resultType": "string", "result": [1.5, "x"]})
    assert frame["value"].tolist() == ["x"]
    assert frame.index[0] == pd.Timestamp(1.5, unit="s", tz="UTC")
