"""The rings of newest samples against a full memory of everything."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aggregator.model.samples import STALE, SampleBlock
from aggregator.store.conflicts import settled
from aggregator.store.head import Head, Verdict
from tests.store.model import bits, stale

samples = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 25), st.sampled_from([1.0, 2.0, STALE])),
    min_size=1,
    max_size=15,
)


def verdict_of(stored: dict[int, float], time: int, value: float) -> Verdict:
    """Return what a sample is to everything stored of its series."""
    if time not in stored:
        return Verdict.NEW
    if bits(stored[time]) == bits(value):
        return Verdict.DUPLICATE
    if stale(stored[time]) and not stale(value):
        return Verdict.REPLACES
    return Verdict.CONFLICT


@given(depth=st.integers(1, 4), batches=st.lists(samples, min_size=1, max_size=8))
def test_the_head_is_right_or_unsure(depth, batches):
    """It never errs; what is newer than its ring it knows for certain."""
    head = Head(depth)
    head.grow(4)
    memory: dict[int, dict[int, float]] = {row: {} for row in range(4)}
    for batch in batches:
        rows, times, values = (np.array(column) for column in zip(*batch, strict=True))
        block, _, _ = settled(
            SampleBlock(rows.astype(np.uint32), times.astype(np.int64), values.astype(np.float64))
        )
        verdicts = head.judge(block.ids.astype(np.int64), block)
        stays, replaces = [], []
        for place, verdict in enumerate(verdicts.tolist()):
            row, time = int(block.ids[place]), int(block.times[place])
            truth = verdict_of(memory[row], time, float(block.values[place]))
            newest = sorted(memory[row])[-depth:]
            if len(newest) < depth or time >= newest[0]:
                assert verdict == truth
            else:
                assert verdict in (truth, Verdict.UNSURE)
            stays.append(truth in (Verdict.NEW, Verdict.REPLACES))
            replaces.append(truth == Verdict.REPLACES)
            if stays[-1]:
                memory[row][time] = float(block.values[place])
        kept = block.take(np.array(stays))
        head.absorb(kept.ids.astype(np.int64), kept, np.array(replaces)[np.array(stays)])


def test_series_that_were_on_disk_before_are_unsure():
    """Up to their last time, after which everything is new."""
    head = Head(2)
    head.grow(2)
    head.load(np.array([1]), np.array([100]))
    block = SampleBlock(
        np.array([0, 1, 1], np.uint32), np.array([50, 100, 101], np.int64), np.ones(3)
    )
    verdicts = head.judge(block.ids.astype(np.int64), block)
    assert verdicts.tolist() == [Verdict.NEW, Verdict.UNSURE, Verdict.NEW]


def test_compacting_keeps_the_blocks_in_order():
    """Rows move with their block."""
    head = Head(1)
    head.grow(3 * 1_024)
    rows = np.array([5, 1_024 + 6, 2_048 + 7])
    block = SampleBlock(rows.astype(np.uint32), np.array([1, 2, 3], np.int64), np.ones(3))
    head.absorb(rows, block, np.zeros(3, np.bool_))
    head.compact(np.array([0, 2]))
    again = block.take(np.array([0, 2]))
    assert head.judge(np.array([5, 1_024 + 7]), again).tolist() == [Verdict.DUPLICATE] * 2
