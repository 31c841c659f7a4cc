"""The embedded backend: chDB's columns on disk, label index and newest samples in memory."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from aggregator import telemetry
from aggregator.errors import QueryError, StoreError
from aggregator.model.arrays import Bools, Ids, Ints
from aggregator.model.budget import Budget
from aggregator.model.samples import SampleBlock, SeriesSamples
from aggregator.store import sql
from aggregator.store.columns import sample_table, table
from aggregator.store.conflicts import (
    Verdict,
    Verdicts,
    compared,
    merged_rows,
    series_bounds,
    settled,
)
from aggregator.store.days import END_MS
from aggregator.store.expiry import drop_days
from aggregator.store.grid import Grid
from aggregator.store.head import SPAN_MS, Head
from aggregator.store.index import LabelIndex
from aggregator.store.indexed import IndexedStore
from aggregator.store.interface import (
    GridCall,
    GridCells,
    GridSamples,
    GridSums,
    WriteReport,
)
from aggregator.store.loading import load_blocks, load_lifetimes, load_series
from aggregator.store.lock import DirectoryLock
from aggregator.store.migrations import migrate
from aggregator.store.pages import LIMIT_BYTES, Pages
from aggregator.store.pool import Pool
from aggregator.store.postings import PostingsTable
from aggregator.store.process import release_memory
from aggregator.store.reading import SampleReader, Spacing
from aggregator.store.rings import Run
from aggregator.store.seriesrows import SeriesRows
from aggregator.store.stretches import as_block, joined
from aggregator.store.warming import Warming

_READ = telemetry.LEAF_READS.labels("raw")


class ChdbStore(IndexedStore):
    """One directory, one process. Reads never wait for the writer."""

    def __init__(
        self,
        path: Path,
        *,
        max_disk_bytes: int,
        head_ms: int = SPAN_MS,
        pages_bytes: int = LIMIT_BYTES,
    ) -> None:
        """Open the store in *path*, or raise `StoreError`."""
        self._max_disk_bytes, self._cutoff_ms = max_disk_bytes, 0
        self._writing = threading.Lock()
        with contextlib.ExitStack() as opened:
            held = DirectoryLock(path)
            opened.callback(held.release)
            self._pool = Pool(path / "chdb")
            opened.callback(self._pool.close)
            migrate(self._pool.execute)
            self._delete_forgotten()  # what a crash left undone
            blocks, postings = load_blocks(self._pool), PostingsTable(self._pool)
            postings.open()
            super().__init__(LabelIndex(blocks, postings), Head(head_ms))
            self._series = SeriesRows(self._pool, self._index, postings)
            load_series(self._pool, self._index, blocks)
            load_lifetimes(self._pool, self._index)
            self._open_samples(pages_bytes)
            self._opened = opened.pop_all()

    def _open_samples(self, pages_bytes: int) -> None:
        """Get ready to read samples; the index knows the series and when they lived."""
        spacing, lives = Spacing(), self._lives()
        self._samples = SampleReader(self._pool, spacing, self._lives)
        self._grid = Grid(self._pool, spacing, self._lives)
        self._head.grow(lives.rows_used)
        rows = np.flatnonzero(lives.known[: lives.rows_used])
        self._head.load(rows, lives.last[rows])
        newest_ms = int(lives.last[rows].max(initial=0))
        self._pages = Pages(self._samples, spacing, newest_ms, pages_bytes)
        self._warming = Warming(
            self._samples, self._index, self._head, self._writing, newest_ms - self._head.span_ms
        )

    def close(self) -> None:
        """Release files, locks and connections."""
        self._opened.close()

    # -- reading

    def _stored(
        self, ids: Ids, start_ms: int, end_ms: int, budget: Budget
    ) -> Iterator[SeriesSamples]:
        """Yield samples of *ids*, run after run; see `IndexedStore`."""
        paged = self._paged(ids, start_ms, end_ms, budget)
        if paged is not None:
            yield paged
            return
        for run in self._samples.runs(ids, start_ms, end_ms, budget):
            _READ.inc()
            yield run

    def _paged(self, ids: Ids, start_ms: int, end_ms: int, budget: Budget) -> SeriesSamples | None:
        """Return the samples from pages and head, None if they do not have them all."""
        until_ms = min(end_ms, self._pages.settled_ms)
        if until_ms <= start_ms or not self._pages.suits(ids, start_ms, until_ms):
            return None
        newer: tuple[Run, ...] = ()
        if until_ms < end_ms:
            held = self._head.all_of(self._lives, ids, until_ms, end_ms)
            if held is None:
                return None
            newer = (held,)
        settled = self._pages.read(ids, start_ms, until_ms, budget)
        if settled is None:
            return None
        samples = joined([*settled, *newer], ids.size)
        budget.spend_samples(samples.times.size)
        return samples

    def warm(self, stopping: threading.Event) -> None:
        """Bring the newest minutes from the disk into memory; reads and writes go on meanwhile."""
        self._warming.fill(stopping)

    def computes(self, call: GridCall) -> bool:
        """Tell whether the engine can compute *call*, and it is worth it."""
        return self._grid.computes(call)

    def cells(self, call: GridCall, ids: Ids, budget: Budget) -> Iterator[GridCells | GridSamples]:
        """Yield what *call* gives for *ids*, run after run; see `GridReader`."""
        start_ms, end_ms = call.start_ms - call.range_ms, call.end_ms
        paged = self._paged(ids, start_ms, end_ms, budget)
        if paged is not None:  # numpy is faster on them than the engine, which has to read them
            yield GridSamples(np.arange(ids.size), paged)
            return

        def samples(wanted: Ids) -> Iterator[SeriesSamples]:
            return self.read(wanted, start_ms, end_ms, budget)

        yield from self._grid.cells(call, ids, budget, samples)

    def sums(
        self, call: GridCall, ids: Ids, groups: Ints, budget: Budget
    ) -> Iterator[GridSums | None]:
        """Yield sums of what *call* gives for *ids* over *groups*, run after run."""
        if self._pages.suits(ids, call.start_ms - call.range_ms, call.end_ms):
            return iter((None,))
        return self._grid.sums(call, ids, groups, budget)

    # -- writing

    def write(self, block: SampleBlock) -> WriteReport:
        """Store *block* durably; writing twice is once."""
        block, duplicates, conflicts = settled(block)
        with self._writing:
            lives = self._index.catalog.lives
            self._head.grow(lives.rows_used)
            rows = lives.rows(block.ids)
            storable = (block.times >= self._cutoff_ms) & (block.times < END_MS)
            storable &= lives.are_known(rows)
            refused = len(block) - int(storable.sum())
            if refused:
                block, rows = block.take(storable), rows[storable]
            verdicts = self._head.judge(rows, block)
            unsure = np.flatnonzero(verdicts == Verdict.UNSURE)
            if unsure.size:
                try:
                    verdicts[unsure] = self._judged_by_disk(block.take(unsure))
                except QueryError as error:
                    raise StoreError(f"cannot compare late samples: {error}") from error
            counts = np.bincount(verdicts, minlength=len(Verdict))
            stays = (verdicts == Verdict.NEW) | (verdicts == Verdict.REPLACES)
            if not stays.all():
                block, rows, verdicts = block.take(stays), rows[stays], verdicts[stays]
            if len(block):
                self._store(block, rows, verdicts == Verdict.REPLACES)
        return WriteReport(
            len(block),
            duplicates + int(counts[Verdict.DUPLICATE]),
            conflicts + int(counts[Verdict.CONFLICT]),
            refused,
        )

    def _store(self, block: SampleBlock, rows: Ints, replacing: Bools) -> None:
        """Make sorted samples without conflicts durable, then known to the pages and the head."""
        starts, ends = series_bounds(block)
        ids, series_rows = block.ids[starts], rows[starts]
        first, last = block.times[starts], block.times[ends]
        self._series.flush()
        self._series.write_days(series_rows, ids, first, last)
        self._index.touch(series_rows, first, last)  # who reads the table looks no further
        self._pool.insert(sql.INSERT_SAMPLES, sample_table(block))
        self._pages.wrote(block)
        self._head.absorb(rows, block, replacing)

    def _judged_by_disk(self, block: SampleBlock) -> Verdicts:
        """Compare samples that are older than the head with what is stored of their window."""
        verdicts = np.full(len(block), Verdict.NEW, np.int8)
        ids, start, end = np.unique(block.ids), block.times.min() - 1, block.times.max()
        budget = Budget(max_samples=1 << 62)
        for run in self._samples.runs(ids, int(start), int(end), budget):
            stored = as_block(ids, run)
            wanted = ids[run.first_row : run.first_row + run.count]
            low = int(np.searchsorted(block.ids, wanted[0]))
            high = int(np.searchsorted(block.ids, wanted[-1], side="right"))
            part = block.take(np.arange(low, high))
            old, new = merged_rows(stored, part)
            verdicts[low + new] = compared(part.values[new], stored.values[old])
        return verdicts

    # -- retention

    def expire(self, before_ms: int) -> int:
        """Drop whole days that end before *before_ms*, and more if the disk limit asks for it.

        Returns how many series without a sample since were forgotten with them. Raises
        `StoreError`.
        """
        with self._writing:
            try:
                kept_from_ms = drop_days(self._pool, before_ms, self._max_disk_bytes)
            except QueryError as error:
                raise StoreError(f"cannot look for old days: {error}") from error
            self._cutoff_ms = max(self._cutoff_ms, kept_from_ms)
            self._head.keep_from(self._cutoff_ms)
            self._pages.clear()
            blocks = self._index.partial_blocks()
            forgotten = self._index.forget(self._cutoff_ms)
            if not forgotten.ids.size:
                return 0
            self._generation += 1
            self._head.compact(forgotten.kept, self._index.catalog.lives.epoch)
            # the blocks' rows remember what ids were given when the series' rows are gone
            self._series.write_blocks(blocks)
            self._pool.insert(sql.INSERT_FORGOTTEN, table(id=forgotten.ids))
            self._delete_forgotten()
            release_memory()
            return int(forgotten.ids.size)

    def _delete_forgotten(self) -> None:
        """Delete the series that the table `forgotten` names."""
        if int(self._pool.execute(sql.FORGOTTEN, {})):
            for statement in sql.FORGET:
                self._pool.execute(statement, {})
