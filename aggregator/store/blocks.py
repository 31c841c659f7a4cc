"""Hands out series ids: u32, in blocks of 1,024 that belong to one metric each.

The series of one metric lie together on disk, so that reading a metric reads few granules. An id
is given once: neither a crash nor retention brings it back.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from aggregator.errors import StoreError
from aggregator.model.arrays import Ids

BLOCK_BITS = 10
BLOCK_SIZE = 1 << BLOCK_BITS
MAX_BLOCKS = 1 << (32 - BLOCK_BITS)


@dataclass(frozen=True, slots=True)
class Block:
    """A run of ids of one metric, of which the first `used` were given."""

    number: int
    metric: str
    used: int


class IdBlocks:
    """The allocator; its callers serialise access."""

    def __init__(self, blocks: Iterable[Block] = ()) -> None:
        self._next = 0
        self._open: dict[str, Block] = {}
        self._new: list[Block] = []
        for block in sorted(blocks, key=lambda block: block.number):
            self._next = block.number + 1
            self._open[block.metric] = block

    def take(self, metric: str, count: int) -> Ids:
        """Return *count* ids never given before, ascending.

        Raises `StoreError` when all 2³² ids are spent.
        """
        parts = []
        while count:
            block = self._open.get(metric)
            if block is None or block.used == BLOCK_SIZE:
                block = self._add(metric)
            step = min(count, BLOCK_SIZE - block.used)
            first = (block.number << BLOCK_BITS) + block.used
            parts.append(np.arange(first, first + step, dtype=np.int64))
            self._open[metric] = Block(block.number, metric, block.used + step)
            count -= step
        return np.concatenate(parts).astype(np.uint32) if parts else np.empty(0, np.uint32)

    def drain(self) -> list[Block]:
        """Return the blocks added since the last call; they must be durable before their ids."""
        added, self._new = self._new, []
        return added

    def partial(self) -> list[Block]:
        """Return the last block of each metric, with how many of its ids were given."""
        return list(self._open.values())

    def forget(self, metrics: Iterable[str]) -> None:
        """Leave the rest of these metrics' blocks unused."""
        for metric in metrics:
            self._open.pop(metric, None)

    def _add(self, metric: str) -> Block:
        if self._next >= MAX_BLOCKS:
            raise StoreError(
                "all 4,294,967,296 series ids are spent; move the store's directory away "
                "and start with an empty one"
            )
        block = Block(self._next, metric, 0)
        self._next += 1
        self._new.append(block)
        return block
