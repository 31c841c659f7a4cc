"""The SQL that computes functions of windows in the engine (its `timeSeries…ToGrid`)."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from aggregator.model.arrays import Ids, Ints
from aggregator.model.samples import STALE_BITS
from aggregator.store.interface import INSTANT, GridCall
from aggregator.store.sql import Statement, id_condition

# What the engine calls the functions of PromQL that it computes alike. Not among them are rate,
# increase and delta: it compares a gap at a window's edge with the mean spacing in milliseconds,
# PromQL in seconds, and where both are equal rounding decides, so that some values in a million
# are off by per cents. From samples they take the same time.
ENGINE_NAMES: Final[Mapping[str, str]] = {
    INSTANT: "Last",
    "avg_over_time": "Avg",
    "changes": "Changes",
    "count_over_time": "Count",
    "deriv": "Deriv",
    "idelta": "InstantDelta",
    "irate": "InstantRate",
    "last_over_time": "Last",
    "max_over_time": "Max",
    "min_over_time": "Min",
    "predict_linear": "PredictLinear",
    "resets": "Resets",
    "sum_over_time": "Sum",
    "ts_of_max_over_time": "TimestampOfMax",
    "ts_of_min_over_time": "TimestampOfMin",
}
FUNCTIONS = (
    "select extract(name, '^timeSeries(.*)ToGrid$') as function from system.functions "
    "where name like 'timeSeries%ToGrid'"
)
# They give a value back as it was, so that no size of it matters.
_CHOOSING = frozenset(
    {
        INSTANT,
        "changes",
        "count_over_time",
        "last_over_time",
        "max_over_time",
        "min_over_time",
        "resets",
        "ts_of_max_over_time",
        "ts_of_min_over_time",
    }
)
# The engine finds them in less time than it takes to hand out the samples; the others only where
# windows overlap much.
QUICK = frozenset(
    {
        INSTANT,
        "idelta",
        "irate",
        "last_over_time",
        "max_over_time",
        "min_over_time",
        "ts_of_max_over_time",
        "ts_of_min_over_time",
    }
)
_STALE = f"reinterpretAsUInt64(value) = {STALE_BITS}"
# Infinite, or so large that a sum may overflow: where PromQL takes another way than the engine.
_HUGE = "max(abs(value) > 1e300)"
# A NaN that replaced a stale marker may still be beside it in the table, and the engine, which
# takes the larger of two values of one time, cannot tell which of them counts.
_UNSETTLED = f"(max({_STALE}) and max(isNaN(value) and not {_STALE}))"
# A slope of next to nothing is what rounding leaves of one that is exactly 0 in PromQL.
_FLAT = (
    "arrayExists((slope, tallest) -> assumeNotNull(slope) != 0 "
    "and abs(assumeNotNull(slope)) * toFloat64({range:String}) < 1e-9 * tallest, cells, "
    "arrayWithConstant(length(cells), max(if(isNaN(value), 0, abs(value)))))"
)

_CELLS = """
select id, {cells} as cells, count() as taken, {odd} as odd from (
    select id, ts, value from samples
    where ts > fromUnixTimestamp64Milli({{after:Int64}}, 'UTC')
    and ts <= fromUnixTimestamp64Milli({{end:Int64}}, 'UTC') and {ids}{kept}
    limit {{limit:UInt64}}
) group by id
"""
_SUMS = """
select transform(id, {{grouped:Array(UInt32)}}, {{groups:Array(UInt32)}}, toUInt32(0)) as number,
    sumKahanForEach(cells) as totals, cast(countForEach(cells) as Array(Float64)) as counts,
    sum(taken) as taken, max(odd) as odd
from ({cells}) group by number
"""
_GRID = (
    "(fromUnixTimestamp64Milli({start:Int64}, 'UTC'), "
    "fromUnixTimestamp64Milli({end:Int64}, 'UTC'), "
    "toDecimal64({step:String}, 3), toDecimal64({range:String}, 3)"
)


def cells_of(call: GridCall, ids: Ids, limit: int) -> Statement:
    """Select id, cells, taken (samples) and odd (not to be trusted) of *ids* that have samples.

    If as many samples were taken as *limit*, some were left out.
    """
    return _cells(call, ids, limit, summed=False)


def sums_of(call: GridCall, ids: Ids, groups: Ints, limit: int) -> Statement:
    """Select number (of a group), totals, counts, taken and odd of the groups of *ids*."""
    inner = _cells(call, ids, limit, summed=True)
    parameters = {"grouped": str(ids.tolist()), "groups": str(groups.tolist())}
    return Statement(_SUMS.format(cells=inner.text), {**inner.parameters, **parameters})


def _cells(call: GridCall, ids: Ids, limit: int, *, summed: bool) -> Statement:
    condition, parameters = id_condition(ids)
    text = _CELLS.format(
        cells=_expression(call),
        odd=_doubt(call.function, summed=summed),
        ids=condition,
        kept="" if call.function == INSTANT else f" and not {_STALE}",
    )
    times = {
        "after": str(call.start_ms - call.range_ms),
        "start": str(call.start_ms),
        "end": str(call.end_ms),
        "step": _seconds(call.step_ms),
        "range": _seconds(call.range_ms),
        "limit": str(limit),
    }
    if call.function == "predict_linear":
        times["ahead"] = np.format_float_positional(call.parameter, trim="0")
    return Statement(text, {**parameters, **times})


def _expression(call: GridCall) -> str:
    name = ENGINE_NAMES[call.function]
    more = ", {ahead:Float64}" if call.function == "predict_linear" else ""
    value = "value + 0." if call.function == "changes" else "value"  # from -0 to 0 is no change
    cells = f"timeSeries{name}ToGrid{_GRID}{more})(ts, {value})"
    if call.function != INSTANT:
        return cells
    marked = f"reinterpretAsUInt64(assumeNotNull(cell)) = {STALE_BITS}"
    return f"arrayMap(cell -> if({marked}, null, cell), {cells})"


def _doubt(function: str, *, summed: bool) -> str:
    """Return the condition under which the engine's cells of a series are not PromQL's."""
    doubts = []
    if function == INSTANT:
        doubts.append(_UNSETTLED)
    if summed or function not in _CHOOSING:
        doubts.append(_HUGE)
    if function == "deriv":
        doubts.append(_FLAT)
    return " or ".join(doubts) or "0"


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds // 1000}.{milliseconds % 1000:03}"
