"""Both backends, opened on a fresh directory; the embedded engine serves one at a time."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aggregator.store.interface import Store
from aggregator.store.open import open_store
from aggregator.store.settings import Backend, StoreSettings

Opener = Callable[[Path], contextlib.AbstractContextManager[Store]]


def opener(backend: Backend) -> Opener:
    """Return what opens a store of *backend* in a directory and closes it."""

    @contextlib.contextmanager
    def opened(directory: Path) -> Iterator[Store]:
        store = open_store(StoreSettings(path=directory, backend=backend))
        try:
            yield store
        finally:
            store.close()

    return opened


@pytest.fixture(params=list(Backend), ids=lambda backend: backend.value)
def open_backend(request) -> Opener:
    """Return the opener of each backend in turn."""
    return opener(request.param)


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
