"""Label tables."""

import numpy as np
import pytest

from aggregator.model.labels import LabelTable, Strings


@pytest.mark.parametrize("largest", [3, 2**31 - 1])
@pytest.mark.parametrize("columns", [0, 1, 4])
def test_rows_are_grouped_by_all_their_codes(largest, columns):
    """Groups are numbered as they appear, also where the codes of a row make no 64-bit number."""
    generator = np.random.default_rng(5)
    some = generator.integers(0, largest, size=3, endpoint=True)
    codes = generator.choice([0, *some, largest], (200, columns)).astype(np.int32)
    names = tuple("abcd"[:columns])
    group, first = LabelTable(names, codes, Strings()).groups()
    known: dict[tuple[int, ...], int] = {}
    wanted = [known.setdefault(tuple(row), len(known)) for row in codes.tolist()]
    assert group.tolist() == wanted
    assert first.tolist() == [wanted.index(number) for number in range(len(known))]
