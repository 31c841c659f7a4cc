"""One process at a time works in a store's directory."""

import fcntl
import os
from pathlib import Path

from aggregator.errors import StoreError


class DirectoryLock:
    """Holds `lock` in a directory until it is released or the process ends."""

    def __init__(self, directory: Path) -> None:
        """Create *directory* if needed and take its lock, or raise `StoreError`."""
        path = directory / "lock"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(
                f"cannot use the store's directory {directory}: {error.strerror}; "
                "make it a directory this user can write, or set store.path"
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._file, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._file)
            raise StoreError(
                f"the store's directory {directory} is in use by process {holder}; "
                "stop it, or give store.path another directory"
            ) from error
        os.ftruncate(self._file, 0)
        os.write(self._file, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Let another process in."""
        os.close(self._file)
