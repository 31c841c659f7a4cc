"""Compensated summation, element by element over columns (Prometheus 3's `kahansum.Inc`)."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from aggregator.model.arrays import Floats

# Adds a term to (total, lost); lost collects what rounding takes away from total.
Adder: TypeAlias = Callable[[Floats, Floats, Floats], tuple[Floats, Floats]]


def two_sum(total: Floats, lost: Floats, term: Floats) -> tuple[Floats, Floats]:
    """Add *term* by Knuth's TwoSum; for finite totals the same bits as `neumaier`, and faster.

    Once a total is infinite, lost is NaN: use lost only where the total is finite.
    """
    grown = total + term
    part = grown - total
    error = grown - part
    np.subtract(total, error, out=error)
    error += np.subtract(term, part, out=part)
    error += lost
    return grown, error


def neumaier(total: Floats, lost: Floats, term: Floats) -> tuple[Floats, Floats]:
    """Add *term* as Prometheus does, in all cases: lost is 0 as long as the total is infinite."""
    grown = total + term
    larger = np.abs(total) >= np.abs(term)
    error = np.where(larger, (total - grown) + term, (term - grown) + total)
    return grown, np.where(np.isinf(grown), 0.0, lost + error)


def corrected(total: Floats, lost: Floats) -> Floats:
    """Return the sum that `two_sum` built up."""
    finite = np.isfinite(total)
    return total + lost if finite.all() else np.where(finite, total + lost, total)
