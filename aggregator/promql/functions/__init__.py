"""The PromQL functions; `FUNCTIONS` lists them all."""

from typing import Final

from aggregator.promql.functions import rate
from aggregator.promql.functions.function import Call, Function, ValueType

__all__ = ["FUNCTIONS", "Call", "Function", "ValueType"]

_RANGE = (ValueType.RANGE,)

FUNCTIONS: Final[dict[str, Function]] = {
    function.name: function
    for function in (
        Function("changes", _RANGE, kernel=rate.changes),
        Function("delta", _RANGE, kernel=rate.delta),
        Function("idelta", _RANGE, kernel=rate.idelta),
        Function("increase", _RANGE, kernel=rate.increase, counter=True),
        Function("irate", _RANGE, kernel=rate.irate),
        Function("rate", _RANGE, kernel=rate.rate, counter=True),
        Function("resets", _RANGE, kernel=rate.resets),
    )
}
