"""Parts of dates, in UTC (`dateWrapper` and its users in Prometheus 3's promql/functions.go).

A value that is no time (NaN, infinite, beyond a thousand million years) gives NaN.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from aggregator.model.arrays import Floats, Ints
from aggregator.model.labels import LabelTable
from aggregator.model.stepmatrix import StepMatrix
from aggregator.promql.functions.elementwise import with_values
from aggregator.promql.functions.function import Call, VectorFunction

_MAX_SECONDS = 2.0**55
_SECONDS_PER_DAY = 86_400


def part(function: Callable[[Ints], Ints]) -> VectorFunction:
    """Return *function* of each value as whole seconds, or of the step's time without argument."""

    def run(call: Call) -> StepMatrix:
        if call.args:
            matrix = call.matrix(0)
        else:
            matrix = constant_vector(call, np.floor_divide(call.steps.times(), 1000) * 1.0)
        with np.errstate(invalid="ignore"):
            is_time = np.abs(matrix.values) < _MAX_SECONDS
        seconds = np.where(is_time, matrix.values, 0.0).astype(np.int64)
        return with_values(matrix, np.where(is_time, function(seconds), np.nan))

    return run


def constant_vector(call: Call, values: Floats) -> StepMatrix:
    """Return a vector of one series without labels that has *values*, `[T]`, at all steps."""
    return StepMatrix(
        LabelTable.empty(call.strings, rows=1),
        values[None, :],
        np.ones((1, values.size), dtype=np.bool_),
        np.zeros(1, dtype=np.bool_),
    )


def minute(seconds: Ints) -> Ints:
    """Return the minute of the hour."""
    return seconds // 60 % 60


def hour(seconds: Ints) -> Ints:
    """Return the hour of the day."""
    return seconds // 3600 % 24


def day_of_week(seconds: Ints) -> Ints:
    """Return the day of the week, 0 for Sunday; the epoch was a Thursday."""
    return (seconds // _SECONDS_PER_DAY + 4) % 7


def day_of_month(seconds: Ints) -> Ints:
    """Return the day of the month, from 1."""
    return _days(_as(seconds, "D")) - _days(_as(seconds, "M")) + 1


def day_of_year(seconds: Ints) -> Ints:
    """Return the day of the year, from 1."""
    return _days(_as(seconds, "D")) - _days(_as(seconds, "Y")) + 1


def days_in_month(seconds: Ints) -> Ints:
    """Return how many days the month has."""
    month_start = _as(seconds, "M")
    return _days(month_start + np.timedelta64(1, "M")) - _days(month_start)


def month(seconds: Ints) -> Ints:
    """Return the month, from 1."""
    return _as(seconds, "M").astype(np.int64) % 12 + 1


def year(seconds: Ints) -> Ints:
    """Return the year."""
    return _as(seconds, "Y").astype(np.int64) + 1970


def _as(seconds: Ints, unit: str) -> NDArray[np.datetime64]:
    return seconds.astype("datetime64[s]").astype(f"datetime64[{unit}]")


def _days(dates: NDArray[np.datetime64]) -> Ints:
    return dates.astype("datetime64[D]").astype(np.int64)
