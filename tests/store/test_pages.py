"""What was read lately comes from memory, and is always what the disk would answer."""

import contextlib
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator import telemetry
from aggregator.model.budget import Budget
from aggregator.model.samples import SampleBlock
from aggregator.store.chdb import ChdbStore
from aggregator.store.pages import LIMIT_BYTES, PAGE_MS

START = 495_000 * PAGE_MS
ROOMY = 1 << 40
SERIES = [{"__name__": "x", "n": str(number)} for number in range(40)]


def served() -> float:
    """Return how many reads were answered from pages."""
    return telemetry.LEAF_READS.labels("pages")._value.get()


def block(ids, times, seed: int = 0) -> SampleBlock:
    """Return a sample of each series at each time."""
    values = np.random.default_rng(seed).normal(size=ids.size * len(times))
    return SampleBlock(np.repeat(ids, len(times)), np.tile(np.array(times), ids.size), values)


def answer(store, ids, start: int, end: int):
    """Return what the store reads, as bytes."""
    runs = list(store.read(ids, start, end, Budget()))
    counts = np.concatenate([np.diff(run.offsets) for run in runs]).tolist()
    return (
        counts,
        b"".join(run.times.tobytes() for run in runs),
        b"".join(run.values.tobytes() for run in runs),
    )


@contextlib.contextmanager
def opened(pages_bytes: int = LIMIT_BYTES):
    """Open a store on a directory of its own."""
    with (
        tempfile.TemporaryDirectory() as name,
        contextlib.closing(
            ChdbStore(Path(name), max_disk_bytes=ROOMY, pages_bytes=pages_bytes)
        ) as store,
    ):
        yield store


def filled(store, hours: int = 3):
    """Write a sample a minute for some hours and return the ids."""
    ids = store.series_ids(SERIES)
    store.write(block(ids, [START + minute * 60_000 for minute in range(1, 60 * hours + 1)]))
    return ids


def test_an_hour_that_was_read_is_not_read_again():
    """The second read comes from memory, gives the same, and counts the same."""
    with opened() as store:
        ids = filled(store)
        window = (START + 1_000, START + PAGE_MS + 90_000)
        first, before = answer(store, ids, *window), served()
        budget = Budget()
        assert sum(run.times.size for run in store.read(ids, *window, budget)) == budget.samples
        assert answer(store, ids, *window) == first
        assert served() == before + 2
        assert sum(first[0]) == len(SERIES) * 61


def test_few_series_are_kept_when_they_are_asked_for_again():
    """One series does not bring its whole block into memory the first time."""
    with opened() as store:
        ids = filled(store)
        before = served()
        first = answer(store, ids[:1], START, START + PAGE_MS)
        assert served() == before
        assert answer(store, ids[:1], START, START + PAGE_MS) == first
        assert served() == before + 1


def test_the_present_hour_is_kept_while_samples_come():
    """New samples come from the head; the page is not made again for each of them."""
    with opened() as store:
        ids = filled(store, hours=2)
        start, now = START + PAGE_MS, START + 2 * PAGE_MS
        answer(store, ids, start, now)
        made = dict(store._pages._kept)
        for step in range(1, 5):
            now += 15_000
            store.write(block(ids, [now], step))
            before = served()
            counts, times, _ = answer(store, ids, start, now)
            assert served() == before + 1
            assert sum(counts) == len(SERIES) * (60 + step)
            assert np.frombuffer(times, np.int64).max() == now
        assert all(store._pages._kept[key] is page for key, page in made.items())


def test_expiry_empties_the_pages():
    """What was dropped with its day is not answered from memory."""
    with opened() as store:
        ids = filled(store)
        assert sum(answer(store, ids, START, START + PAGE_MS)[0])
        store.expire(START + 10 * 24 * PAGE_MS)
        assert sum(answer(store, ids, START, START + PAGE_MS)[0]) == 0


def test_memory_is_bounded():
    """The pages asked for longest ago go first."""
    one_page = 40 * 60 * 12 + 1_025 * 8
    with opened(2 * one_page) as store:
        ids = filled(store, hours=6)
        for hour in range(4):
            answer(store, ids, START + hour * PAGE_MS, START + (hour + 1) * PAGE_MS)
        assert store._pages._size <= 2 * one_page
        assert len(store._pages._kept) == 2


WRITES = st.lists(
    st.tuples(
        st.lists(st.integers(0, len(SERIES) - 1), min_size=1, max_size=20, unique=True),
        st.lists(st.integers(0, 400), min_size=1, max_size=6, unique=True),
        st.integers(0, 9),
    ),
    min_size=2,
    max_size=8,
)
WINDOWS = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 200)), min_size=1, max_size=4)


@settings(max_examples=25, deadline=None)
@given(writes=WRITES, windows=WINDOWS)
def test_late_samples_are_seen(writes, windows):
    """After every write, also of samples in hours that are kept, both stores answer the same."""
    with opened() as kept:
        ids = kept.series_ids(SERIES)
        plain: dict[tuple[int, int], float] = {}
        for rows, minutes, seed in writes:
            written = block(ids[rows], [START + minute * 60_000 for minute in minutes], seed)
            kept.write(written)
            for number, time, value in zip(
                written.ids.tolist(), written.times.tolist(), written.values.tolist(), strict=True
            ):
                plain.setdefault((number, time), value)
            for first, length in windows:
                start, end = START + first * 60_000, START + (first + length) * 60_000
                wanted = sorted(
                    (number, time, value)
                    for (number, time), value in plain.items()
                    if start < time <= end
                )
                counts, times, values = answer(kept, ids, start, end)
                assert np.repeat(ids, counts).tolist() == [number for number, _, _ in wanted]
                assert np.frombuffer(times, np.int64).tolist() == [time for _, time, _ in wanted]
                assert np.frombuffer(values).tolist() == [value for _, _, value in wanted]
