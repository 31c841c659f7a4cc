"""Watermarks, gaps and bindings: what they keep, also over a restart."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, event

from aggregator.errors import StoreError
from aggregator.state.bindings import Binding, Bindings, Standing
from aggregator.state.database import Database, open_database
from aggregator.state.gaps import Gaps
from aggregator.state.migrations import MIGRATIONS
from aggregator.state.watermarks import Watermark, Watermarks


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Return an empty state file."""
    opened = open_database(tmp_path / "state.db")
    yield opened
    opened.close()


def test_watermark_keeps_first_and_newest(database: Database):
    """A watermark never goes back, its first data never forward."""
    marks = Watermarks(database)
    marks.advance("a", 2_000, with_data=["fleet:cpu"])
    marks.advance("a", 1_000, with_data=["fleet:cpu"])
    marks.advance("a", 3_000, with_data=[], without=["fleet:cpu"])
    assert marks.get("a", "fleet:cpu") == Watermark(3_000, 2_000, 1_000)


def test_watermarks_of_the_future_are_capped(database: Database):
    """After the clock was set back no watermark lies in the future, in memory or in the file."""
    marks = Watermarks(database)
    marks.advance("a", 1_000, with_data=["raw:up"])
    marks.advance("a", 9_000, with_data=["raw:up", "fleet:cpu"], without=["fleet:disk"])
    marks.advance("b", 2_000, with_data=["raw:up"])
    assert marks.cap(5_000) == ["a"]
    assert marks.cap(5_000) == []
    marks.flush()
    for kept in (marks, Watermarks(database)):
        assert kept.of("a") == {
            "raw:up": Watermark(5_000, 5_000, 1_000),
            "fleet:cpu": Watermark(5_000, 5_000, 5_000),
            "fleet:disk": Watermark(5_000),
        }
        assert kept.of("b") == {"raw:up": Watermark(2_000, 2_000, 2_000)}


def test_answer_without_data(database: Database):
    """A subject that answered without data has no data_until."""
    marks = Watermarks(database)
    marks.advance("a", 2_000, with_data=[], without=["raw:up"])
    assert marks.get("a", "raw:up") == Watermark(2_000)


def test_watermarks_survive_once_flushed(database: Database):
    """What was flushed is there for the next process; what was not is asked for again."""
    marks = Watermarks(database)
    marks.advance("a", 1_000, with_data=["raw:up"])
    assert marks.flush() == 1
    marks.advance("a", 2_000, with_data=["raw:up"])
    assert Watermarks(database).get("a", "raw:up") == Watermark(1_000, 1_000, 1_000)
    assert marks.flush() == 1
    assert marks.flush() == 0
    assert Watermarks(database).of("a") == {"raw:up": Watermark(2_000, 2_000, 1_000)}


def test_failed_flush_keeps_the_changes(tmp_path: Path):
    """A flush that fails is made up by the next one."""
    database = open_database(tmp_path / "state.db")
    marks = Watermarks(database)
    marks.advance("a", 1_000, with_data=["raw:up"])
    with database.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE watermarks RENAME TO away")
    with pytest.raises(StoreError):
        marks.flush()
    with database.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO watermarks")
    assert marks.flush() == 1
    database.close()


def test_forgotten_cluster(database: Database):
    """A cluster that left the registry leaves nothing behind."""
    marks, gaps, bindings = Watermarks(database), Gaps(database), Bindings(database)
    for cluster in ("a", "b"):
        marks.advance(cluster, 1_000, with_data=["raw:up"])
        gaps.record(cluster, [("raw:up", 0, 1_000)], "down", 2_000)
        bindings.save(cluster, [Binding("fleet:x", ("one",), "exact", "", 1)])
    marks.flush()
    marks.forget("a")
    gaps.forget(cluster="a")
    bindings.forget("a")
    for reopened in (Watermarks(database), marks):
        assert set(reopened.of("a")) == set()
        assert set(reopened.of("b")) == {"raw:up"}
    for ledger in (Gaps(database), gaps):
        assert (len(ledger.open("a")), len(ledger.open("b"))) == (0, 1)
    for kept in (Bindings(database), bindings):
        assert (set(kept.of("a")), set(kept.of("b"))) == (set(), {"fleet:x"})


def test_gap_grows(database: Database):
    """What continues an open gap makes it longer; another reason makes a gap of its own."""
    gaps = Gaps(database)
    gaps.record("a", [("raw:up", 0, 1_000)], "down", 1)
    gaps.record("a", [("raw:up", 1_000, 2_000)], "down", 2)
    gaps.record("a", [("raw:up", 2_000, 3_000)], "unreachable", 3)
    spans = [(gap.start_ms, gap.end_ms, gap.reason) for gap in Gaps(database).open("a")]
    assert spans == [(0, 2_000, "down"), (2_000, 3_000, "unreachable")]
    assert gaps.open("a") == Gaps(database).open("a")


@pytest.mark.parametrize(
    ("window", "left"),
    [
        ((0, 100), [(10, 20), (30, 60)]),  # nothing of it
        ((5, 60), []),
        ((30, 40), [(40, 60)]),
        ((50, 90), [(30, 50)]),
        ((40, 50), [(30, 40), (50, 60)]),
    ],
)
def test_filling_a_gap(database: Database, window: tuple[int, int], left: list[tuple[int, int]]):
    """Only what was stored is closed; the rest of a gap stays open."""
    gaps = Gaps(database)
    gaps.record("a", [("raw:up", 30, 60)], "down", 1)
    if window == (0, 100):
        gaps.record("a", [("raw:up", 10, 20)], "down", 1)
        window = (60, 100)
    gaps.fill("a", ["raw:up"], window, "stored 3 samples", 100)
    gaps.fill("a", ["fleet:cpu"], (0, 100), "another subject", 100)
    for ledger in (gaps, Gaps(database)):
        assert [(gap.start_ms, gap.end_ms) for gap in ledger.open("a")] == left
    closed = [gap for gap in gaps.listed("a", 0, 100) if gap.closed_ms is not None]
    lost = sum(end - start for start, end in left if start >= 30)
    assert sum(gap.end_ms - gap.start_ms for gap in closed) == 30 - lost
    assert all(gap.evidence == "stored 3 samples" for gap in closed)


def test_retention_forgets_gaps(database: Database):
    """Gaps that retention has passed are dropped, open or not."""
    gaps = Gaps(database)
    gaps.record("a", [("raw:up", 0, 1_000), ("raw:up", 2_000, 3_000)], "down", 1)
    gaps.forget(before_ms=1_500)
    for ledger in (gaps, Gaps(database)):
        assert [gap.start_ms for gap in ledger.open("a")] == [2_000]


def test_bindings_of_an_earlier_version(tmp_path: Path):
    """Bindings that an earlier version kept serve on; those without a candidate never had data."""
    file = sqlite3.connect(tmp_path / "state.db")
    for migration in MIGRATIONS[:2]:
        for statement in migration.statements:
            file.execute(statement)
    file.execute("INSERT INTO bindings VALUES ('a', 'fleet:x', 'one two', 'exact', '', 7)")
    file.execute("INSERT INTO bindings VALUES ('a', 'fleet:y', '', '', 'no data', 7)")
    file.execute("PRAGMA user_version = 2")
    file.commit()
    file.close()
    database = open_database(tmp_path / "state.db")
    kept = Bindings(database).of("a")
    database.close()
    assert kept["fleet:x"] == Binding("fleet:x", ("one", "two"), "exact", "", 7, since_ms=7)
    assert kept["fleet:y"].standing is Standing.NEVER


def test_what_became_of_a_binding(database: Database):
    """Standing, time and what served before are kept."""
    binding = Binding("fleet:x", ("b",), "close", "", 9, Standing.BOUND, 8, ("a", "c"))
    Bindings(database).save("a", [binding])
    assert Bindings(database).of("a")["fleet:x"] == binding


def test_bindings_are_replaced(database: Database):
    """A new binding of a metric takes the place of the old one."""
    bindings = Bindings(database)
    bindings.save("a", [Binding("fleet:x", ("one", "two"), "exact", "", 1)])
    bindings.save("a", [Binding("fleet:x", (), "", "no candidate has data", 2)])
    assert bindings.of("a") == Bindings(database).of("a")
    assert bindings.of("a")["fleet:x"] == Binding("fleet:x", (), "", "no candidate has data", 2)


def test_open_gaps_are_told_while_the_file_is_written(database: Database):
    """Queries ask for them on the event loop, which must not wait for the disk."""
    gaps, told = Gaps(database), []
    gaps.record("a", [("raw:up", 1_000, 2_000)], "outage", 5_000)
    before = gaps.open("a")
    with ThreadPoolExecutor(1) as other:

        def ask(_: Connection) -> None:
            told.append(other.submit(gaps.open, "a").result(timeout=5))

        event.listen(database.engine, "begin", ask)
        gaps.record("a", [("raw:up", 7_000, 8_000)], "outage", 9_000)
        gaps.fill("a", ["raw:up"], (1_000, 8_000), "stored", 9_000)
        gaps.forget(cluster="a")
    assert [len(each) for each in told] == [1, 2, 0]
    assert told[0] == before
