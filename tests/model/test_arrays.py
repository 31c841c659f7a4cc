"""Looks at short columns."""

import numpy as np
import pytest

from aggregator.model.arrays import every, highest, how_many, some


@pytest.mark.parametrize("size", [0, 1, 2, 4_095, 4_096, 4_097])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_looks_at_flags_are_numpys(size, share):
    """Few and many, however they lie in memory, and where but one is different."""
    random = np.random.default_rng(7)
    flags = random.random(size) < share
    wide = np.repeat(flags, 6).reshape(size, 2, 3)
    last = flags.copy()
    last[-1:] ^= True
    for each in (flags, last, flags[::-1], flags[:, None], wide, wide[:, 1], wide[::2, :, ::2].T):
        assert every(each) == each.all()
        assert some(each) == each.any()
        assert how_many(each) == np.count_nonzero(each)


@pytest.mark.parametrize("size", [1, 2, 31, 32, 33])
def test_the_highest_number_is_numpys(size):
    """Few and many, wherever it is."""
    numbers = np.random.default_rng(7).integers(-(1 << 62), 1 << 62, size)
    for shift in range(size):
        assert highest(np.roll(numbers, shift)) == numbers.max()
