"""Opens the store that the settings name."""

from aggregator.store.interface import Store
from aggregator.store.memory import MemoryStore
from aggregator.store.settings import Backend, StoreSettings


def open_store(settings: StoreSettings) -> Store:
    """Open the store, or raise `StoreError` that says what to do."""
    match settings.backend:
        case Backend.MEMORY:
            return MemoryStore()
        case Backend.CHDB:
            # the engine takes 200 MB as soon as it is imported
            from aggregator.store.chdb import ChdbStore  # noqa: PLC0415  see above

            return ChdbStore(settings.path, max_disk_bytes=settings.max_disk)
