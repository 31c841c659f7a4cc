"""The postings table: which series have a value, for labels with very many values.

A regex without a metric name on such a label costs a pass over every value in memory; the table,
sorted by name and value, answers it in milliseconds. Labels join it when they grow wide.
"""

from collections.abc import Callable

import numpy as np

from aggregator.model.arrays import Ids
from aggregator.model.budget import Budget
from aggregator.store import sql
from aggregator.store.catalog import Located
from aggregator.store.columns import numbers, string_column, table, texts
from aggregator.store.pool import Pool

WIDE_VALUES = 10_000


class PostingsTable:
    """Written by the store's writer, read by any thread; `written` changes when series came."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._wide: set[str] = set()
        self._series: dict[str, int] = {}
        self._look_at: dict[str, int] = {}
        self.written = 0

    def open(self) -> None:
        """Find the labels that are in the table, and complete what a crash left undone."""
        posted = self._pool.read(sql.Statement(sql.POSTED_NAMES, {}), Budget())
        for name in texts(posted.column("name")):
            self._fill(name)

    def insert(self, located: Located) -> None:
        """Take series that are about to be stored."""
        for name in self._wide:
            parts = [part for part in located.parts if name in part.view.names]
            if not parts:
                continue
            codes = np.concatenate([part.codes(name) for part in parts])
            ids = np.concatenate([part.ids for part in parts])
            different, places = np.unique(codes[codes != 0], return_inverse=True)
            values = string_column(located.strings.texts(different), places)
            names = string_column([name], np.zeros(places.size, np.int8))
            rows = table(name=names, value=values, id=ids[codes != 0])
            self._pool.insert(sql.INSERT_POSTINGS, rows)
            self.written += 1

    def widen(self, located: Located, value_count: Callable[[str], int]) -> None:
        """Look whether series that were stored made a label wide."""
        for part in located.parts:
            for name in part.view.names:
                self._series[name] = self._series.get(name, 0) + part.rows.size
        for name, count in self._series.items():
            # looking costs a pass over the label's columns, so look when they have doubled
            if name in self._wide or count < self._look_at.get(name, WIDE_VALUES):
                continue
            self._look_at[name] = 2 * count
            if value_count(name) > WIDE_VALUES:
                self._fill(name)

    def ids(self, name: str, pattern: str, budget: Budget) -> Ids | None:
        """Return the series whose label *name* matches *pattern*, None for a label not wide."""
        if name not in self._wide:
            return None
        parameters = {"name": sql.escaped(name), "pattern": sql.escaped(pattern)}
        found = self._pool.read(sql.Statement(sql.POSTINGS, parameters), budget)
        return np.unique(numbers(found.column("id")))

    def _fill(self, name: str) -> None:
        self._pool.execute(sql.FILL_POSTINGS, {"name": sql.escaped(name)})
        self._wide.add(name)
