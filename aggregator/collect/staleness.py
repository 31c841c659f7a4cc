"""Which series have ended: those of the last complete answer that are not in this one."""

import numpy as np

from aggregator.model.arrays import Bools, Ids, Ints
from aggregator.model.samples import STALE, SampleBlock


def vanished(before: Ids, now: Ids) -> Ids:
    """Return the ids that were there and are not any more, ascending."""
    return np.setdiff1d(before, now)


def markers(ids: Ids, time_ms: int) -> SampleBlock:
    """Return a stale marker at *time_ms* for each id."""
    return SampleBlock(ids, np.full(ids.size, time_ms, np.int64), np.full(ids.size, STALE))


def markers_on_grid(ids: Ids, present: Bools, times: Ints) -> SampleBlock:
    """Return a stale marker where a series that was present at one step is absent at the next.

    *present* is `[series, steps]`; *ids* and *times* name its rows and columns.
    """
    rows, steps = np.nonzero(present[:, :-1] & ~present[:, 1:])
    return SampleBlock(ids[rows], times[steps + 1], np.full(rows.size, STALE))
