"""One SQLite file of operational state, opened through numbered migrations."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from aggregator.errors import StoreError
from aggregator.state.migrations import MIGRATIONS, Migration

_BUSY_MS = 10_000
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@dataclass(frozen=True, slots=True)
class Database:
    """The open file; repositories of this package take it and keep their own tables."""

    engine: Engine
    path: Path

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Run a transaction that is durable when the block ends. Raises `StoreError`."""
        try:
            with self.engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StoreError(f"{self.path}: {_advice(error)}") from error

    def close(self) -> None:
        """Close every connection; nothing may use the database afterwards."""
        self.engine.dispose()


def open_database(path: Path) -> Database:
    """Open the state at *path*, creating and migrating it as needed.

    Raises `StoreError` if the file cannot be used or was written by a newer version.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{path.parent}: {error.strerror}") from error
    engine = create_engine(f"sqlite:///{path}", poolclass=QueuePool, pool_size=4, max_overflow=8)
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    database = Database(engine, path)
    try:
        _migrate(database, MIGRATIONS)
    except StoreError:
        engine.dispose()
        raise
    return database


def _advice(error: SQLAlchemyError) -> str:
    """Return what is wrong and what to do about it."""
    cause = error.orig if isinstance(error, DBAPIError) else None
    if isinstance(cause, sqlite3.Error) and _primary_code(cause) in _DAMAGED:
        return (
            "the file is damaged; stop the aggregator and restore it from a backup, or move it "
            "away with its -wal and -shm files to start without it: watermarks, gaps, alert states "
            "and unsent notifications are lost then, samples are not"
        )
    return f"{type(error).__name__}: check the disk and the file's rights"


def _primary_code(error: sqlite3.Error) -> int:
    """Return SQLite's number of an error without its details, 0 if the driver raised it."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def _configure(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    """Make every commit durable, and leave BEGIN to us: the driver would start DML lazily."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={_BUSY_MS}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    """Take the write lock at once, so that two transactions wait instead of failing midway."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _migrate(database: Database, migrations: tuple[Migration, ...]) -> None:
    with database.transaction() as connection:
        done = int(connection.execute(text("PRAGMA user_version")).scalar_one())
        newest = migrations[-1].number
        if done > newest:
            raise StoreError(
                f"{database.path}: written by a newer version (state {done}, this one knows "
                f"{newest}); run that version or restore a backup"
            )
        for migration in migrations:
            if migration.number > done:
                for statement in migration.statements:
                    connection.exec_driver_sql(statement)
        connection.exec_driver_sql(f"PRAGMA user_version = {newest:d}")
