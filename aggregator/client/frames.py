"""Answers of the Prometheus API as pandas frames.

A label that a series lacks is the empty string, as in PromQL, so that grouping by it loses nothing.
Times are UTC and whole milliseconds, as they are stored. No Python code runs for each sample.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

VALUE = "value"
TIME = "time"
METRIC_NAME = "__name__"


def long_frame(result: Mapping[str, Any]) -> pd.DataFrame:
    """Return an instant answer: a row a sample, labels as columns, then `value`; time as index.

    A label called `value` or `time` becomes `label_value`, `label_time`.
    """
    kind, series = result["resultType"], result["result"]
    if kind == "string":
        seconds = np.array([series[0]], dtype=np.float64)
        return pd.DataFrame(
            {VALUE: pd.array([series[1]], dtype="str")}, index=_index(_milliseconds(seconds))
        )
    if kind == "scalar":
        series = [{"metric": {}, "value": series}]
    elif kind == "matrix":
        labels = label_frame([each["metric"] for each in series])
        counts = [len(each["values"]) for each in series]
        points = chain.from_iterable(each["values"] for each in series)
        return _long(labels.take(np.repeat(np.arange(len(series)), counts)), points)
    return _long(
        label_frame([each["metric"] for each in series]), (each["value"] for each in series)
    )


def wide_frame(result: Mapping[str, Any]) -> pd.DataFrame:
    """Return a range answer: a row a step that any series has a point at, a column a series.

    The columns' levels are the labels; with a single label they are a plain index of its values,
    without any there is one column, `value`. NaN where a series has no point (or the point is NaN).
    """
    series: Sequence[Mapping[str, Any]] = result["result"]
    counts = [len(each["values"]) for each in series]
    seconds, values = _columns(chain.from_iterable(each["values"] for each in series))
    steps, rows = np.unique(_milliseconds(seconds), return_inverse=True)
    cells = np.full((steps.size, len(series)), np.nan)
    cells[rows, np.repeat(np.arange(len(series)), counts)] = values
    return pd.DataFrame(cells, _index(steps), _series_columns([each["metric"] for each in series]))


def label_frame(label_sets: Sequence[Mapping[str, str]]) -> pd.DataFrame:
    """Return label sets: a row a series, labels as columns, the metric name first."""
    columns = {
        name: pd.Series([labels.get(name, "") for labels in label_sets], dtype="str")
        for name in _names(label_sets)
    }
    return pd.DataFrame(columns, index=pd.RangeIndex(len(label_sets)))


def cluster_frame(clusters: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the clusters by name: region, state, end (UTC) and age of their data, last error."""
    names = [each["cluster"] for each in clusters]
    ends = np.array([each["data_until"] for each in clusters], dtype=np.float64)  # None is NaN
    frame = pd.DataFrame(index=pd.Index(names, dtype="str", name="cluster"))
    for name in ("region", "state"):
        frame[name] = pd.array([each[name] for each in clusters], dtype="str")
    known = _index(_milliseconds(np.nan_to_num(ends)))
    frame["data_until"] = known.where(~np.isnan(ends))
    frame["age_seconds"] = np.array([each["age_seconds"] for each in clusters], dtype=np.float64)
    frame["error"] = pd.array([each["error"] for each in clusters], dtype="str")
    return frame


def _long(labels: pd.DataFrame, points: Iterable[Sequence[Any]]) -> pd.DataFrame:
    """Return a row for each of *points*, with the row of *labels* that has the same number."""
    seconds, values = _columns(points)
    frame = labels.set_axis(_index(_milliseconds(seconds)), axis="index")
    taken = set(frame.columns)
    for name in taken & {VALUE, TIME}:
        free = f"label_{name}"
        while free in taken:
            free = f"label_{free}"
        frame = frame.rename(columns={name: free})
    frame[VALUE] = values
    return frame


def _columns(
    points: Iterable[Sequence[Any]],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the times in seconds and the values of (seconds, text) pairs."""
    flat = list(chain.from_iterable(points))
    return np.array(flat[0::2], dtype=np.float64), np.array(flat[1::2], dtype=np.float64)


def _series_columns(metrics: Sequence[Mapping[str, str]]) -> pd.Index:
    names = _names(metrics)
    levels = [[metric.get(name, "") for metric in metrics] for name in names]
    match names:
        case []:
            return pd.Index([VALUE] * len(metrics), dtype="str")
        case [name]:
            return pd.Index(levels[0], dtype="str", name=name)
        case _:
            return pd.MultiIndex.from_arrays(levels, names=names)


def _names(label_sets: Iterable[Mapping[str, str]]) -> list[str]:
    """Return every label name, the metric name first, the others sorted."""
    names = set(chain.from_iterable(label_sets))
    return sorted(names, key=lambda name: (name != METRIC_NAME, name))


def _milliseconds(seconds: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return whole milliseconds, for which floats of seconds are exact enough."""
    return np.rint(seconds * 1000).astype(np.int64)


def _index(milliseconds: npt.NDArray[np.int64]) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(milliseconds.astype("datetime64[ms]"), name=TIME).tz_localize("UTC")
