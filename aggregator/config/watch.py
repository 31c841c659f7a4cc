"""Notices that a configuration changed, reads it again, and keeps the old one if it is broken."""

from collections.abc import Callable
from pathlib import Path

import structlog

from aggregator.config.document import NEEDS_RESTART, FleetConfig
from aggregator.config.load import Loaded, included_files, load_config
from aggregator.errors import ConfigError

_LOG = structlog.get_logger(__name__)

Signature = tuple[tuple[str, int, int, int], ...]


class ConfigWatch:
    """The running configuration and what its files looked like when it was read."""

    def __init__(self, path: Path, loaded: Loaded) -> None:
        self._path = path
        self._running = loaded.config
        self._seen = self._signature(loaded.config)

    def changed(self) -> bool:
        """Tell whether a file changed, came or went since the last reading."""
        return self._signature(self._running) != self._seen

    def reload(self, apply: Callable[[FleetConfig], None]) -> str:
        """Read the files again and *apply* the result; return what happened, in words.

        A broken configuration is not applied. What only a restart can change keeps its running
        value, which is said.
        """
        self._seen = self._signature(self._running)
        try:
            loaded = load_config(self._path)
        except ConfigError as error:
            _LOG.error("configuration is broken; the running one stays", error=str(error))  # noqa: TRY400  the message says all
            return f"not reloaded: {error}"
        kept = [
            block
            for block in NEEDS_RESTART
            if getattr(loaded.config, block) != getattr(self._running, block)
        ]
        if kept:
            _LOG.warning("changed blocks need a restart and keep their values", blocks=kept)
        running = {block: getattr(self._running, block) for block in NEEDS_RESTART}
        self._running = loaded.config.model_copy(update=running)
        self._seen = self._signature(self._running)
        apply(self._running)
        _LOG.info("configuration reloaded", clusters=len(self._running.clusters))
        return f"reloaded; needs a restart: {', '.join(kept)}" if kept else "reloaded"

    def _signature(self, config: FleetConfig) -> Signature:
        files = [self._path, *included_files(self._path, list(config.include))]
        return tuple(_stat(file) for file in files)


def _stat(file: Path) -> tuple[str, int, int, int]:
    try:
        status = file.stat()
    except OSError:
        return str(file), 0, 0, 0
    return str(file), status.st_mtime_ns, status.st_size, status.st_ino
