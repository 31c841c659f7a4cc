"""Notices that a configuration changed, reads it again, and keeps the old one if it is broken."""

from collections.abc import Callable
from pathlib import Path

import structlog

from aggregator.config.document import NEEDS_RESTART, FleetConfig
from aggregator.config.load import Loaded, included_files, load_config
from aggregator.errors import ConfigError
from aggregator.profile.load import BUNDLED

_LOG = structlog.get_logger(__name__)

Look = tuple[str, int, int, int]
Signature = tuple[Look, ...]


class ConfigWatch:
    """The running configuration and what its files looked like when it was read.

    Rule files and profiles are watched too, to say that they changed: only a start reads them.
    """

    def __init__(self, path: Path, loaded: Loaded) -> None:
        self._path = path
        self._running = loaded.config
        self._at_start = {file: _look(file) for file in _read_at_start(loaded.config, path.parent)}
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
        kept += self._changed_since_start()
        if kept:
            _LOG.warning("what changed here needs a restart and keeps its value", kept=kept)
        self._seen = self._signature(self._running)
        apply(self._running)
        _LOG.info("configuration reloaded", clusters=len(self._running.clusters))
        return f"reloaded; needs a restart: {', '.join(kept)}" if kept else "reloaded"

    def _signature(self, config: FleetConfig) -> Signature:
        files = [self._path, *included_files(self._path, list(config.include))]
        return tuple(_look(file) for file in [*files, *self._files_of_start()])

    def _changed_since_start(self) -> list[str]:
        """Return the rule files and profiles that changed, came or went since the start."""
        files = self._files_of_start()
        return [str(file) for file in files if _look(file) != self._at_start.get(file)]

    def _files_of_start(self) -> list[Path]:
        """Return the files that the start read, and those that a start would read now."""
        return list(
            dict.fromkeys([*self._at_start, *_read_at_start(self._running, self._path.parent)])
        )


def _appliable(new: FleetConfig, running: FleetConfig) -> tuple[FleetConfig, list[str]]:
    """Return *new* with the running values of what needs a restart, and what was kept so."""
    values = {block: getattr(running, block) for block in NEEDS_RESTART}
    kept = [block for block, value in values.items() if getattr(new, block) != value]
    profile = running.collect.profile
    if new.collect.profile != profile:
        kept.append("collect.profile")
    values["collect"] = new.collect.model_copy(update={"profile": profile})
    return new.model_copy(update=values), kept


def _read_at_start(config: FleetConfig, base: Path) -> list[Path]:
    """Return the rule files and profiles of *config*, whose paths are relative to *base*."""
    try:
        rules = config.rules.paths(base)
    except ConfigError:  # a file went; it is known from the start, or the start says so
        rules = ()
    names = config.collect.profile
    profiles = (names,) if isinstance(names, str) else names
    return [*rules, *(base / name for name in profiles if name not in BUNDLED)]


def _look(file: Path) -> Look:
    """Return what changes when *file* does."""
    try:
        status = file.stat()
    except OSError:
        return str(file), 0, 0, 0
    return str(file), status.st_mtime_ns, status.st_size, status.st_ino
