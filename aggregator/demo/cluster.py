"""One simulated cluster's Prometheus: scrapes made-up exporters into a memory store."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from aggregator.demo.exporters import signals
from aggregator.demo.scenario import Switch, load_switches, rollouts
from aggregator.demo.signals import Ensemble
from aggregator.demo.sites import Site
from aggregator.model.arrays import Bools, Ids, Ints
from aggregator.model.samples import STALE, SampleBlock
from aggregator.store.memory import MemoryStore

SCRAPE_MS = 15_000
HISTORY_MS = 2 * 3_600_000 + 20 * 60_000  # two hours, and what the oldest windows look back on
_KEEP_MS = 3 * 3_600_000
_AT_ONCE = 60  # scrapes computed and written together


class SimulatedCluster:
    """Samples of one site, up to date after every call of `advance`."""

    def __init__(self, site: Site, switches_file: Path, now: Callable[[], int]) -> None:
        self.store = MemoryStore()
        self._site, self._file, self._now = site, switches_file, now
        self._offset_ms = site.seed * 277 % SCRAPE_MS
        self._switches: tuple[Switch, ...] = ()
        self._load(load_switches(switches_file))
        self._scraped_ms = self._floor(now() - HISTORY_MS)

    def advance(self) -> None:
        """Scrape everything that is due, and take up new switches. Raises ConfigError."""
        newest = self._floor(self._now())
        while self._scraped_ms < newest:
            last = min(newest, self._scraped_ms + _AT_ONCE * SCRAPE_MS)
            self._scrape(np.arange(self._scraped_ms + SCRAPE_MS, last + 1, SCRAPE_MS))
            self._scraped_ms = last
        self.store.expire(newest - _KEEP_MS)
        switches = load_switches(self._file)
        if switches != self._switches:
            self._load(switches)

    def step(self, stopping: threading.Event) -> None:
        """Advance, then sleep until the next scrape is due."""
        self.advance()
        due = self._scraped_ms + SCRAPE_MS - self._now()
        stopping.wait(min(max(due, 50), 1_000) / 1000)

    def _load(self, switches: tuple[Switch, ...]) -> None:
        self._switches = switches
        found = signals(self._site, rollouts(switches))
        self._ensemble = Ensemble.build(found, switches, self._site.seed)
        self._ids: Ids = self.store.series_ids([signal.labels for signal in found])

    def _scrape(self, times: Ints) -> None:
        """Write every series at *times*; a series that ended since the last one becomes stale."""
        before = times[0] - SCRAPE_MS
        values, alive = self._ensemble.values(np.concatenate([[before], times]))
        ended = alive[:, :-1] & ~alive[:, 1:]
        values, alive = values[:, 1:], alive[:, 1:]
        values[ended] = STALE
        self._write(times, values, alive | ended)

    def _write(self, times: Ints, values: np.ndarray, written: Bools) -> None:
        rows, columns = np.nonzero(written)
        self.store.write(SampleBlock(self._ids[rows], times[columns], values[rows, columns]))

    def _floor(self, time_ms: int) -> int:
        return (time_ms - self._offset_ms) // SCRAPE_MS * SCRAPE_MS + self._offset_ms
