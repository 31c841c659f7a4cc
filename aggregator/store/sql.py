"""The SQL of the embedded store. Values are parameters; only the number of ranges shapes text."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from aggregator.model.arrays import Ids

# few id ranges are the fastest condition; scattered ids go as one array
_MAX_RANGES = 16

WRITER_SETTINGS = (
    "set max_threads=1, max_insert_threads=1, max_partitions_per_insert_block=0, "
    "optimize_on_insert=0"
)
# The engine would use one thread, since `max_server_memory_usage` leaves less than 1 GiB for each,
# and would compress an answer that never leaves the process.
READER_SETTINGS = (
    "max_threads_min_free_memory_per_thread=0, output_format_arrow_compression_method='none', "
    "output_format_arrow_parallel_encoding=0, output_format_parallel_formatting=0, "
    "enable_time_series_aggregate_functions=1"
)
# `rows` is the Arrow table given to `Pool.insert`
INSERT_SAMPLES = (
    "insert into samples select id, fromUnixTimestamp64Milli(time, 'UTC'), value from Python(rows)"
)
INSERT_BLOCKS = "insert into blocks select number, metric, used from Python(rows)"
INSERT_SERIES = "insert into series select id, metric, names, vals from Python(rows)"
INSERT_DAYS = "insert into days select toDate(day), id from Python(rows)"
INSERT_FORGOTTEN = "insert into forgotten select id from Python(rows)"
INSERT_POSTINGS = "insert into postings select name, value, id from Python(rows)"

# ids that were given after the block's row was written show in the series
BLOCKS = (
    "select b.number as number, b.metric as metric, greatest(b.used, s.used) as used "
    "from (select number, metric, used from blocks final) as b left join ("
    "select bitShiftRight(id, 10) as number, toUInt16(max(bitAnd(id, 1023)) + 1) as used "
    "from series group by number) as s on b.number = s.number order by number"
)
SERIES = (
    "select id, metric, names, vals from series final "
    "where id between {first:UInt32} and {last:UInt32} order by id"
)
DAYS = (
    "select id, toInt64(min(day)) as first, toInt64(max(day)) as last from days group by id "
    "order by id"
)
LAST_SAMPLE = "select toUnixTimestamp64Milli(max(ts)) as last from samples"

_SAMPLES = (
    "select id, toUnixTimestamp64Milli(ts) as time, value from samples "
    "where ts > fromUnixTimestamp64Milli({start:Int64}, 'UTC') "
    "and ts <= fromUnixTimestamp64Milli({end:Int64}, 'UTC')"
)
_LIMIT = " limit {limit:UInt64}"

POSTED_NAMES = "select distinct name from postings"
POSTINGS = "select id from postings where name = {name:String} and match(value, {pattern:String})"
FILL_POSTINGS = (
    "insert into postings select name, value, id from series array join names as name, "
    "vals as value where name = {name:String} "
    "and id not in (select id from postings where name = {name:String})"
)

SIZES = (
    "select partition as day, toInt64(sum(bytes_on_disk)) as bytes from system.parts "
    "where active and database = currentDatabase() and table = {table:String} "
    "group by partition order by partition"
)
DROP_DAY = {
    "samples": "alter table samples drop partition {day:String}",
    "days": "alter table days drop partition {day:String}",
}
FORGET = (
    "alter table series delete where id in (select id from forgotten) settings mutations_sync=1",
    "alter table postings delete where id in (select id from forgotten) settings mutations_sync=1",
    "truncate table forgotten",
)
FORGOTTEN = "select count() from forgotten"


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL text and the values of its parameters, as text."""

    text: str
    parameters: Mapping[str, str]


def samples_of(ids: Ids, start_ms: int, end_ms: int, limit: int) -> Statement:
    """Select the samples in (start_ms, end_ms] of *ids* (ascending, not empty), in any order.

    The engine gives stretches of one series in order of time; to sort those takes a tenth of the
    time that the engine needs to sort rows.
    """
    condition, parameters = id_condition(ids)
    text = f"{_SAMPLES} and {condition}{_LIMIT}"
    window = {"start": str(start_ms), "end": str(end_ms), "limit": str(limit)}
    return Statement(text, parameters | window)


def escaped(value: str) -> str:
    """Return *value* as the text of a String parameter."""
    for character, written in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        value = value.replace(character, written)
    return value.replace("\0", "\\0")


def id_condition(ids: Ids) -> tuple[str, dict[str, str]]:
    """Return the condition that a row is of one of *ids* (ascending), and its parameters."""
    wide = ids.astype(np.int64)
    breaks = np.flatnonzero(np.diff(wide) > 1)
    if breaks.size >= _MAX_RANGES:
        parameters = {
            "first": str(wide[0]),
            "last": str(wide[-1]),
            "ids": str(wide.tolist()),
        }
        condition = "id between {first:UInt32} and {last:UInt32} and id in {ids:Array(UInt32)}"
        return condition, parameters
    firsts = wide[np.concatenate([[0], breaks + 1])].tolist()
    lasts = wide[np.concatenate([breaks, [wide.size - 1]])].tolist()
    ranges, parameters = [], {}
    for place, (first, last) in enumerate(zip(firsts, lasts, strict=True)):
        ranges.append(f"id between {{first{place}:UInt32}} and {{last{place}:UInt32}}")
        parameters |= {f"first{place}": str(first), f"last{place}": str(last)}
    return f"({' or '.join(ranges)})", parameters
