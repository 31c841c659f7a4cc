"""The stale marker among other values."""

import numpy as np
import pytest

from aggregator.model.samples import STALE, STALE_BITS, is_real, is_stale, may_be_stale


@pytest.mark.parametrize("size", [0, 1, 2, 4_095, 4_096, 4_097])
def test_stale_markers_are_found(size):
    """Few values and many, however they lie in memory; another NaN is a value like any."""
    real = np.random.default_rng(7).random(size)
    real[::2] = np.nan
    first, last = real.copy(), real.copy()
    first[:1] = last[-1:] = STALE
    for values in (real, first, last):
        wide = np.repeat(values, 4).reshape(size, 2, 2)
        for each in (values, values[::-1], values[:, None], wide[:, 1], wide[::2, :, ::-1].T):
            assert may_be_stale(each) or is_real(each).all()
            assert (is_stale(each) == ~is_real(each)).all()
    assert may_be_stale(real) == (size >= 4_096)
    assert not size or (is_stale(first).any() and is_stale(last).any())


@pytest.mark.parametrize("before", range(1, 8))
def test_bytes_of_two_values_are_no_marker(before):
    """What looks like the marker where one value ends and the next begins is looked at again."""
    marker = STALE_BITS.to_bytes(8, "little")
    values = np.frombuffer(b"\1" * before + marker + b"\1" * (8 - before), np.float64)
    assert may_be_stale(values)
    assert is_real(values).all()
