"""Samples that come in stretches are put in order, whatever way they come."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.model.samples import STALE, SampleBlock
from aggregator.store.conflicts import settled
from aggregator.store.rings import Run
from aggregator.store.stretches import Stretches, as_block, assembled, joined

IDS = np.array([3, 5, 8, 9], np.uint32)


def block(rows) -> SampleBlock:
    """Return rows of (id, time, value) as a block."""
    ids, times, values = zip(*rows, strict=True)
    return SampleBlock(np.array(ids, np.uint32), np.array(times), np.array(values, np.float64))


rows = st.tuples(st.sampled_from(IDS.tolist()), st.integers(1, 30), st.sampled_from([1.0, STALE]))


@given(st.lists(st.lists(rows, min_size=1, max_size=20), max_size=5))
def test_parts_become_what_sorting_all_of_them_gives(parts):
    """Also where rows are repeated, or a value is there beside the stale marker it replaced."""
    blocks = [block(part) for part in parts]
    run = assembled(7, IDS, [Stretches.of(part) for part in blocks])
    wanted = settled(SampleBlock.concat(blocks))[0]
    assert (run.first_row, run.count) == (7, IDS.size)
    found = as_block(np.append(np.zeros(7, np.uint32), IDS), run)
    np.testing.assert_array_equal(found.ids, wanted.ids)
    np.testing.assert_array_equal(found.times, wanted.times)
    assert found.values.tobytes() == wanted.values.tobytes()


def test_a_stretch_ends_where_time_does_not_go_on():
    """Stretches of one series that touch in time are two."""
    part = block([(3, 1, 0.0), (3, 2, 0.0), (3, 2, 0.0), (5, 1, 0.0), (5, 2, 0.0), (3, 3, 0.0)])
    assert Stretches.of(part).starts.tolist() == [0, 2, 3, 5]


@pytest.mark.parametrize("hours", [1, 2, 3])
def test_runs_that_follow_each_other_are_one(hours):
    """Each series goes on where the run before it ended, also one that is cut by series."""
    counts = np.array([[4, 0, 7, 1], [0, 0, 3, 2], [5, 1, 0, 9]])[:hours]
    runs, wanted, time = [], [[] for _ in IDS], 0
    for line in counts.tolist():
        for part in (slice(0, 3), slice(3, 4)):
            times = np.arange(time, time + sum(line[part]))
            runs.append(Run(np.array(line[part]), times, times / 2))
            time += times.size
        for series, part in enumerate(np.split(np.arange(time - sum(line), time), np.cumsum(line))):
            if series < IDS.size:
                wanted[series] += part.tolist()
    run = joined(runs, IDS.size)
    np.testing.assert_array_equal(np.diff(run.offsets), counts.sum(axis=0))
    np.testing.assert_array_equal(run.times, np.concatenate(wanted))
    np.testing.assert_array_equal(run.values, run.times / 2)
