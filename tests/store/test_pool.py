"""Connections: what a reader may do, what an error leaves behind, how a query ends early."""

import contextlib
import threading
import time

import pytest

from aggregator.errors import QueryExecutionError, QueryTimeoutError, StoreError
from aggregator.model.budget import Budget
from aggregator.store.columns import numbers
from aggregator.store.pool import Pool
from aggregator.store.sql import Statement

ENDLESS = "select count() as n from numbers(1000000000000) where sipHash64(number) = 3"
WAIT_SECONDS = 30.0


@pytest.fixture
def pool(tmp_path):
    """Return a pool on an empty directory."""
    opened = Pool(tmp_path / "chdb")
    yield opened
    opened.close()


def answer(pool, text="select toUInt32(42) as n") -> list[int]:
    """Return the column n of a query."""
    return numbers(pool.read(Statement(text, {}), Budget()).column("n")).tolist()


@pytest.mark.parametrize(
    "text",
    [
        "select * from url('http://127.0.0.1:1/', 'CSV', 'a Int32')",
        "select * from file('/etc/passwd', 'LineAsString', 'line String')",
        "select * from remote('127.0.0.1:1', 'system', 'one')",
        "select * from s3('http://127.0.0.1:1/bucket/key', 'CSV', 'a Int32')",
        "select * from executable('id', 'CSV', 'a String')",
        "create table t (a Int32) engine = Memory",
        "insert into function file('/tmp/x.csv', 'CSV', 'a Int32') select 1",
        "select 1 settings readonly = 0",
        "set max_memory_usage = 0",
    ],
)
def test_a_reader_may_only_read_tables(pool, text):
    """Table functions that reach out, writes and changes of settings are refused."""
    with pytest.raises(StoreError, match="readonly mode"):
        pool.read(Statement(text, {}), Budget())


@pytest.mark.parametrize(
    "failing",
    [
        "select throwIf(number > 100) as n from numbers(1000)",
        "select nothing as n",
        "this is not SQL",
    ],
)
def test_an_error_does_not_spoil_the_next_answer(pool, failing):
    """Neither for readers nor for the writer, who would answer in the wrong format."""
    for _ in range(3):
        with pytest.raises(StoreError):
            pool.read(Statement(failing, {}), Budget())
        assert answer(pool) == [42]
        with pytest.raises(StoreError):
            pool.execute(failing, {})
        assert pool.execute("select 42", {}) == b"42\n"


def test_a_query_ends_at_its_deadline(pool):
    """The engine stops it."""
    with pytest.raises(QueryTimeoutError, match=r"timed out after 0\.3 s"):
        pool.read(Statement(ENDLESS, {}), Budget(timeout_seconds=0.3))
    assert answer(pool) == [42]


def test_a_query_ends_at_its_memory_limit(pool):
    """The process lives, and the message says what to do."""
    text = "select length(groupArray(number)) as n from numbers(100000000)"
    with pytest.raises(QueryExecutionError, match="more memory than it may use"):
        pool.read(Statement(text, {}), Budget(max_bytes=50 << 20))
    assert answer(pool) == [42]


def test_cancelling_stops_a_running_query(pool):
    """Another thread cancels; the reader raises with the reason, long before the deadline."""
    budget, raised = Budget(timeout_seconds=600), []

    def reading() -> None:
        try:
            pool.read(Statement(ENDLESS, {}), budget)
        except QueryTimeoutError as error:
            raised.append(str(error))

    reader = threading.Thread(target=reading)
    reader.start()
    running = "select count() as n from system.processes where query like '%numbers(100000%'"
    deadline = time.monotonic() + WAIT_SECONDS
    while answer(pool, f"{running} and query not like '%processes%'") != [1]:
        assert time.monotonic() < deadline
    budget.cancel("the client went away")
    reader.join(WAIT_SECONDS)
    assert raised == ["query was cancelled: the client went away"]
    assert answer(pool) == [42]


def test_waiting_for_a_connection_counts_as_query_time(tmp_path):
    """With every connection busy a query gives up at its deadline."""
    pool = Pool(tmp_path / "chdb", readers=1)
    busy = Budget(timeout_seconds=600)

    def reading() -> None:
        with contextlib.suppress(QueryTimeoutError):
            pool.read(Statement(ENDLESS, {}), busy)

    reader = threading.Thread(target=reading)
    reader.start()
    deadline = time.monotonic() + WAIT_SECONDS
    while pool.execute("select count() from system.processes", {}) != b"2\n":
        assert time.monotonic() < deadline
    with pytest.raises(QueryTimeoutError, match="waited too long"):
        pool.read(Statement("select 1", {}), Budget(timeout_seconds=0.1))
    busy.cancel("done")
    reader.join(WAIT_SECONDS)
    pool.close()
