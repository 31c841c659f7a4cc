"""Rows of ids."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aggregator.store.blocks import BLOCK_SIZE
from aggregator.store.lifetimes import Lifetimes

IDS = st.lists(st.integers(0, 12 * BLOCK_SIZE), max_size=20, unique=True)


@given(known=st.lists(IDS, max_size=3), dead=IDS, asked=IDS)
def test_ascending_ids_have_the_rows_of_any(known, dead, asked):
    """Of one block or of many, with rows or without, also after some were forgotten."""
    lives = Lifetimes.empty()
    for ids in known:
        lives = lives.with_ids(np.array(ids, np.uint32))
    gone = np.zeros(lives.known.size, np.bool_)
    rows = lives.rows(np.array(dead, np.uint32))
    gone[rows[rows >= 0]] = True
    wanted = np.sort(np.array(asked, np.uint32))
    for state in (lives, lives.without(gone)[0]):
        assert state.rows_of(wanted).tolist() == state.rows(wanted).tolist()
        for place in range(wanted.size):
            alone = wanted[place : place + 1]
            assert state.rows_of(alone).tolist() == state.rows(alone).tolist()
