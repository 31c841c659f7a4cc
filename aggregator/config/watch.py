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
            _LOG.error("configuration is broken; the running one stays", error=str(error))
            return f"not reloaded: {error}"
        self._running, kept = _appliable(loaded.config, self._running)
        if kept:
            _LOG.warning("what changed here needs a restart and keeps its value", kept=kept)
        self._seen = self._signature(self._running)
        apply(self._running)
        _LOG.info("configuration reloaded", clusters=len(self._running.clusters))
        return f"reloaded; needs a restart: {', '.join(kept)}" if kept else "reloaded"

    def _signature(self, config: FleetConfig) -> Signature:
        files = [self._path, *included_files(self._path, list(config.include))]
        return tuple(_stat(file) for file in files)


def _appliable(new: FleetConfig, running: FleetConfig) -> tuple[FleetConfig, list[str]]:
    """Return *new* with the running values of what needs a restart, and what was kept so."""
    values = {block: getattr(running, block) for block in NEEDS_RESTART}
    kept = [block for block, value in values.items() if getattr(new, block) != value]
    profile = running.collect.profile
    if new.collect.profile != profile:
        kept.append("collect.profile")
    values["collect"] = new.collect.model_copy(update={"profile": profile})
    return new.model_copy(update=values), kept


def _stat(file: Path) -> tuple[str, int, int, int]:
    try:
        status = file.stat()
    except OSError:
        return str(file), 0, 0, 0
    return str(file), status.st_mtime_ns, status.st_size, status.st_ino
