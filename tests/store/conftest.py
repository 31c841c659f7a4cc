"""Both backends, opened on a fresh directory; the embedded engine serves one at a time.

A head of 0 ms holds only the newest sample of a series, so that reads go to what is below it.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aggregator.store.chdb import ChdbStore
from aggregator.store.head import SPAN_MS
from aggregator.store.interface import Store
from aggregator.store.memory import MemoryStore
from aggregator.store.pages import LIMIT_BYTES
from aggregator.store.settings import Backend

HEADS = (SPAN_MS, 0)
Opener = Callable[[Path], contextlib.AbstractContextManager[Store]]


def opener(backend: Backend, head_ms: int = SPAN_MS, pages_bytes: int = 0) -> Opener:
    """Return what opens a store of *backend* in a directory and closes it."""

    @contextlib.contextmanager
    def opened(directory: Path) -> Iterator[Store]:
        store: Store
        if backend is Backend.CHDB:
            store = ChdbStore(
                directory, max_disk_bytes=1 << 40, head_ms=head_ms, pages_bytes=pages_bytes
            )
        else:
            store = MemoryStore(head_ms=head_ms)
        try:
            yield store
        finally:
            store.close()

    return opened


@pytest.fixture(params=HEADS, ids=["head", "bare"])
def head_ms(request) -> int:
    """Return how much the head holds: ten minutes, or one sample."""
    return request.param


@pytest.fixture(params=list(Backend), ids=lambda backend: backend.value)
def open_backend(request, head_ms) -> Opener:
    """Return the opener of each backend in turn, with and without memory to read from."""
    return opener(request.param, head_ms, LIMIT_BYTES if head_ms else 0)


@pytest.fixture
def store(open_backend, tmp_path) -> Iterator[Store]:
    """Return an empty store of each backend in turn."""
    with open_backend(tmp_path) as opened:
        yield opened


@pytest.fixture
def chdb_store(tmp_path) -> Iterator[Store]:
    """Return an empty embedded store."""
    with opener(Backend.CHDB)(tmp_path) as opened:
        yield opened
