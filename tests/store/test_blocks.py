"""Ids come in blocks of one metric and never twice."""

import numpy as np
import pytest

from aggregator.errors import StoreError
from aggregator.store.blocks import BLOCK_SIZE, MAX_BLOCKS, Block, IdBlocks


def test_the_ids_of_a_metric_fill_blocks_of_their_own():
    """Another metric does not come between."""
    blocks = IdBlocks()
    assert blocks.take("a", 2).tolist() == [0, 1]
    assert blocks.take("b", 1).tolist() == [BLOCK_SIZE]
    assert blocks.take("a", BLOCK_SIZE).tolist()[-3:] == [1_023, 2_048, 2_049]
    assert [(block.number, block.metric) for block in blocks.drain()] == [
        (0, "a"),
        (1, "b"),
        (2, "a"),
    ]
    assert blocks.drain() == []


def test_blocks_go_on_where_they_were_left():
    """With the number after the highest one, and the ids after those used."""
    blocks = IdBlocks([Block(7, "a", 10), Block(3, "a", BLOCK_SIZE)])
    assert blocks.take("a", 1).tolist() == [7 * BLOCK_SIZE + 10]
    assert blocks.take("b", 1).tolist() == [8 * BLOCK_SIZE]


def test_spent_ids_are_a_clear_error():
    """The last id is the largest of 32 bits."""
    blocks = IdBlocks([Block(MAX_BLOCKS - 1, "a", BLOCK_SIZE - 1)])
    assert blocks.take("a", 1).tolist() == [np.iinfo(np.uint32).max]
    with pytest.raises(StoreError, match="series ids are spent"):
        blocks.take("a", 1)
