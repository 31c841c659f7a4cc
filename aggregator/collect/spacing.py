"""Writes again what is seldom asked for, so that no stored series is sparser than a minute."""

from dataclasses import dataclass, replace

import numpy as np

from aggregator.collect.staleness import markers, vanished
from aggregator.fleet.subjects import LOGS_LAST
from aggregator.model.arrays import Floats, Ids
from aggregator.model.samples import SampleBlock

SPACING_MS = 60_000


@dataclass(frozen=True, slots=True)
class Held:
    """The answer for `time_ms`, which is stored up to `written_ms`.

    It stands until three intervals after its time; then its series end.
    """

    time_ms: int
    interval_ms: int
    ids: Ids
    values: Floats
    written_ms: int

    @property
    def ends_ms(self) -> int:
        """When its series end."""
        return self.time_ms + LOGS_LAST * self.interval_ms

    def again(self, until_ms: int) -> "tuple[SampleBlock, Held | None]":
        """Return what is to be written up to *until_ms*, and what is held then: None if it ended.

        Those are the values at each whole minute after `time_ms`, and stale markers at the end.
        """
        last = min(until_ms, self.ends_ms - 1)
        first = self.written_ms + SPACING_MS - (self.written_ms - self.time_ms) % SPACING_MS
        times = np.arange(first, last + 1, SPACING_MS, dtype=np.int64)
        block = SampleBlock(
            np.tile(self.ids, times.size),
            np.repeat(times, self.ids.size),
            np.tile(self.values, times.size),
        )
        if until_ms >= self.ends_ms:
            return SampleBlock.concat([block, markers(self.ids, self.ends_ms)]), None
        written = int(times[-1]) if times.size else self.written_ms
        return block, replace(self, written_ms=written)

    def followed_by(self, new: "Held") -> SampleBlock:
        """Return what is to be written up to the time of a later answer, what ended there too."""
        block, rest = self.again(new.time_ms - 1)
        if rest is None:
            return block
        return SampleBlock.concat([block, markers(vanished(self.ids, new.ids), new.time_ms)])

    def samples(self) -> SampleBlock:
        """Return the answer itself."""
        return SampleBlock(self.ids, np.full(self.ids.size, self.time_ms, np.int64), self.values)
