"""The writer's thread: bounded, durable before it says so, and it loses nothing."""

import queue
import threading

import numpy as np
import pytest

from aggregator.errors import StoreError
from aggregator.model.budget import Budget
from aggregator.model.samples import SampleBlock
from aggregator.store.interface import WriteReport
from aggregator.store.memory import MemoryStore
from aggregator.store.writer import StoreWriter
from tests.store.model import ALL, labels

WAIT_SECONDS = 30.0


class Gate(MemoryStore):
    """A store whose writes wait for permission, or fail as often as they are told."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.entered = threading.Event()
        self.failures = 0
        self.sizes: list[int] = []

    def write(self, block: SampleBlock) -> WriteReport:
        """Wait, fail or store."""
        self.entered.set()
        assert self.open.wait(WAIT_SECONDS)
        if self.failures:
            self.failures -= 1
            raise StoreError("no space left in ./data")
        self.sizes.append(len(block))
        return super().write(block)


@pytest.fixture
def gate() -> Gate:
    """Return a store that holds writes back."""
    return Gate()


def block(store, count: int, start: int = 0) -> SampleBlock:
    """Return *count* samples of one series."""
    ids = np.repeat(store.series_ids([dict(labels(name="up"))]), count)
    return SampleBlock(ids, np.arange(start, start + count, dtype=np.int64), np.ones(count))


def stored(store) -> int:
    """Return how many samples the store has."""
    ids = store.select(ALL, 0, 1 << 60, store.strings(), Budget()).ids
    return sum(run.times.size for run in store.read(ids, -1, 1 << 60, Budget()))


def test_a_block_is_stored_before_it_is_acknowledged(gate):
    """The callback runs in the writer's thread, after the write returned."""
    gate.open.set()
    writer = StoreWriter(gate, flush_seconds=0.01)
    writer.start()
    seen: queue.Queue[tuple[int, str]] = queue.Queue()
    accepted = writer.submit(
        block(gate, 3), lambda: seen.put((stored(gate), threading.current_thread().name)), 1.0
    )
    assert accepted
    assert seen.get(timeout=WAIT_SECONDS) == (3, "store-writer")
    assert writer.stop()


def test_a_full_queue_holds_collectors_back(gate):
    """What does not fit is refused after the timeout, and taken once there is room."""
    writer = StoreWriter(gate, max_queued_samples=5, flush_seconds=0.0)
    writer.start()
    assert writer.submit(block(gate, 4), lambda: None, 1.0)
    assert gate.entered.wait(WAIT_SECONDS)
    assert not writer.submit(block(gate, 2, 10), lambda: None, 0.01)
    gate.open.set()
    assert writer.submit(block(gate, 2, 10), lambda: None, WAIT_SECONDS)
    assert writer.stop()
    assert stored(gate) == 6


def test_batches_are_bounded(gate):
    """Blocks are joined up to the batch size, a larger block is cut."""
    writer = StoreWriter(gate, batch_samples=10, flush_seconds=60.0)
    for start in (0, 4, 8):
        assert writer.submit(block(gate, 4, start), lambda: None, 1.0)
    assert writer.submit(block(gate, 25, 100), lambda: None, 1.0)
    gate.open.set()
    writer.start()
    assert writer.stop()
    assert gate.sizes == [8, 4, 10, 10, 5]
    assert stored(gate) == 37


def test_a_failed_batch_is_kept_and_tried_again(gate):
    """Nothing is acknowledged until the store took it."""
    gate.failures = 1
    gate.open.set()
    writer = StoreWriter(gate, flush_seconds=0.0)
    writer.start()
    done = threading.Event()
    assert writer.submit(block(gate, 2), done.set, 1.0)
    assert done.wait(WAIT_SECONDS)
    assert stored(gate) == 2
    assert writer.stop()


def test_a_failing_callback_does_not_stop_the_writer(gate):
    """The others are called all the same."""
    gate.open.set()
    writer = StoreWriter(gate, flush_seconds=60.0)
    done = threading.Event()
    assert writer.submit(block(gate, 1), lambda: 1 // 0, 1.0)
    assert writer.submit(block(gate, 1, 5), done.set, 1.0)
    writer.start()
    assert writer.stop()
    assert done.is_set()
    assert stored(gate) == 2


def test_settling_stores_what_was_submitted_at_once(gate):
    """Nobody waits for a batch to fill; what the store does not take is not settled."""
    writer = StoreWriter(gate, flush_seconds=3_600.0)
    writer.start()
    assert writer.settle(1.0)
    assert writer.submit(block(gate, 3), lambda: None, 1.0)
    assert not writer.settle(0.01)
    gate.open.set()
    assert writer.settle(WAIT_SECONDS)
    assert stored(gate) == 3
    assert writer.stop()


def test_stopping_drains_the_queue_and_takes_nothing_more(gate):
    """What was accepted is stored, also when the store refuses once."""
    gate.open.set()
    writer = StoreWriter(gate, flush_seconds=60.0)
    writer.start()
    assert writer.submit(block(gate, 3), lambda: None, 1.0)
    assert writer.stop()
    assert stored(gate) == 3
    assert not writer.submit(block(gate, 3, 50), lambda: None, 1.0)


def test_stopping_tells_when_samples_could_not_be_stored(gate):
    """The caller learns that the source has to be asked again."""
    gate.failures = 1_000
    gate.open.set()
    writer = StoreWriter(gate, flush_seconds=60.0)
    writer.start()
    assert writer.submit(block(gate, 3), lambda: None, 1.0)
    assert not writer.stop()
