"""The order of a range query's result: by labels, as Prometheus sorts them."""

import numpy as np

from aggregator.model.arrays import Ints
from aggregator.model.labels import LabelTable


def label_order(series: LabelTable) -> Ints:
    """Return the rows of *series* in the order of their sorted label lists.

    Where two label sets first differ, the values decide if both have the label. If one lacks it,
    that one has a later label there, and comes after; or it has no further label, and comes first.
    """
    differing = sorted(series.differing(), key=series.names.__getitem__)
    keys: list[Ints] = []
    for column in differing:
        codes = series.codes[:, column]
        distinct, inverse = np.unique(codes, return_inverse=True)
        texts = series.strings.texts(distinct)
        ranks = np.empty(len(texts), dtype=np.int64)
        ranks[sorted(range(len(texts)), key=texts.__getitem__)] = np.arange(1, len(texts) + 1)
        key = ranks[inverse]
        if not codes.all():
            later = [name for name in series.names if name > series.names[column]]
            more = series.keep(later).codes.any(axis=1)
            key = np.where(codes == 0, np.where(more, len(texts) + 1, 0), key)
        keys.append(key)
        if len(texts) == len(series):  # the other labels decide nothing
            break
    return np.lexsort(keys[::-1]) if keys else np.arange(len(series), dtype=np.int64)
