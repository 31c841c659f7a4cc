"""Makes series durable: their blocks first, then postings, then the series themselves."""

import numpy as np
import pyarrow as pa

from aggregator.model.arrays import Ids, Ints
from aggregator.store import sql
from aggregator.store.blocks import Block
from aggregator.store.catalog import Located
from aggregator.store.columns import string_column, table
from aggregator.store.days import DAY_MS
from aggregator.store.index import LabelIndex
from aggregator.store.lifetimes import NEVER_LAST, Lifetimes
from aggregator.store.pool import Pool
from aggregator.store.postings import PostingsTable

_SERIES_A_BATCH = 50_000
_LONGEST_FILL_DAYS = 400


class SeriesRows:
    """Writes what the index gave out; called by the store's writer alone."""

    def __init__(self, pool: Pool, index: LabelIndex, postings: PostingsTable) -> None:
        self._pool, self._index, self._postings = pool, index, postings
        self._blocks: list[Block] = []
        self._ids: Ids = np.empty(0, np.uint32)

    def flush(self) -> None:
        """Write all blocks and series that are not durable yet; after an error, call again."""
        blocks, ids = self._index.drain()
        self._blocks += blocks
        self._ids = np.concatenate([self._ids, ids])
        if self._blocks:
            self.write_blocks(self._blocks)
            self._blocks = []
        while self._ids.size:
            located = self._index.catalog.located(self._ids[:_SERIES_A_BATCH])
            if located.parts:  # some may have been forgotten since
                self._postings.insert(located)
                self._pool.insert(sql.INSERT_SERIES, series_table(located))
            self._ids = self._ids[_SERIES_A_BATCH:]
            self._postings.widen(located, self._index.catalog.value_count)

    def write_blocks(self, blocks: list[Block]) -> None:
        """Write blocks with how many of their ids were given; the highest count stays."""
        rows = table(
            number=np.array([block.number for block in blocks], np.uint32),
            metric=[block.metric for block in blocks],
            used=np.array([block.used for block in blocks], np.uint16),
        )
        self._pool.insert(sql.INSERT_BLOCKS, rows)

    def write_days(self, rows: Ints, ids: Ids, first: Ints, last: Ints) -> None:
        """Write on which days *ids*, at *rows* of the lifetimes, have samples, if that is news."""
        lives = self._index.catalog.lives
        after_first_day = (int(first.min()) // DAY_MS + 1) * DAY_MS
        last_day = int(last.max()) // DAY_MS * DAY_MS
        news = (lives.first[rows] >= after_first_day) | (lives.last[rows] < last_day)
        if not news.any():
            return
        days, series = _new_days(lives, rows[news], ids[news], (first[news], last[news]))
        if series.size:
            self._pool.insert(sql.INSERT_DAYS, table(day=days.astype(np.uint16), id=series))


def series_table(located: Located) -> pa.Table:
    """Return series as rows: id, metric, and lists of label names and values."""
    tables = []
    for part in located.parts:
        codes = part.view.codes[:, part.rows].T
        present = codes != 0
        ends = np.cumsum(present.sum(axis=1))
        offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
        names = string_column(part.view.names, np.nonzero(present)[1])
        different, places = np.unique(codes[present], return_inverse=True)
        values = string_column(located.strings.texts(different), places)
        tables.append(
            table(
                id=part.ids,
                metric=[part.metric] * part.rows.size,
                names=pa.ListArray.from_arrays(offsets, names),
                vals=pa.ListArray.from_arrays(offsets, values),
            )
        )
    return pa.concat_tables(tables).combine_chunks()


def _new_days(lives: Lifetimes, rows: Ints, ids: Ids, spans: tuple[Ints, Ints]) -> tuple[Ints, Ids]:
    """Return the (day, id) pairs that the lifetimes do not cover yet.

    A series has a row for every day between its first and its last, so that the rows that are
    left when old days go still tell its first day; only a hole of over a year stays empty.
    """
    first, last = spans[0] // DAY_MS, spans[1] // DAY_MS
    fresh = lives.last[rows] == NEVER_LAST
    known_first = np.where(fresh, first, lives.first[rows] // DAY_MS)
    known_last = np.where(fresh, first - 1, lives.last[rows] // DAY_MS)
    until = np.where(known_first - first > _LONGEST_FILL_DAYS, first, known_first - 1)
    since = np.where(last - known_last > _LONGEST_FILL_DAYS, last, known_last + 1)
    low, high = np.concatenate([first, since]), np.concatenate([until, last])
    counts = np.maximum(high - low + 1, 0)
    starts = np.repeat(low - (np.cumsum(counts) - counts), counts)
    return starts + np.arange(starts.size), np.repeat(np.concatenate([ids, ids]), counts)
