"""The sign before an expression."""

from dataclasses import replace

import numpy as np

from aggregator.model.stepmatrix import StepMatrix


def negate(matrix: StepMatrix) -> StepMatrix:
    """Return *matrix* with the opposite sign; the metric name goes."""
    return replace(matrix, values=-matrix.values, drop_name=np.ones_like(matrix.drop_name))
