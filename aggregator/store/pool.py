"""Connections to the embedded engine: one that writes, and fresh ones that may only read.

A query that fails while it runs leaves its connection *poisoned*: the next answer on it is in the
wrong format. So the writing connection is replaced after any error, and a reading one serves one
statement; opening one takes 0.2 ms. The process must not fork while the engine is open.
"""

import itertools
import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import chdb.state
import numpy as np
import pyarrow as pa
import structlog

from aggregator.errors import (
    AggregatorError,
    QueryExecutionError,
    QueryTimeoutError,
    StoreError,
)
from aggregator.model.budget import Budget
from aggregator.store.sql import READER_SETTINGS, WRITER_SETTINGS, Statement

_LOG = structlog.get_logger(__name__)
_SERVER_MEMORY_BYTES = 1 << 30
_OPTIONS = (
    f"?max_server_memory_usage={_SERVER_MEMORY_BYTES}&mark_cache_size={64 << 20}"
    f"&primary_index_cache_size={64 << 20}"
)
CORES = os.cpu_count() or 1
_TIMED_OUT, _OUT_OF_MEMORY, _CANCELLED, _NO_SPACE = 159, 241, 394, 243


class Pool:
    """The engine on one directory; every method may be called from any thread."""

    def __init__(self, directory: Path, readers: int = CORES + 2) -> None:
        self._directory = directory
        self._dsn = f"{directory.resolve()}{_OPTIONS}"
        self._writing = threading.Lock()
        self._free = threading.BoundedSemaphore(readers)
        self._tokens = itertools.count(1)
        self._writer = self._connect_writer()

    def execute(self, text: str, parameters: Mapping[str, str]) -> bytes:
        """Run a statement of ours on the writing connection and return its answer as CSV."""
        with self._writing:
            try:
                answer: bytes = self._writer.query(text, "CSV", parameters).bytes()
            except (RuntimeError, chdb.ChdbError) as error:
                self._replace_writer()
                raise self._store_error(error) from error
        return answer

    def insert(self, text: str, rows: pa.Table) -> None:  # noqa: ARG002  Python(rows) finds it
        """Run an insert that selects from `Python(rows)`; on return its rows are durable."""
        self.execute(text, {})

    def read(self, statement: Statement, budget: Budget, threads: int = CORES) -> pa.Table:
        """Run a query within *budget* on a connection that may only read, on so many *threads*.

        Raises `QueryTimeoutError` (also when cancelled) and `QueryExecutionError` when the
        budget is spent.
        """
        budget.use_disk()
        if not self._free.acquire(timeout=budget.remaining_seconds):
            raise QueryTimeoutError(
                "query waited too long for others to end; try again, or ask for less"
            )
        try:
            return self._read(statement, budget, threads)
        finally:
            self._free.release()

    def close(self) -> None:
        """Close the engine; nothing may run on it any more."""
        with self._writing:
            self._writer.close()

    def _read(self, statement: Statement, budget: Budget, threads: int) -> pa.Table:
        token = f"/* query {next(self._tokens)} */"
        connection = self._connect()
        forget = budget.on_cancel(lambda: self._kill(token))
        try:
            connection.query(
                f"set {READER_SETTINGS}, max_threads={threads}, "
                f"max_memory_usage={budget.max_bytes}, "
                f"max_execution_time={max(budget.remaining_seconds, 0.001):.3f}, readonly=1"
            )
            result = connection.query(
                f"{token} {statement.text}", "Arrow", dict(statement.parameters)
            )
            return _arrow_table(result)
        except (RuntimeError, chdb.ChdbError) as error:
            budget.check()
            raise self._query_error(error) from error
        finally:
            forget()
            connection.close()

    def _kill(self, token: str) -> None:
        """Stop the query that starts with *token*; if that fails its deadline ends it."""
        try:
            connection = self._connect()
        except StoreError as error:
            _LOG.warning("a cancelled query runs on to its deadline", error=str(error))
            return
        try:
            connection.query(
                "kill query where startsWith(query, {token:String}) async", params={"token": token}
            )
        except chdb.ChdbError as error:
            _LOG.warning("a cancelled query runs on to its deadline", error=str(error))
        finally:
            connection.close()

    def _connect(self) -> "chdb.state.sqlitelike.Connection":
        try:
            return chdb.state.connect(self._dsn)
        except RuntimeError as error:
            raise self._store_error(error) from error

    def _replace_writer(self) -> None:
        """Open a new writing connection before the old one goes: the last one ends the engine."""
        old = self._writer
        self._writer = self._connect_writer()
        old.close()

    def _connect_writer(self) -> "chdb.state.sqlitelike.Connection":
        connection = self._connect()
        connection.query(WRITER_SETTINGS)
        return connection

    def _query_error(self, error: Exception) -> AggregatorError:
        code = _code(error)
        if code in (_TIMED_OUT, _CANCELLED):
            return QueryTimeoutError("query timed out; shorten the range or select fewer series")
        if code == _OUT_OF_MEMORY:
            return QueryExecutionError(
                "query needs more memory than it may use; shorten the range or select fewer series"
            )
        return self._store_error(error)

    def _store_error(self, error: Exception) -> StoreError:
        if _code(error) == _NO_SPACE or "No space left on device" in str(error):
            return StoreError(
                f"no space left in {self._directory}: free some, or lower store.max_disk "
                "or store.retention"
            )
        return StoreError(f"the store in {self._directory} failed: {str(error)[:500]}")


def _arrow_table(result: Any) -> pa.Table:  # noqa: ANN401  the engine gives it no name
    """Return an answer as a table that refers to the engine's memory, and keeps it."""
    memory = result.get_memview()
    view = np.frombuffer(memory.view(), np.uint8)
    # a buffer made from the view alone would be left with freed memory
    buffer = pa.foreign_buffer(view.ctypes.data, view.size, base=memory)
    return pa.ipc.open_file(buffer).read_all()


def _code(error: Exception) -> int:
    """Return the engine's number of an error, 0 if it gives none."""
    match = re.search(r"Code: (\d+)", str(error))
    return int(match[1]) if match else 0
