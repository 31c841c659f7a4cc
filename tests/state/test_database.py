"""The state file: durability settings, migrations, errors."""

import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from aggregator.errors import StoreError
from aggregator.state.database import open_database
from aggregator.state.migrations import MIGRATIONS

DAMAGED = (
    r"state\.db: the file is damaged; .* restore it .* move it away .*: watermarks, gaps, "
    "alert states and unsent notifications are lost then, samples are not"
)


def test_durability(tmp_path: Path):
    """Every connection writes ahead and syncs each commit."""
    database = open_database(tmp_path / "state.db")
    with database.transaction() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 2
    database.close()


def test_migrations_are_numbered():
    """Migrations count from 1 without a hole, so the file's version says what was done."""
    assert [migration.number for migration in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))


def test_reopening_migrates_once(tmp_path: Path):
    """Opening a migrated file changes nothing."""
    open_database(tmp_path / "state.db").close()
    database = open_database(tmp_path / "state.db")
    with database.transaction() as connection:
        assert connection.execute(text("PRAGMA user_version")).scalar_one() == len(MIGRATIONS)
    database.close()


def test_newer_file_is_refused(tmp_path: Path):
    """A file of a newer version is refused with what to do."""
    path = tmp_path / "state.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(StoreError, match="newer version"):
        open_database(path)


def test_not_a_database(tmp_path: Path):
    """A file that is no database says so, what can be done, and what that costs."""
    path = tmp_path / "state.db"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match=DAMAGED):
        open_database(path)


def test_damaged_pages(tmp_path: Path):
    """Damage that shows only when a table is read is named the same way."""
    path = tmp_path / "state.db"
    open_database(path).close()
    content = path.read_bytes()
    page = int.from_bytes(content[16:18], "big")
    path.write_bytes(content[:page] + b"\xff" * (len(content) - page))
    database = open_database(path)
    with pytest.raises(StoreError, match=DAMAGED), database.transaction() as connection:
        connection.execute(text("SELECT * FROM watermarks")).all()
    database.close()


def test_no_rights(tmp_path: Path):
    """What is not damage is not called damage."""
    (tmp_path / "state.db").mkdir()
    with pytest.raises(StoreError, match="check the disk and the file's rights"):
        open_database(tmp_path / "state.db")


def test_failed_transaction_leaves_nothing(tmp_path: Path):
    """What a failed transaction wrote is not there."""
    database = open_database(tmp_path / "state.db")
    insert = text("INSERT INTO watermarks VALUES ('a', 'raw:up', 1, NULL, NULL)")

    def write_twice() -> None:
        with database.transaction() as connection:
            connection.execute(insert)
            connection.execute(insert)

    with pytest.raises(StoreError, match="IntegrityError"):
        write_twice()
    with database.transaction() as connection:
        assert connection.execute(text("SELECT count(*) FROM watermarks")).scalar_one() == 0
    database.close()


def test_writers_wait_for_each_other(tmp_path: Path):
    """Transactions of several threads queue up instead of failing."""
    database = open_database(tmp_path / "state.db")

    def write(number: int) -> None:
        for step in range(10):
            with database.transaction() as connection:
                connection.execute(
                    text("INSERT INTO watermarks VALUES (:c, :s, 1, NULL, NULL)"),
                    {"c": str(number), "s": str(step)},
                )

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with database.transaction() as connection:
        assert connection.execute(text("SELECT count(*) FROM watermarks")).scalar_one() == 60
    database.close()
