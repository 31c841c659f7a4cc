"""What holds of the store in memory alone."""

import contextlib
from collections.abc import Iterator

import numpy as np

from aggregator.model.samples import SampleBlock
from aggregator.store.interface import WriteReport
from aggregator.store.memory import MemoryStore
from tests.store.model import DAY_MS, bits, labels, window, write

T0 = 20_000 * DAY_MS


def test_a_write_that_waited_for_an_expiry_goes_to_its_own_series(monkeypatch):
    """Retention has a thread of its own, and what it forgets gives up its place."""
    store, kept = MemoryStore(), labels(name="new")
    write(store, [(labels(name="old"), T0, 1.0), (kept, T0 + DAY_MS, 1.0)])
    ids = store.series_ids([dict(labels(name="old")), dict(kept)])
    lock = store._lock

    @contextlib.contextmanager
    def after_expiry() -> Iterator[None]:
        monkeypatch.setattr(store, "_lock", lock)
        assert store.expire(T0 + DAY_MS) == 1
        with lock:
            yield

    monkeypatch.setattr(store, "_lock", after_expiry())
    block = SampleBlock(ids, np.full(2, T0 + 2 * DAY_MS), np.ones(2))
    assert store.write(block) == WriteReport(1, 0, 0, refused=1)
    assert window(store, T0 + DAY_MS, T0 + 2 * DAY_MS) == {kept: [(T0 + 2 * DAY_MS, bits(1.0))]}
