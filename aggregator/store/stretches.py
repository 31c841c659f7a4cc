"""Puts samples in order that come in stretches, each of one series and in order of time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aggregator.model.arrays import Bools, Ids, Ints
from aggregator.model.samples import SampleBlock, SeriesSamples
from aggregator.store.conflicts import settled
from aggregator.store.rings import Run


@dataclass(frozen=True, slots=True)
class Stretches:
    """A *block* that is not empty, and the rows at which its stretches begin, the first one 0."""

    block: SampleBlock
    starts: Ints

    @staticmethod
    def of(block: SampleBlock) -> "Stretches":
        """Find them: one begins where the series changes, and where time does not go on."""
        apart = block.ids[1:] != block.ids[:-1]
        apart |= block.times[1:] <= block.times[:-1]
        return Stretches(block, np.append(0, np.flatnonzero(apart) + 1))


def assembled(first_row: int, wanted: Ids, parts: Sequence[Stretches]) -> SeriesSamples:
    """Return the samples of the series *wanted* (ascending) sorted, each once.

    A sample is twice in the table when a real value replaced a stale marker, or when an insert was
    repeated; merges of the table keep the later one, which is the same choice.
    """
    if not parts:
        nothing = np.zeros(wanted.size + 1, np.int64)
        return SeriesSamples(first_row, nothing, np.empty(0, np.int64), np.empty(0, np.float64))
    lengths = [np.diff(part.starts, append=len(part.block)) for part in parts]
    ids = np.concatenate([part.block.ids[part.starts] for part in parts])
    begins = np.concatenate([part.block.times[part.starts] for part in parts])
    length = np.concatenate(lengths)
    order = np.lexsort((begins, ids))
    ends = np.cumsum(length[order])
    targets = np.empty_like(ends)
    targets[order] = ends - length[order]
    times, values = np.empty(int(ends[-1]), np.int64), np.empty(int(ends[-1]), np.float64)
    at = 0
    for part, counts in zip(parts, lengths, strict=True):
        rows = np.repeat(targets[at : at + counts.size] - part.starts, counts)
        rows += np.arange(rows.size)
        times[rows], values[rows] = part.block.times, part.block.values
        at += counts.size
    ids = ids[order]
    if _overlap(ids, begins[order], times[ends - 1]).any():
        block = SampleBlock(np.repeat(ids, length[order]), times, values)
        return of_block(first_row, wanted, settled(block)[0])
    offsets = np.append(0, ends)[np.searchsorted(ids, wanted)]
    return SeriesSamples(first_row, np.append(offsets, times.size), times, values)


def joined(runs: Sequence[Run], series: int) -> SeriesSamples:
    """Return runs as one, each *series* of which goes on from one run to the next.

    A run may be of some of the series alone if the next ones are of the others, in order.
    """
    counts = np.concatenate([run.counts for run in runs]).reshape(-1, series)
    times = np.concatenate([run.times for run in runs])
    values = np.concatenate([run.values for run in runs])
    lengths = counts.T.ravel()
    ends = np.cumsum(lengths)
    if len(counts) > 1:
        begins = (np.cumsum(counts).reshape(counts.shape) - counts).T.ravel()
        rows = np.repeat(begins - ends + lengths, lengths)
        rows += np.arange(rows.size)
        times, values = times[rows], values[rows]
    offsets = np.concatenate([np.zeros(1, np.int64), ends[len(counts) - 1 :: len(counts)]])
    return SeriesSamples(0, offsets, times, values)


def of_block(first_row: int, wanted: Ids, block: SampleBlock) -> SeriesSamples:
    """Return the sorted *block* as the samples of the series *wanted*."""
    offsets = np.append(np.searchsorted(block.ids, wanted), len(block)).astype(np.int64)
    return SeriesSamples(first_row, offsets, block.times, block.values)


def as_block(ids: Ids, run: SeriesSamples) -> SampleBlock:
    """Return a run of the series *ids* as a block."""
    wanted = ids[run.first_row : run.first_row + run.count]
    return SampleBlock(np.repeat(wanted, np.diff(run.offsets)), run.times, run.values)


def _overlap(ids: Ids, begins: Ints, lasts: Ints) -> Bools:
    """Tell of each stretch but the first whether it begins before the one before it has ended."""
    overlap: Bools = (ids[1:] == ids[:-1]) & (begins[1:] <= lasts[:-1])
    return overlap
