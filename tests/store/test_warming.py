"""The head after the store was opened again."""

import threading
from pathlib import Path

import numpy as np
import pytest

from aggregator import telemetry
from aggregator.model.budget import Budget
from aggregator.model.samples import STALE, SampleBlock
from aggregator.store import warming
from aggregator.store.head import SPAN_MS
from aggregator.store.interface import Store
from aggregator.store.settings import Backend
from tests.store.conftest import opener
from tests.store.model import DAY_MS, labels, window, write

T0 = 20_000 * DAY_MS + DAY_MS // 2
SERIES = [labels(name=f"m{k % 3}", pod=f"p-{k}") for k in range(40)]
NOW = T0 + 79 * 15_000
RECENT = (NOW - 300_000, NOW)
GO_ON = threading.Event()


def fill(directory: Path) -> None:
    """Store twenty minutes of samples, and one series that ended an hour before."""
    with opener(Backend.CHDB)(directory) as store:
        write(store, [(labels(name="gone"), NOW - 3_600_000, 1.0)])
        for cycle in range(80):
            rows = [
                (series, T0 + cycle * 15_000 + k, cycle / (k + 1))
                for k, series in enumerate(SERIES)
            ]
            write(store, rows)
        write(store, [(SERIES[0], T0 + 60 * 15_000 + 5, STALE)])


def head_reads(store: Store, start: int, end: int) -> tuple[dict, bool]:
    """Return the samples of a window and whether all were read from memory."""
    before = telemetry.LEAF_READS.labels("head")._value.get()
    found = window(store, start, end)
    return found, telemetry.LEAF_READS.labels("head")._value.get() == before + 2


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return the directory of a store that was in use."""
    fill(tmp_path)
    return tmp_path


def test_recent_samples_are_in_memory_again(directory):
    """Before it is warm the disk answers, afterwards the head does, and says the same."""
    with opener(Backend.CHDB)(directory) as store:
        cold, from_head = head_reads(store, *RECENT)
        assert not from_head
        store.warm(GO_ON)
        assert head_reads(store, *RECENT) == (cold, True)
        newest = NOW + len(SERIES) - 1
        assert head_reads(store, newest - SPAN_MS, newest)[1]
        assert not head_reads(store, newest - SPAN_MS - 1, newest)[1]


def test_what_is_written_before_the_head_is_warm_stays(directory):
    """New samples, late ones, and a value for a stale marker."""
    with opener(Backend.CHDB)(directory) as store:
        write(store, [(series, NOW + 15_000, 7.0) for series in SERIES])
        write(store, [(SERIES[1], NOW - 100_000, 8.0), (SERIES[0], T0 + 60 * 15_000 + 5, 9.0)])
        cold, _ = head_reads(store, NOW - 300_000, NOW + 15_000)
        store.warm(GO_ON)
        assert head_reads(store, NOW - 300_000, NOW + 15_000) == (cold, True)
        report = write(store, [(SERIES[1], NOW - 100_000, 8.0), (SERIES[2], NOW - 50_000, 1.0)])
        assert (report.inserted, report.duplicates) == (1, 1)
        again, from_head = head_reads(store, NOW - 300_000, NOW + 15_000)
        assert from_head
        assert sum(map(len, again.values())) == sum(map(len, cold.values())) + 1


def test_series_that_are_too_dense_stay_on_disk(directory):
    """The others are in memory all the same."""
    dense = labels(name="dense")
    with opener(Backend.CHDB)(directory) as store:
        write(store, [(dense, NOW - k * 500, float(k)) for k in range(1_000)])
    with opener(Backend.CHDB)(directory) as store:
        store.warm(GO_ON)
        found, from_head = head_reads(store, *RECENT)
        assert not from_head
        assert len(found[dense]) == 600
        ids = np.sort(store.series_ids([dict(series) for series in SERIES]))
        before = telemetry.LEAF_READS.labels("head")._value.get()
        list(store.read(ids, *RECENT, Budget()))
        assert telemetry.LEAF_READS.labels("head")._value.get() == before + 1


def test_warming_ends_when_it_is_told_to(directory, monkeypatch):
    """What was read until then stays, and the rest can follow."""
    monkeypatch.setattr(warming, "_SERIES_AT_ONCE", 1_024)
    stop = threading.Event()
    stop.set()
    with opener(Backend.CHDB)(directory) as store:
        cold, _ = head_reads(store, *RECENT)
        store.warm(stop)
        assert not head_reads(store, *RECENT)[1]
        store.warm(GO_ON)
        assert head_reads(store, *RECENT) == (cold, True)


def test_writing_goes_on_while_the_head_gets_warm(directory, monkeypatch):
    """Nothing that arrives meanwhile is lost to readers."""
    monkeypatch.setattr(warming, "_SERIES_AT_ONCE", 1_024)
    with opener(Backend.CHDB)(directory) as store:
        ids = np.sort(store.series_ids([dict(series) for series in SERIES]))
        thread = threading.Thread(target=store.warm, args=(GO_ON,))
        thread.start()
        for cycle in range(20):
            times = np.full(ids.size, NOW + (cycle + 1) * 1_000)
            store.write(SampleBlock(ids, times, np.full(ids.size, float(cycle))))
        thread.join()
        found, from_head = head_reads(store, NOW + 500, NOW + 30_000)
    assert from_head
    assert {len(samples) for samples in found.values()} == {20}
