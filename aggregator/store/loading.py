"""Reads the label index back when a store opens."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aggregator.model.arrays import Codes, Ints
from aggregator.model.budget import Budget
from aggregator.store import sql
from aggregator.store.blocks import BLOCK_BITS, Block
from aggregator.store.columns import Column, numbers, texts
from aggregator.store.days import DAY_MS
from aggregator.store.index import LabelIndex
from aggregator.store.pool import Pool

_CHUNK_IDS = 1 << 16


def load_blocks(pool: Pool) -> list[Block]:
    """Return every block that was ever opened."""
    table = _read(pool, sql.BLOCKS)
    rows = zip(
        numbers(table.column("number")).tolist(),
        texts(table.column("metric")),
        numbers(table.column("used")).tolist(),
        strict=True,
    )
    return [Block(*row) for row in rows]


def load_series(pool: Pool, index: LabelIndex, blocks: list[Block]) -> None:
    """Put every stored series of *blocks* into *index*."""
    end = max((block.number + 1 for block in blocks), default=0) << BLOCK_BITS
    for first in range(0, end, _CHUNK_IDS):
        last = min(first + _CHUNK_IDS, end) - 1
        _load_chunk(_read(pool, sql.SERIES, first=str(first), last=str(last)), index)


def load_lifetimes(pool: Pool, index: LabelIndex) -> None:
    """Tell *index* when its series had samples, to the day."""
    newest = int(numbers(_read(pool, sql.LAST_SAMPLE).column("last"))[0])
    table = _read(pool, sql.DAYS)
    ids = numbers(table.column("id"))
    first = numbers(table.column("first")).astype(np.int64) * DAY_MS
    last = numbers(table.column("last")).astype(np.int64) * DAY_MS + DAY_MS - 1
    rows = index.catalog.lives.rows(ids)
    known = index.catalog.lives.are_known(rows)
    index.touch(rows[known], first[known], np.minimum(last[known], newest))


def _load_chunk(table: pa.Table, index: LabelIndex) -> None:
    """Take series, ordered by id, whose labels come as lists of names and of values."""
    ids = numbers(table.column("id"))
    if not ids.size:
        return
    metrics, metric_names = _encoded(table.column("metric"))
    names, label_names = _encoded(_flat(table.column("names")))
    values, label_values = _encoded(_flat(table.column("vals")))
    codes = index.intern(label_values)[values]
    counts = numbers(pc.list_value_length(table.column("names")).cast(pa.int64()))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    starts = np.flatnonzero(np.diff(metrics, prepend=-1)).tolist()
    for start, end in zip(starts, [*starts[1:], ids.size], strict=True):
        labels = slice(offsets[start], offsets[end])
        rows = np.repeat(np.arange(end - start), counts[start:end])
        columns: dict[str, Codes] = {}
        for name in np.unique(names[labels]).tolist():
            with_name = names[labels] == name
            column = columns[label_names[name]] = np.zeros(end - start, np.int32)
            column[rows[with_name]] = codes[labels][with_name]
        index.load(ids[start:end], metric_names[metrics[start]], columns)


def _flat(column: Column) -> Column:
    """Return the items of a column of lists."""
    return pa.chunked_array([pc.list_flatten(chunk) for chunk in column.chunks], pa.string())


def _encoded(column: Column) -> tuple[Ints, list[str]]:
    """Return a column of strings as codes and the different strings."""
    encoded: Any = column.combine_chunks().dictionary_encode()
    codes = numbers(pa.chunked_array([encoded.indices.cast(pa.int64())]))
    return codes, texts(encoded.dictionary)


def _read(pool: Pool, text: str, **parameters: str) -> pa.Table:
    return pool.read(sql.Statement(text, parameters), Budget())
