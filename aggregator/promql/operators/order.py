"""The order of a range query's result: by labels, as Prometheus sorts them."""

import numpy as np

from aggregator.model.arrays import Ints
from aggregator.model.labels import LabelTable


def label_order(series: LabelTable) -> Ints:
    """Return the rows of *series* in the order of their sorted label lists.

    Where two label sets first differ, the values decide if both have the label. If one lacks it,
    that one has a later label there, and comes after; or it has no further label, and comes first.
    """
    names = sorted(range(len(series.names)), key=series.names.__getitem__)
    if not names or len(series) < 2:
        return np.arange(len(series), dtype=np.int64)
    keys = []
    more = np.zeros(len(series), dtype=np.bool_)  # whether a row has labels after this column
    for column in reversed(names):
        codes = series.codes[:, column]
        distinct, inverse = np.unique(codes, return_inverse=True)
        texts = series.strings.texts(distinct)
        ranks = np.empty(len(texts), dtype=np.int64)
        ranks[sorted(range(len(texts)), key=texts.__getitem__)] = np.arange(1, len(texts) + 1)
        key = ranks[inverse]
        keys.append(np.where(codes == 0, np.where(more, len(texts) + 1, 0), key))
        more |= codes != 0
    return np.lexsort(keys)
