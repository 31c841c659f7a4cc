"""Functions of one value at a time: arithmetic, rounding, clamping, trigonometry.

Each is the function of the same name in Prometheus 3's promql/functions.go, on Go's `math`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from aggregator.model.arrays import Floats
from aggregator.model.stepmatrix import StepMatrix
from aggregator.promql.functions.function import Call, VectorFunction

Elementwise: TypeAlias = Callable[[Floats], Floats]


def each(function: Elementwise) -> VectorFunction:
    """Return *function* of every value of a vector; the metric name goes."""

    def run(call: Call) -> StepMatrix:
        matrix = call.matrix(0)
        with np.errstate(all="ignore"):
            return with_values(matrix, function(matrix.values))

    return run


def with_values(matrix: StepMatrix, values: Floats) -> StepMatrix:
    """Return *matrix* with other values and the metric name marked as dropped."""
    return replace(matrix, values=values, drop_name=np.ones(len(matrix.series), dtype=np.bool_))


def round_to(call: Call) -> StepMatrix:
    """Round to the nearest multiple of the second argument, ties up (`funcRound`)."""
    matrix = call.matrix(0)
    nearest = call.scalar(1) if len(call.args) > 1 else np.ones(1)
    with np.errstate(all="ignore"):
        inverse = 1.0 / nearest
        return with_values(matrix, np.floor(matrix.values * inverse + 0.5) / inverse)


def clamp(call: Call) -> StepMatrix:
    """Limit values to the second and third argument; nothing where max < min (`clamp`)."""
    low, high = call.scalar(1), call.scalar(2)
    clamped = _clamped(call.matrix(0), low, high)
    return replace(clamped, present=clamped.present & ~(high < low))


def clamp_min(call: Call) -> StepMatrix:
    """Limit values from below (`funcClampMin`)."""
    return _clamped(call.matrix(0), call.scalar(1), np.full(1, np.inf))


def clamp_max(call: Call) -> StepMatrix:
    """Limit values from above (`funcClampMax`)."""
    return _clamped(call.matrix(0), np.full(1, -np.inf), call.scalar(1))


def sgn(values: Floats) -> Floats:
    """Return -1, 1, or the value itself if it is 0 or NaN (`funcSgn`)."""
    return np.where(values < 0, -1.0, np.where(values > 0, 1.0, values))


def deg(values: Floats) -> Floats:
    """Return radians as degrees (`funcDeg`)."""
    return values * 180 / np.pi


def rad(values: Floats) -> Floats:
    """Return degrees as radians (`funcRad`)."""
    return values * np.pi / 180


def smaller(left: Floats, right: Floats) -> Floats:
    """Return Go's `math.Min`: -Inf wins over NaN, and -0 is less than 0."""
    least = np.minimum(left, right)
    least[np.isneginf(left) | np.isneginf(right)] = -np.inf
    zero = (left == 0) & (right == 0)
    return np.where(zero, np.where(np.signbit(left), left, right), least)


def larger(left: Floats, right: Floats) -> Floats:
    """Return Go's `math.Max`: +Inf wins over NaN, and 0 is more than -0."""
    return -smaller(-left, -right)


def _clamped(matrix: StepMatrix, low: Floats, high: Floats) -> StepMatrix:
    return with_values(matrix, larger(smaller(matrix.values, high), low))
