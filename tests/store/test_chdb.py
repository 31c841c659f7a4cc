"""The embedded store's directory: who may open it, what it keeps, how it shrinks."""

import subprocess
import sys

import pytest
from structlog.testing import capture_logs

from aggregator.errors import QueryTimeoutError, StoreError
from aggregator.model.budget import Budget
from aggregator.model.labels import METRIC_NAME, Matcher, MatchOp
from aggregator.store import catalog, expiry, postings
from aggregator.store.chdb import ChdbStore
from aggregator.store.lock import DirectoryLock
from aggregator.store.settings import Backend
from tests.store.conftest import opener
from tests.store.model import DAY_MS, labels, window, write

T0 = 20_000 * DAY_MS
ROOMY = 1 << 40
OPEN = (
    "import sys; from pathlib import Path; from aggregator.store.chdb import ChdbStore; "
    "ChdbStore(Path(sys.argv[1]), max_disk_bytes=1)"
)


def test_a_second_process_is_told_who_holds_the_directory(tmp_path):
    """The message names the path and the process."""
    with opener(Backend.CHDB)(tmp_path):
        child = subprocess.run(
            [sys.executable, "-c", OPEN, str(tmp_path)], capture_output=True, text=True, check=False
        )
    assert child.returncode == 1
    assert f"{tmp_path} is in use by process " in child.stderr
    assert "StoreError" in child.stderr


def test_the_lock_goes_with_its_holder(tmp_path):
    """What was locked can be locked again after release, and names a number."""
    lock = DirectoryLock(tmp_path)
    with pytest.raises(StoreError, match=r"in use by process \d+"):
        DirectoryLock(tmp_path)
    lock.release()
    DirectoryLock(tmp_path).release()


def test_an_unusable_directory_says_what_to_do(tmp_path):
    """A file where the directory should be is an error with the way out."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="make it a directory this user can write"):
        ChdbStore(tmp_path / "file" / "data", max_disk_bytes=ROOMY)


def test_a_damaged_directory_is_a_store_error_and_lets_the_lock_go(tmp_path):
    """The engine's own error is passed on in one of ours."""
    (tmp_path / "chdb").write_text("not a directory")
    with pytest.raises(StoreError, match="failed"):
        ChdbStore(tmp_path, max_disk_bytes=ROOMY)
    DirectoryLock(tmp_path).release()


def test_a_newer_version_of_the_tables_is_refused(tmp_path):
    """An older program must not write what it does not understand."""
    with opener(Backend.CHDB)(tmp_path) as store:
        store._pool.execute("insert into migrations values (99)", {})
    with pytest.raises(StoreError, match="version 99"):
        ChdbStore(tmp_path, max_disk_bytes=ROOMY)


def test_the_oldest_days_go_when_the_disk_limit_is_reached(tmp_path):
    """The newest day stays whatever it takes, and the log says what went."""
    store = ChdbStore(tmp_path, max_disk_bytes=1)
    rows = [(labels(name="up", day=str(day)), T0 + day * DAY_MS, 1.0) for day in range(3)]
    write(store, rows)
    with capture_logs() as logs:
        assert store.expire(0) == 2
    assert [entry["day"] for entry in logs] == ["2024-10-04", "2024-10-05"]
    assert set(window(store, 0, T0 + 9 * DAY_MS)) == {rows[2][0]}
    store.close()


def test_an_engine_too_busy_to_expire_is_a_store_error(chdb_store, monkeypatch):
    """Retention waits for its next turn then, as it does when the disk fails."""
    with monkeypatch.context() as patched:
        patched.setattr(expiry, "_LOOK_SECONDS", 0.0)
        with pytest.raises(StoreError, match="cannot look for old days"):
            chdb_store.expire(T0)
    assert chdb_store.expire(T0) == 0


def test_forgotten_series_leave_every_table(tmp_path):
    """Nothing of an expired series is left on disk but the block its id came from."""
    with opener(Backend.CHDB)(tmp_path) as store:
        write(store, [(labels(name="up", pod="a"), T0, 1.0)])
        write(store, [(labels(name="up", pod="b"), T0 + DAY_MS, 1.0)])
        store.expire(T0 + DAY_MS)
        counts = store._pool.execute(
            "select (select count() from samples), (select count() from series), "
            "(select count() from days), (select count() from forgotten)",
            {},
        )
    assert counts == b"1,1,1,0\n"


def test_an_id_is_not_given_again_after_expiry_and_reopening(tmp_path):
    """The block remembers ids whose series are gone."""
    with opener(Backend.CHDB)(tmp_path) as store:
        write(store, [(labels(name="up", pod="a"), T0 + DAY_MS, 1.0)])
        write(store, [(labels(name="up", pod="b"), T0, 1.0)])
        gone = int(store.series_ids([dict(labels(name="up", pod="b"))])[0])
        store.expire(T0 + DAY_MS)
    with opener(Backend.CHDB)(tmp_path) as store:
        assert int(store.series_ids([dict(labels(name="up", pod="b"))])[0]) > gone


def test_an_interrupted_expiry_is_completed_when_the_store_opens(tmp_path):
    """Series named in the table of forgotten ones go before the index is read."""
    with opener(Backend.CHDB)(tmp_path) as store:
        write(store, [(labels(name="up", pod="a"), T0, 1.0), (labels(name="up"), T0, 1.0)])
        ids = store.series_ids([dict(labels(name="up", pod="a"))])
        store._pool.execute("insert into forgotten values ({id:UInt32})", {"id": str(ids[0])})
    with opener(Backend.CHDB)(tmp_path) as store:
        assert store.series_count == 1


def test_lifetimes_are_known_to_the_day_after_reopening(tmp_path):
    """Also of the days between the first and the last, when the first ones went."""
    series = labels(name="up")
    with opener(Backend.CHDB)(tmp_path) as store:
        write(store, [(series, T0 + 4 * DAY_MS, 1.0)])
        write(store, [(series, T0, 1.0)])
        write(store, [(series, T0 + 2 * DAY_MS, 1.0)])
        store.expire(T0 + DAY_MS)
    with opener(Backend.CHDB)(tmp_path) as store:
        ever = store.label_names((), 0, T0 + 9 * DAY_MS, Budget())
        on_day_2 = store.label_names((), T0 + 2 * DAY_MS, T0 + 2 * DAY_MS, Budget())
        assert on_day_2 == ever == [METRIC_NAME]
        assert store.label_names((), 0, T0, Budget()) == []
        assert store.label_names((), T0 + 4 * DAY_MS + 1, T0 + 9 * DAY_MS, Budget()) == []


def test_times_that_no_day_can_hold_are_refused(chdb_store):
    """Before 1970 and after 2149 there are no partitions."""
    report = write(chdb_store, [(labels(name="up"), -1, 1.0), (labels(name="up"), 1 << 60, 1.0)])
    assert (report.inserted, report.refused) == (0, 2)


def test_postings_answer_like_the_columns(tmp_path, monkeypatch):
    """A label that grew wide is read from its table, also after reopening and a crash."""
    monkeypatch.setattr(postings, "WIDE_VALUES", 50)
    pattern = (Matcher("pod", MatchOp.REGEX, ".*7"),)
    rows = [(labels(name=f"m{k % 3}", pod=f"p-{k}", job="j"), T0, float(k)) for k in range(120)]
    expected = {series for series, _, value in rows if value % 10 == 7}
    with opener(Backend.CHDB)(tmp_path) as store:
        write(store, rows[:60])
        write(store, rows[60:])
        assert set(window(store, 0, T0, pattern)) == expected
        assert posted(store) == (120, ["pod"])
        store._pool.execute("alter table postings delete where id % 2 = 0", {})
    with opener(Backend.CHDB)(tmp_path) as store:
        assert set(window(store, 0, T0, pattern)) == expected
        assert posted(store) == (120, ["pod"])


def test_postings_are_read_within_the_budget_of_who_asks(tmp_path, monkeypatch):
    """What may not use the disk is refused; what may is known to have used it."""
    monkeypatch.setattr(postings, "WIDE_VALUES", 50)
    monkeypatch.setattr(catalog, "_FEW_VALUES", 50)
    monkeypatch.setattr(catalog, "_FEW_ROWS", 10)
    regex, ever = (Matcher("pod", MatchOp.REGEX, ".*7"),), (0, T0)
    with opener(Backend.CHDB)(tmp_path) as store:
        write(store, [(labels(name="m", pod=f"p-{k}"), T0, 0.0) for k in range(120)])
        reads = (
            lambda budget: store.cardinality(regex, 1, budget),
            lambda budget: store.label_names([regex], *ever, budget),
            lambda budget: store.label_values("pod", [regex], *ever, budget),
            lambda budget: store.select(regex, *ever, store.strings(), budget),
        )
        for read in reads:
            with pytest.raises(QueryTimeoutError, match="needs the disk"):
                read(Budget(may_use_disk=False))
        used = [Budget() for _ in reads]
        for read, budget in zip(reads, used, strict=True):
            read(budget)
        assert [budget.used_disk for budget in used] == [True, True, False, False]


def posted(store) -> tuple[int, list[str]]:
    """Return how many series the postings hold, and for which labels."""
    count = int(store._pool.execute("select uniqExact(id) from postings", {}))
    names = store._pool.execute("select distinct name from postings", {}).decode()
    return count, names.replace('"', "").split()
