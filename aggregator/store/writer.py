"""The one thread that writes: what collectors hand over becomes durable in bounded batches."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from aggregator import supervise, telemetry
from aggregator.errors import StoreError
from aggregator.model.samples import SampleBlock
from aggregator.store.interface import SampleWriter

_LOG = structlog.get_logger(__name__)
_NAME = "store-writer"
_LONGEST_PAUSE_SECONDS = 30.0


class CountedWriter(SampleWriter, Protocol):
    """What the writer needs of a store."""

    @property
    def series_count(self) -> int:
        """How many series the store knows."""
        ...


@dataclass(frozen=True, slots=True)
class _Entry:
    block: SampleBlock
    on_stored: Callable[[], None]
    since: float


class StoreWriter:
    """A bounded queue of sample blocks and the thread that stores them.

    A batch that the store refuses stays first in the queue and is tried again until it is stored,
    so nothing that was taken is lost while the process lives; collectors are held back instead.
    """

    def __init__(
        self,
        store: CountedWriter,
        *,
        max_queued_samples: int = 2_000_000,
        batch_samples: int = 200_000,
        flush_seconds: float = 2.0,
    ) -> None:
        self._store = store
        self._max_queued, self._batch_samples = max_queued_samples, batch_samples
        self._flush_seconds = flush_seconds
        self._changed = threading.Condition()
        self._queue: deque[_Entry] = deque()
        self._queued = 0
        self._taken = self._stored = self._awaited = 0  # blocks; awaited: those up to this one
        self._closed = False
        self._failures = 0
        self._loop = supervise.Loop(_NAME, self._step)
        telemetry.QUEUE_LIMIT_SAMPLES.set(max_queued_samples)

    def start(self) -> None:
        """Start the thread."""
        self._loop.start()

    def submit(
        self, block: SampleBlock, on_stored: Callable[[], None], timeout_seconds: float
    ) -> bool:
        """Hand *block* over; return False, and take nothing, if there is no room in time.

        *on_stored* is called in the writer's thread once the block is durable.
        """
        with self._changed:
            if not self._changed.wait_for(
                lambda: self._closed or self._fits(block), timeout_seconds
            ):
                return False
            if self._closed:
                return False
            self._queue.append(_Entry(block, on_stored, time.monotonic()))
            self._taken += 1
            self._count(len(block))
            self._changed.notify_all()
        return True

    def settle(self, timeout_seconds: float) -> bool:
        """Store what was submitted until now at once; return whether that was done in time."""
        with self._changed:
            last = self._awaited = self._taken
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._stored >= last, timeout_seconds)

    def stop(self, timeout_seconds: float = 30.0) -> bool:
        """Take nothing more, store what is queued and end; return whether all was stored."""
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if not self._loop.stop(timeout_seconds):
            return False
        try:
            while self._queue and time.monotonic() < deadline:
                self._store_batch(self._batch())
        except StoreError as error:
            _LOG.error("stopping with samples not stored", samples=self._queued, error=str(error))
        return not self._queue

    def _fits(self, block: SampleBlock) -> bool:
        return not self._queue or self._queued + len(block) <= self._max_queued

    def _step(self, stopping: threading.Event) -> None:
        """Wait until a batch is due and store it."""
        with self._changed:
            while not self._due():
                self._changed.wait(self._patience())
                if self._closed or stopping.is_set():
                    return
            batch = self._batch()
        try:
            self._store_batch(batch)
        except StoreError as error:
            self._failures += 1
            telemetry.WRITE_FAILURES.inc()
            pause = min(2.0 ** (self._failures - 1), _LONGEST_PAUSE_SECONDS)
            _LOG.error(
                "the store did not take a batch; it will be tried again",
                samples=self._queued,
                pause_seconds=pause,
                error=str(error),
            )
            stopping.wait(pause)

    def _due(self) -> bool:
        if not self._queue:
            return False
        full = self._queued >= self._batch_samples or self._stored < self._awaited
        return full or self._closed or self._patience() <= 0

    def _patience(self) -> float:
        """Return how long the oldest block may still wait, in seconds."""
        if not self._queue:
            return self._flush_seconds
        return self._queue[0].since + self._flush_seconds - time.monotonic()

    def _batch(self) -> list[_Entry]:
        """Return the oldest blocks, as many as fit one batch, at least one."""
        batch: list[_Entry] = []
        samples = 0
        for entry in self._queue:
            samples += len(entry.block)
            if batch and samples > self._batch_samples:
                break
            batch.append(entry)
        return batch

    def _store_batch(self, batch: list[_Entry]) -> None:
        block = SampleBlock.concat([entry.block for entry in batch])
        for start in range(0, len(block), self._batch_samples):
            rows = slice(start, start + self._batch_samples)
            self._write(SampleBlock(block.ids[rows], block.times[rows], block.values[rows]))
        self._failures = 0
        with self._changed:
            for _ in batch:
                self._queue.popleft()
            self._stored += len(batch)
            self._count(-len(block))
            self._changed.notify_all()
        for entry in batch:
            supervise.run(_NAME, entry.on_stored)

    def _write(self, block: SampleBlock) -> None:
        with telemetry.WRITE_SECONDS.time():
            report = self._store.write(block)
        telemetry.SAMPLES_WRITTEN.inc(report.inserted)
        telemetry.SAMPLES_LEFT_OUT.labels("duplicate").inc(report.duplicates)
        telemetry.SAMPLES_LEFT_OUT.labels("conflict").inc(report.conflicts)
        telemetry.SAMPLES_LEFT_OUT.labels("refused").inc(report.refused)
        telemetry.STORE_SERIES.set(self._store.series_count)

    def _count(self, samples: int) -> None:
        self._queued += samples
        telemetry.QUEUE_SAMPLES.set(self._queued)
