"""sort, sort_desc, sort_by_label and sort_by_label_desc.

They order the rows of an instant query; a range query's result has the order of its labels. As
in Prometheus 3's promql/functions.go, `sort_by_label` compares values in natural order and falls
back to the whole label sets.
"""

import re

import numpy as np

from aggregator.model.arrays import Ints
from aggregator.model.labels import LabelTable
from aggregator.model.stepmatrix import StepMatrix
from aggregator.promql.functions.function import Call
from aggregator.promql.operators.order import label_order
from aggregator.promql.operators.rows import take

_CHUNKS = re.compile(r"[0-9]+|[^0-9]+")


def sort(call: Call) -> StepMatrix:
    """Order by value, NaN last (`funcSort`)."""
    return _by_value(call, 1.0)


def sort_desc(call: Call) -> StepMatrix:
    """Order by value, largest first, NaN last (`funcSortDesc`)."""
    return _by_value(call, -1.0)


def sort_by_label(call: Call) -> StepMatrix:
    """Order by the given labels (`funcSortByLabel`)."""
    return _by_label(call, descending=False)


def sort_by_label_desc(call: Call) -> StepMatrix:
    """Order by the given labels, last first (`funcSortByLabelDesc`)."""
    return _by_label(call, descending=True)


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a key by which digits compare as numbers and come before other characters."""
    return tuple(
        (0, int(chunk), chunk) if chunk[0] in "0123456789" else (1, 0, chunk)
        for chunk in _CHUNKS.findall(text)
    )


def _by_value(call: Call, sign: float) -> StepMatrix:
    matrix = call.matrix(0)
    if call.steps.count != 1:
        return matrix
    rows = np.flatnonzero(matrix.present[:, 0])
    return take(matrix, rows[np.argsort(sign * matrix.values[rows, 0], kind="stable")])


def _by_label(call: Call, *, descending: bool) -> StepMatrix:
    matrix = call.matrix(0)
    if call.steps.count != 1:
        return matrix
    rows = np.flatnonzero(matrix.present[:, 0])
    series = matrix.series.take(rows)
    names = [call.text(position) for position in range(1, len(call.args))]
    keys = [_natural_ranks(series, name) for name in names]
    order = np.lexsort((_label_set_ranks(series), *reversed(keys)))
    return take(matrix, rows[order[::-1] if descending else order])


def _natural_ranks(series: LabelTable, name: str) -> Ints:
    """Return the place of each row's value of *name* among the distinct values."""
    codes, inverse = np.unique(series.column(name), return_inverse=True)
    keys = [natural_key(text) for text in series.strings.texts(codes)]
    ranks = np.empty(len(keys), dtype=np.int64)
    ranks[sorted(range(len(keys)), key=keys.__getitem__)] = np.arange(len(keys))
    return ranks[inverse]


def _label_set_ranks(series: LabelTable) -> Ints:
    """Return the place of each row among all label sets."""
    ranks = np.empty(len(series), dtype=np.int64)
    ranks[label_order(series)] = np.arange(len(series))
    return ranks
