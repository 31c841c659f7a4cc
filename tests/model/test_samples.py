"""The stale marker among other values."""

import numpy as np
import pytest

from aggregator.model.samples import STALE, STALE_BITS, all_real, is_real, is_stale


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
            assert all_real(each) == is_real(each).all() == (not is_stale(each).any())
    assert all_real(real)
    assert not size or not (all_real(first) or all_real(last))


@pytest.mark.parametrize("before", range(1, 8))
def test_bytes_of_two_values_are_no_marker(before):
    """What looks like the marker where one value ends and the next begins is none."""
    marker = STALE_BITS.to_bytes(8, "little")
    values = np.frombuffer(b"\1" * before + marker + b"\1" * (8 - before), np.float64)
    assert all_real(values)
