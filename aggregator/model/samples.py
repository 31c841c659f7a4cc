"""Samples as columns, and the stale marker."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aggregator.model.arrays import Bools, Floats, Ids, Ints
from aggregator.model.record import record

# Prometheus's staleness marker is this one NaN; arithmetic destroys it, storage must not.
STALE_BITS = 0x7FF0000000000002
_STALE_BITS = np.uint64(STALE_BITS)
STALE: float = np.array([STALE_BITS], dtype=np.uint64).view(np.float64)[0]
_STALE_BYTES = _STALE_BITS.tobytes()
_FEW = 4_096  # values, of which a look at the bytes costs less than a comparison of each


def is_stale(values: Floats) -> Bools:
    """Tell which values are the stale marker (any shape)."""
    stale: Bools = np.ascontiguousarray(values).view(np.uint64) == _STALE_BITS
    return stale


def is_real(values: Floats) -> Bools:
    """Tell which values are not the stale marker (any shape)."""
    real: Bools = np.ascontiguousarray(values).view(np.uint64) != _STALE_BITS
    return real


def may_be_stale(values: Floats) -> bool:
    """Tell whether any value may be the stale marker (any shape); of few, False costs little."""
    # what looks like the marker may be the end of one value and the beginning of the next
    return values.size >= _FEW or _STALE_BYTES in values.tobytes()


@dataclass(frozen=True, slots=True)
class SampleBlock:
    """Samples in any order: series id, time in ms UTC and value, one row each."""

    ids: Ids
    times: Ints
    values: Floats

    def __len__(self) -> int:
        return self.ids.size

    @staticmethod
    def empty() -> "SampleBlock":
        """Return a block without samples."""
        return SampleBlock(np.empty(0, np.uint32), np.empty(0, np.int64), np.empty(0, np.float64))

    @staticmethod
    def concat(blocks: Sequence["SampleBlock"]) -> "SampleBlock":
        """Stack blocks in the given order."""
        if not blocks:
            return SampleBlock.empty()
        return SampleBlock(
            np.concatenate([block.ids for block in blocks]),
            np.concatenate([block.times for block in blocks]),
            np.concatenate([block.values for block in blocks]),
        )

    def take(self, rows: "Ints | Bools") -> "SampleBlock":
        """Return the chosen rows."""
        return SampleBlock(self.ids[rows], self.times[rows], self.values[rows])


@record
class SeriesSamples:
    """The samples of a run of series, sorted by series and time, no time twice in one series.

    `first_row` is the position of the run's first series in the selection that was read. The
    samples of its k-th series are `times[offsets[k]:offsets[k + 1]]` (ms UTC) and the same slice
    of `values`, which may hold stale markers; `offsets` has one entry more than there are series.
    """

    first_row: int
    offsets: Ints
    times: Ints
    values: Floats

    @property
    def count(self) -> int:
        """How many series the run has."""
        return self.offsets.size - 1

    def take(self, rows: Ints) -> "SeriesSamples":
        """Return the samples of the chosen series, in that order."""
        counts = np.diff(self.offsets)[rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], counts)
        return SeriesSamples(self.first_row, offsets, self.times[places], self.values[places])


@record
class Newest:
    """The newest sample of each of n series: time in ms UTC and value, which may be a stale marker.

    `present` tells which series have one; the others' time and value mean nothing.
    """

    times: Ints
    values: Floats
    present: Bools
