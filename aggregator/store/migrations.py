"""The tables of the embedded store, as numbered steps that are applied once each.

A step that was interrupted runs again, so its statements must bear it.
"""

from collections.abc import Callable, Mapping

from aggregator.errors import StoreError

_DURABLE = "settings fsync_after_insert=1, fsync_part_directory=1"

# The sort key keeps the newest hours of all series together, for instant queries, and a series'
# samples of four hours in one place, for ranges.
_STEPS: tuple[tuple[str, ...], ...] = (
    (
        f"""create table if not exists samples (
            id UInt32 codec(Delta, ZSTD(1)),
            ts DateTime64(3, 'UTC') codec(DoubleDelta, ZSTD(1)),
            value Float64 codec(Gorilla, ZSTD(1))
        ) engine = ReplacingMergeTree partition by toDate(ts, 'UTC')
        order by (toStartOfInterval(ts, interval 4 hour, 'UTC'), id, ts) {_DURABLE}""",
        f"""create table if not exists blocks (
            number UInt32, metric String, used UInt16
        ) engine = ReplacingMergeTree(used) order by number {_DURABLE}""",
        f"""create table if not exists series (
            id UInt32 codec(Delta, ZSTD(1)),
            metric LowCardinality(String),
            names Array(LowCardinality(String)),
            vals Array(String) codec(ZSTD(1))
        ) engine = ReplacingMergeTree order by id {_DURABLE}""",
        f"""create table if not exists days (
            day Date, id UInt32 codec(Delta, ZSTD(1))
        ) engine = ReplacingMergeTree partition by day order by id {_DURABLE}""",
        f"""create table if not exists postings (
            name LowCardinality(String),
            value String codec(ZSTD(1)),
            id UInt32 codec(Delta, ZSTD(1))
        ) engine = ReplacingMergeTree order by (name, value, id) {_DURABLE}""",
        f"""create table if not exists forgotten (
            id UInt32
        ) engine = MergeTree order by id {_DURABLE}""",
    ),
    # Read in two thirds of the time, and smaller where times have jitter. What is stored already
    # is written anew whenever parts are merged.
    ("alter table samples modify column ts DateTime64(3, 'UTC') codec(Delta, ZSTD(1))",),
)
_VERSIONS = f"""create table if not exists migrations (
    version UInt32
) engine = MergeTree order by version {_DURABLE}"""


def migrate(execute: Callable[[str, Mapping[str, str]], bytes]) -> None:
    """Bring the tables to this program's version; *execute* runs SQL and returns CSV.

    Raises `StoreError` if a newer program wrote them.
    """
    execute(_VERSIONS, {})
    version = int(execute("select max(version) from migrations", {}))
    if version > len(_STEPS):
        raise StoreError(
            f"the store's tables have version {version}, this program knows {len(_STEPS)}; "
            "start the newer program or give store.path another directory"
        )
    for number, step in enumerate(_STEPS[version:], start=version + 1):
        for statement in step:
            execute(statement, {})
        execute("insert into migrations select {version:UInt32}", {"version": str(number)})
