"""The binary operators on numbers, and those with a scalar on one or both sides."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, TypeAlias

import numpy as np

from aggregator.model.arrays import Bools, Floats
from aggregator.model.stepmatrix import StepMatrix

Operation: TypeAlias = Callable[[Floats, Floats], Floats]
Comparison: TypeAlias = Callable[[Floats, Floats], Bools]

ARITHMETIC: Final[Mapping[str, Operation]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
    "^": np.power,
    "atan2": np.arctan2,
}
COMPARISON: Final[Mapping[str, Comparison]] = {
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    ">": np.greater,
    "<=": np.less_equal,
    ">=": np.greater_equal,
}


def calculate(op: str, left: Floats, right: Floats, *, return_bool: bool) -> tuple[Floats, Bools]:
    """Return the value of `left op right` and where it is kept, as broadcast.

    A comparison has the left value and keeps what it holds for; with *return_bool* its value is
    1 or 0 and all is kept.
    """
    with np.errstate(all="ignore"):
        if op in ARITHMETIC:
            values = ARITHMETIC[op](left, right)
            return values, np.broadcast_to(np.True_, values.shape)
        holds = COMPARISON[op](left, right)
    if return_bool:
        return holds.astype(np.float64), np.broadcast_to(np.True_, holds.shape)
    return np.broadcast_to(left, holds.shape), holds


def scalar_scalar(op: str, left: StepMatrix, right: StepMatrix) -> StepMatrix:
    """Return `left op right` of two scalars; comparisons are 1 or 0."""
    values, _ = calculate(op, left.values, right.values, return_bool=True)
    return replace(left, values=values)


def vector_scalar(
    op: str, vector: StepMatrix, scalar: StepMatrix, *, swapped: bool, return_bool: bool
) -> StepMatrix:
    """Return `vector op scalar`, or `scalar op vector` if *swapped*.

    A comparison without *return_bool* filters: the vector's own values stay, and so do its names.
    """
    sides = (scalar.values, vector.values) if swapped else (vector.values, scalar.values)
    values, kept = calculate(op, *sides, return_bool=return_bool)
    if op in COMPARISON and not return_bool:
        return replace(vector, present=vector.present & kept)
    return replace(vector, values=values, drop_name=np.ones_like(vector.drop_name))
