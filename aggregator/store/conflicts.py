"""One sample for each series and time: the first stored wins, a real value beats a stale marker."""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from aggregator.model.arrays import Bools, Floats, Ints
from aggregator.model.samples import SampleBlock, is_real, is_stale

_SPAN_LIMIT_MS = 1 << 32


class Verdict(IntEnum):
    """What a sample is to what is stored."""

    NEW = 0
    DUPLICATE = 1
    CONFLICT = 2
    REPLACES = 3  # a real value for a stored stale marker
    UNSURE = 4  # older than the head: the disk knows


Verdicts = NDArray[np.int8]


def settled(block: SampleBlock) -> tuple[SampleBlock, int, int]:
    """Return *block* sorted by series and time without repetitions.

    Also returns how many samples were left out because they were equal to the one that stayed,
    and how many because they differed from it.
    """
    if len(block) < 2:
        return block, 0, 0
    start = int(block.times.min())
    if int(block.times.max()) - start < _SPAN_LIMIT_MS:
        key = block.ids.astype(np.uint64) << np.uint64(32) | (block.times - start).view(np.uint64)
        if (key[1:] > key[:-1]).all():
            return block, 0, 0
        order = np.argsort(key, kind="stable")
    else:
        order = np.lexsort((block.times, block.ids))
    ordered = block.take(order)
    if not _repeats(ordered).any():
        return ordered, 0, 0
    stale_last = np.lexsort((is_stale(ordered.values), ordered.times, ordered.ids))
    ordered = ordered.take(stale_last)
    again = np.concatenate([[False], _repeats(ordered)])
    winner = np.maximum.accumulate(np.where(again, 0, np.arange(again.size)))
    equal = same_bits(ordered.values, ordered.values[winner])
    duplicates = int((again & equal).sum())
    return ordered.take(~again), duplicates, int(again.sum()) - duplicates


def merged_rows(stored: SampleBlock, block: SampleBlock) -> tuple[Ints, Ints]:
    """Return the row of *stored* and the row of *block* of every sample that both have.

    Neither has a series and time twice.
    """
    ids = np.concatenate([stored.ids, block.ids])
    times = np.concatenate([stored.times, block.times])
    order = np.lexsort((times, ids))  # stable: the stored one comes first
    left, right = order[:-1], order[1:]
    both = (ids[left] == ids[right]) & (times[left] == times[right])
    return left[both], right[both] - len(stored)


def same_bits(left: Floats, right: Floats) -> Bools:
    """Tell which values are the same bit for bit."""
    same: Bools = left.view(np.uint64) == right.view(np.uint64)
    return same


def replaces(new: Floats, stored: Floats) -> Bools:
    """Tell which stored stale markers give way to a real value."""
    return is_stale(stored) & is_real(new)


def compared(new: Floats, stored: Floats) -> Verdicts:
    """Return what each new value is to the stored one of the same series and time."""
    verdicts = np.where(same_bits(new, stored), Verdict.DUPLICATE, Verdict.CONFLICT)
    verdicts[replaces(new, stored)] = Verdict.REPLACES
    return verdicts.astype(np.int8)


def series_bounds(block: SampleBlock) -> tuple[Ints, Ints]:
    """Return the first and the last row of each series of a sorted *block*."""
    starts = np.flatnonzero(np.concatenate([[True], block.ids[1:] != block.ids[:-1]]))
    return starts, np.append(starts[1:], len(block)) - 1


def _repeats(ordered: SampleBlock) -> Bools:
    """Tell of each row but the first whether it has the series and time of the one before."""
    repeats: Bools = (ordered.ids[1:] == ordered.ids[:-1]) & (
        ordered.times[1:] == ordered.times[:-1]
    )
    return repeats
