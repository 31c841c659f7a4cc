"""Answers of the Prometheus API as pandas frames."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

VALUE = "value"
TIME = "time"


def long_frame(result: Mapping[str, Any]) -> pd.DataFrame:
    """Return an instant answer: a row a sample, labels as columns, time (UTC) as index."""
    kind, series = result["resultType"], result["result"]
    if kind in ("scalar", "string"):
        series = [{"metric": {}, "value": series}]
    rows = [
        ({_column(name): text for name, text in each["metric"].items()}, point)
        for each in series
        for point in (each["values"] if "values" in each else [each["value"]])
    ]
    values = [point[1] for _, point in rows]
    frame = pd.DataFrame([labels for labels, _ in rows], index=_times([p[0] for _, p in rows]))
    frame[VALUE] = values if kind == "string" else _numbers(values, frame.index)
    return frame


def wide_frame(result: Mapping[str, Any]) -> pd.DataFrame:
    """Return a range answer: a row a step (UTC) that has points, a column a series.

    The columns are a MultiIndex whose levels are named after the labels; NaN where a series has
    no point.
    """
    series: Sequence[Mapping[str, Any]] = result["result"]
    names = sorted({name for each in series for name in each["metric"]})
    keys = [tuple(each["metric"].get(name, "") for name in names) for each in series]
    columns = [
        _numbers([point[1] for point in each["values"]], _times([p[0] for p in each["values"]]))
        for each in series
    ]
    if not columns:
        return pd.DataFrame(index=_times([]))
    frame = pd.concat(columns, axis=1).sort_index()
    frame.index.name = TIME
    frame.columns = pd.MultiIndex.from_tuples(keys, names=names) if names else pd.Index([VALUE])
    return frame


def label_frame(label_sets: Sequence[Mapping[str, str]]) -> pd.DataFrame:
    """Return label sets: a row a series, labels as columns, absent ones NaN."""
    return pd.DataFrame(list(label_sets))


def cluster_frame(clusters: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the clusters by name: region, state, end (UTC) and age of their data, last error."""
    names = ["region", "state", "data_until", "age_seconds", "error"]
    rows = [[each[name] for name in names] for each in clusters]
    index = pd.Index([each["cluster"] for each in clusters], name="cluster")
    frame = pd.DataFrame(rows, index=index, columns=names)
    frame["data_until"] = pd.to_datetime(frame["data_until"], unit="s", utc=True)
    frame["age_seconds"] = frame["age_seconds"].astype("float64")
    return frame


def _column(name: str) -> str:
    return f"label_{name}" if name in (VALUE, TIME) else name


def _times(seconds: Sequence[float]) -> pd.DatetimeIndex:
    """Return times in whole milliseconds, which floats of seconds are exact enough for."""
    milliseconds = [round(second * 1000) for second in seconds]
    return pd.DatetimeIndex(pd.to_datetime(milliseconds, unit="ms", utc=True), name=TIME)


def _numbers(texts: Sequence[str], index: pd.Index) -> "pd.Series[float]":
    return pd.Series([float(text) for text in texts], index=index, dtype="float64")
