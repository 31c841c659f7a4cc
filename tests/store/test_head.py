"""The newest minutes in memory against a full memory of everything."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.model.arrays import Ids
from aggregator.model.budget import Budget
from aggregator.model.samples import STALE, SampleBlock
from aggregator.store import head, rings
from aggregator.store.conflicts import Verdict, settled
from aggregator.store.head import SPAN_MS, Head
from aggregator.store.lifetimes import Lifetimes
from aggregator.store.rings import LARGEST, Run
from tests.store.model import bits, stale

T0 = 1_700_000_000_000
SERIES = 4
NO_END = 1 << 40
IDS = np.arange(SERIES, dtype=np.uint32)

Memory = dict[int, dict[int, float]]


def verdict_of(stored: dict[int, float], time: int, value: float) -> Verdict:
    """Return what a sample is to everything stored of its series."""
    if time not in stored:
        return Verdict.NEW
    if bits(stored[time]) == bits(value):
        return Verdict.DUPLICATE
    if stale(stored[time]) and not stale(value):
        return Verdict.REPLACES
    return Verdict.CONFLICT


def block_of(batch) -> SampleBlock:
    """Return (row, time, value) triples as a settled block whose ids are rows."""
    rows, times, values = (np.array(column) for column in zip(*batch, strict=True))
    return settled(
        SampleBlock(rows.astype(np.uint32), times.astype(np.int64), values.astype(np.float64))
    )[0]


class Kept:
    """A head and everything that it was given."""

    def __init__(self, span_ms: int = SPAN_MS, series: int = SERIES) -> None:
        self.ids = np.arange(series, dtype=np.uint32)
        self.ids.flags.writeable = False  # as a store keeps the ids of a selection
        self.head = Head(span_ms)
        self.lives = Lifetimes.empty().with_ids(self.ids)
        self.head.grow(self.lives.rows_used)
        self.memory: Memory = {row: {} for row in range(series)}

    def write(self, batch) -> None:
        """Judge and take a batch; what the head says must be true."""
        block = block_of(batch)
        rows = block.ids.astype(np.int64)
        verdicts = self.head.judge(rows, block).tolist()
        triples = list(zip(rows.tolist(), block.times.tolist(), block.values.tolist(), strict=True))
        values = [float(value) for value in block.values]
        truths = [
            verdict_of(self.memory[row], time, value)
            for (row, time, _), value in zip(triples, values, strict=True)
        ]
        for verdict, truth in zip(verdicts, truths, strict=True):
            assert verdict in (truth, Verdict.UNSURE)
        stays = np.array([truth in (Verdict.NEW, Verdict.REPLACES) for truth in truths])
        replacing = np.array([truth == Verdict.REPLACES for truth in truths])
        for (row, time, _), value, stay in zip(triples, values, stays, strict=True):
            if stay:
                self.memory[row][time] = value
        kept = block.take(stays)
        self.head.absorb(rows[stays], kept, replacing[stays])

    def begin_again(self, later: int) -> None:
        """Have a new head, which knows when series had their last sample, or *later*, on disk."""
        self.head = Head(self.head.span_ms)
        self.head.grow(self.lives.rows_used)
        rows = np.array([row for row, stored in self.memory.items() if stored], np.int64)
        last = [max(self.memory[row]) + later for row in rows.tolist()]
        self.head.load(rows, np.array(last, np.int64))

    def fill(self, rows: set[int], floor: int) -> None:
        """Fill the head with what *rows* have later than *floor*, where it lacks that."""
        filled = np.array(sorted(row for row in rows if self.memory[row]), np.int64)
        filled = filled[self.head.lacking(filled, floor)]
        found = [self.stored(row, floor, NO_END) for row in filled.tolist()]
        times = np.array([time for samples in found for time, _ in samples], np.int64)
        values = np.frombuffer(b"".join(value for samples in found for _, value in samples))
        counts = np.array([len(samples) for samples in found], np.int64)
        self.head.fill(filled, Run(counts, times, values), floor)

    def stored(self, row: int, start: int, end: int) -> list[tuple[int, bytes]]:
        """Return what was stored of a series."""
        return sorted((t, bits(v)) for t, v in self.memory[row].items() if start < t <= end)

    def read(self, start: int, end: int, ids: Ids | None = None) -> bool:
        """Tell whether the head answered; what it answered must be what was stored."""
        ids = self.ids if ids is None else ids
        runs = list(self.head.runs(lambda: self.lives, ids, start, end, Budget()))
        newest = self.head.newest(lambda: self.lives, ids, start, end, Budget())
        assert bool(runs) == (newest is not None)
        for run in runs:
            for place, row in enumerate(ids.tolist()):
                expected = self.stored(row, start, end)
                assert samples_of(run, place) == expected
                last = [(int(newest.times[place]), bits(newest.values[place]))]
                assert last * int(newest.present[place]) == expected[-1:]
        return bool(runs)


def samples_of(run, place: int) -> list[tuple[int, bytes]]:
    """Return the samples of one series of a run."""
    part = slice(run.offsets[place], run.offsets[place + 1])
    return [(int(t), bits(v)) for t, v in zip(run.times[part], run.values[part], strict=True)]


samples = st.lists(
    st.tuples(st.integers(0, SERIES - 1), st.integers(0, 900), st.sampled_from([1.0, 2.0, STALE])),
    min_size=1,
    max_size=40,
)
windows = st.tuples(st.integers(-1, 900), st.integers(-1, 900))


@settings(max_examples=200, deadline=None)
@given(
    span=st.sampled_from([0, 50, 300, 100_000]),
    batches=st.lists(st.tuples(samples, windows), min_size=1, max_size=8),
)
def test_the_head_is_right_or_silent(span, batches):
    """Whatever comes late, twice or as a stale marker: an answer is what was stored."""
    kept = Kept(span)
    for batch, (start, end) in batches:
        kept.write(batch)
        kept.read(start, end)
        newest = max((max(stored, default=-1) for stored in kept.memory.values()), default=-1)
        kept.read(newest - 1, newest)
        for row in range(SERIES):
            kept.read(start, end, IDS[row : row + 1])


ODD = [1.0, 2.0, STALE, 0.0, -0.0, math.nan, math.inf]
writing = st.tuples(
    st.just("write"),
    st.integers(0, 2_000),
    st.lists(
        st.tuples(st.integers(0, SERIES - 1), st.integers(0, 400), st.sampled_from(ODD)),
        min_size=1,
        max_size=200,
    ),
)
starting = st.tuples(
    st.just("begin again"),
    st.integers(-100, 2_400),
    st.sets(st.integers(0, SERIES - 1)),
)
ends = st.lists(st.tuples(st.integers(-1, 2_400), st.integers(-1, 2_400)), max_size=5)


@settings(max_examples=150, deadline=None)
@given(
    span=st.sampled_from([0, 50, 300, 100_000]),
    scale=st.sampled_from([1, 60]),
    steps=st.lists(st.tuples(writing | starting, ends), min_size=1, max_size=8),
)
def test_the_head_is_right_or_silent_however_it_was_filled(span, scale, steps):
    """Written, loaded, filled, released and moved: the newest is the last one, to the bit."""
    kept = Kept(span)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(head, "_SWEEP_MS", 100)
        patched.setattr(rings, "_WORTH_MOVING", 1)
        patched.setattr(rings, "_MOVED_AT_ONCE", 2)
        for (action, at, what), windows in steps:
            if action == "write":
                kept.write([(row, (at + time) * scale, value) for row, time, value in what])
            else:
                kept.begin_again(later=at % 3 * 1_000)
                kept.fill(what, at * scale)
                windows.append((at, NO_END))
            times = sorted({time for stored in kept.memory.values() for time in stored})
            for end in times[-3:]:
                kept.read(end - 1, end)
            for start, end in windows:
                kept.read(start * scale, end * scale)
                for row in range(SERIES):
                    kept.read(start * scale, end * scale, IDS[row : row + 1])


@settings(max_examples=30, deadline=None)
@given(
    interval=st.sampled_from([5_000, 10_000, 15_000, 30_000, 60_000, 120_000]),
    jitter=st.integers(0, 20),
    seed=st.integers(0, 1_000),
)
def test_ten_minutes_are_held_at_any_usual_interval(interval, jitter, seed):
    """Rings grow by themselves until they span that much, from the first sample on."""
    kept, rng = Kept(), np.random.default_rng(seed)
    for cycle in range(2 * SPAN_MS // interval):
        now = T0 + cycle * interval
        late = rng.integers(0, jitter + 1, SERIES).tolist()
        kept.write([(row, now + late[row], float(cycle)) for row in range(SERIES)])
        assert kept.read(now + jitter - SPAN_MS, now + jitter)


def test_a_late_sample_takes_its_place_among_the_held():
    """One that is later than the floor is answered; an older one only ends the memory there."""
    kept = Kept()
    for cycle in range(60):
        kept.write([(0, T0 + cycle * 15_000, 1.0)])
    now = T0 + 59 * 15_000
    kept.write([(0, now - 100_000, 7.0), (0, now - 50_001, 8.0)])
    assert kept.read(now - 300_000, now)
    kept.write([(0, T0 + 1, 9.0)])
    assert kept.read(now - 300_000, now)
    assert not kept.read(T0, now)


def test_a_real_value_replaces_a_held_stale_marker():
    """Also one that is not the newest."""
    kept = Kept()
    kept.write([(0, T0, STALE), (0, T0 + 1, 1.0), (1, T0, STALE)])
    kept.write([(0, T0, 5.0), (1, T0, 6.0)])
    assert kept.read(T0 - 1, T0 + 1)


def test_series_that_are_too_dense_are_left_to_the_disk():
    """What no ring can hold is answered for as long as the ring reaches back, others are whole."""
    kept = Kept(series=2)
    for second in range(0, 400, 50):
        at = [T0 + k * 1_000 for k in range(second, second + 50)]
        kept.write([(0, time, 1.0) for time in at] + [(1, at[0], 2.0)])
    now = T0 + 399_000
    assert not kept.read(now - 300_000, now)
    assert kept.read(now - 300_000, now, kept.ids[1:])
    assert kept.read(now - LARGEST * 1_000, now)


def test_a_backfilled_series_holds_its_end_only():
    """Many samples at once enter like one after the other."""
    kept = Kept(series=1)
    kept.write([(0, T0 + k * 15_000, float(k)) for k in range(500)])
    now = T0 + 499 * 15_000
    assert kept.read(now - 300_000, now)
    assert not kept.read(T0, now)


def test_series_that_ended_hold_no_room():
    """Ten minutes after their last sample their rings serve others, and shrink to nothing."""
    series = 50_000
    kept = Kept(series=series)
    rows = np.arange(series)
    for cycle in range(8):
        block = SampleBlock(kept.ids, np.full(series, T0 + cycle * 15_000), np.ones(series))
        kept.head.absorb(rows, block, np.zeros(series, np.bool_))
    assert kept.head.room > 8 * series
    kept.write([(0, T0 + 900_000, 1.0)])
    assert kept.head.room < 1_000
    now = T0 + 900_000
    assert kept.head.newest(lambda: kept.lives, kept.ids, now - 300_000, now, Budget()) is not None
    assert kept.head.newest(lambda: kept.lives, kept.ids, T0, now, Budget()) is None


def test_rings_stay_right_when_they_are_moved_together(monkeypatch):
    """Half of the series end; what the rest have is what they had."""
    monkeypatch.setattr(rings, "_WORTH_MOVING", 1)
    monkeypatch.setattr(rings, "_MOVED_AT_ONCE", 300)
    kept = Kept(series=2_000)
    for cycle in range(8):
        kept.write([(row, T0 + cycle * 15_000, row + cycle) for row in range(2_000)])
    rest, before = range(1, 2_000, 2), kept.head.room
    for cycle in range(50, 60):
        kept.write([(row, T0 + cycle * 15_000, row + cycle) for row in rest])
    now = T0 + 59 * 15_000
    assert kept.head.room < before
    assert kept.read(now - 300_000, now)


def test_series_that_were_on_disk_before_are_unsure():
    """Up to their last time, after which everything is new."""
    kept = Kept()
    kept.head.load(np.array([1]), np.array([100]))
    block = SampleBlock(
        np.array([0, 1, 1], np.uint32), np.array([50, 100, 101], np.int64), np.ones(3)
    )
    verdicts = kept.head.judge(block.ids.astype(np.int64), block)
    assert verdicts.tolist() == [Verdict.NEW, Verdict.UNSURE, Verdict.NEW]


def test_heads_that_grow_hold_what_they_held():
    """New series have rows of their own, and nothing in them."""
    kept = Kept()
    kept.write([(row, T0, float(row)) for row in range(SERIES)])
    kept.ids = np.arange(5 * 1_024, dtype=np.uint32)
    kept.memory |= {row: {} for row in range(SERIES, kept.ids.size)}
    kept.lives = kept.lives.with_ids(kept.ids)
    assert not kept.read(T0 - 1, T0)
    kept.head.grow(kept.lives.rows_used)
    assert kept.read(T0 - 1, T0)
    kept.write([(3_000, T0, 7.0)])
    assert kept.read(T0 - 1, T0)


def test_rows_of_another_epoch_are_not_answered():
    """A reader that looked its rows up before they were numbered anew goes to the disk."""
    kept = Kept(series=3 * 1_024)
    rows = np.array([5, 1_024 + 6, 2_048 + 7])
    kept.write([(row, T0, float(row)) for row in rows.tolist()])
    ids = rows[[0, 2]].astype(np.uint32)
    ids.flags.writeable = False
    assert kept.read(T0 - 1, T0, ids)
    gone = np.zeros(3 * 1_024, np.bool_)
    gone[1_024:2_048] = True
    before, (kept.lives, blocks) = kept.lives, kept.lives.without(gone)
    kept.head.compact(blocks, kept.lives.epoch)
    assert kept.head.newest(lambda: before, ids, T0 - 1, T0, Budget()) is None
    assert kept.read(T0 - 1, T0, ids)
    block = SampleBlock(ids, np.full(2, T0), ids.astype(np.float64))
    assert kept.head.judge(kept.lives.rows(ids), block).tolist() == [Verdict.DUPLICATE] * 2


def test_many_rings_are_searched_and_few_looked_through(monkeypatch):
    """Both ways find the same samples."""
    random = np.random.default_rng(9)
    kept = Kept(series=6)
    for row in range(5):  # the last one has no ring
        times = np.sort(random.choice(900_000, 5 << row, replace=False))
        kept.write([(row, T0 + int(time), float(time)) for time in times])
    for start, end in random.integers(T0 - 5_000, T0 + 905_000, (200, 2)).tolist():
        found = []
        for most in (0, 1 << 12):
            monkeypatch.setattr(rings, "_LOOKED_THROUGH", most)
            run = kept.head._rings.between(np.arange(6), start, max(start, end))
            found.append([column.tolist() for column in (run.counts, run.times, run.values)])
        assert found[0] == found[1]
