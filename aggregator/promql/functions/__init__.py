"""The PromQL functions; `FUNCTIONS` lists them all. They compute, and read nothing."""

from typing import Final

import numpy as np

from aggregator.promql.functions import (
    dates,
    elementwise,
    histogram,
    label,
    order,
    over_time,
    quantile,
    rate,
    regression,
    vector,
)
from aggregator.promql.functions.elementwise import each
from aggregator.promql.functions.function import Call, Function, ValueType

__all__ = ["FUNCTIONS", "Call", "Function", "ValueType"]

_SCALAR, _VECTOR = ValueType.SCALAR, ValueType.VECTOR
_RANGE, _STRING = ValueType.RANGE, ValueType.STRING

_TABLE: Final[tuple[Function, ...]] = (
    # Range vectors: differences
    Function("changes", (_RANGE,), kernel=rate.changes),
    Function("delta", (_RANGE,), kernel=rate.delta),
    Function("deriv", (_RANGE,), kernel=regression.deriv),
    Function("idelta", (_RANGE,), kernel=rate.idelta),
    Function("increase", (_RANGE,), kernel=rate.increase, counter=True),
    Function("irate", (_RANGE,), kernel=rate.irate),
    Function(
        "predict_linear",
        (_RANGE, _SCALAR),
        kernel=regression.predict_linear,
        step_dependent=True,
    ),
    Function("rate", (_RANGE,), kernel=rate.rate, counter=True),
    Function("resets", (_RANGE,), kernel=rate.resets),
    Function(
        "double_exponential_smoothing",
        (_RANGE, _SCALAR, _SCALAR),
        kernel=regression.double_exponential_smoothing,
        check=regression.check_factors,
        experimental=True,
    ),
    Function(  # the name it had in Prometheus 2, still used by dashboards
        "holt_winters",
        (_RANGE, _SCALAR, _SCALAR),
        kernel=regression.double_exponential_smoothing,
        check=regression.check_factors,
    ),
    # Range vectors: aggregation over time
    Function("absent_over_time", (_RANGE,), kernel=over_time.present_over_time, run=vector.absent),
    Function("avg_over_time", (_RANGE,), kernel=over_time.avg_over_time),
    Function("count_over_time", (_RANGE,), kernel=over_time.count_over_time),
    Function(
        "first_over_time",
        (_RANGE,),
        kernel=over_time.first_over_time,
        keeps_name=True,
        experimental=True,
    ),
    Function("last_over_time", (_RANGE,), kernel=over_time.last_over_time, keeps_name=True),
    Function("mad_over_time", (_RANGE,), kernel=quantile.mad_over_time, experimental=True),
    Function("max_over_time", (_RANGE,), kernel=over_time.max_over_time),
    Function("min_over_time", (_RANGE,), kernel=over_time.min_over_time),
    Function("present_over_time", (_RANGE,), kernel=over_time.present_over_time),
    Function(
        "quantile_over_time",
        (_SCALAR, _RANGE),
        kernel=quantile.quantile_over_time,
        check=quantile.check_quantile,
    ),
    Function("stddev_over_time", (_RANGE,), kernel=over_time.stddev_over_time),
    Function("stdvar_over_time", (_RANGE,), kernel=over_time.stdvar_over_time),
    Function("sum_over_time", (_RANGE,), kernel=over_time.sum_over_time),
    Function(
        "ts_of_first_over_time",
        (_RANGE,),
        kernel=over_time.ts_of_first_over_time,
        experimental=True,
    ),
    Function(
        "ts_of_last_over_time", (_RANGE,), kernel=over_time.ts_of_last_over_time, experimental=True
    ),
    Function(
        "ts_of_max_over_time", (_RANGE,), kernel=over_time.ts_of_max_over_time, experimental=True
    ),
    Function(
        "ts_of_min_over_time", (_RANGE,), kernel=over_time.ts_of_min_over_time, experimental=True
    ),
    # One value at a time
    Function("abs", (_VECTOR,), run=each(np.abs)),
    Function("acos", (_VECTOR,), run=each(np.arccos)),
    Function("acosh", (_VECTOR,), run=each(np.arccosh)),
    Function("asin", (_VECTOR,), run=each(np.arcsin)),
    Function("asinh", (_VECTOR,), run=each(np.arcsinh)),
    Function("atan", (_VECTOR,), run=each(np.arctan)),
    Function("atanh", (_VECTOR,), run=each(np.arctanh)),
    Function("ceil", (_VECTOR,), run=each(np.ceil)),
    Function("clamp", (_VECTOR, _SCALAR, _SCALAR), run=elementwise.clamp),
    Function("clamp_max", (_VECTOR, _SCALAR), run=elementwise.clamp_max),
    Function("clamp_min", (_VECTOR, _SCALAR), run=elementwise.clamp_min),
    Function("cos", (_VECTOR,), run=each(np.cos)),
    Function("cosh", (_VECTOR,), run=each(np.cosh)),
    Function("deg", (_VECTOR,), run=each(elementwise.deg)),
    Function("exp", (_VECTOR,), run=each(np.exp)),
    Function("floor", (_VECTOR,), run=each(np.floor)),
    Function("ln", (_VECTOR,), run=each(np.log)),
    Function("log10", (_VECTOR,), run=each(np.log10)),
    Function("log2", (_VECTOR,), run=each(np.log2)),
    Function("rad", (_VECTOR,), run=each(elementwise.rad)),
    Function("round", (_VECTOR, _SCALAR), run=elementwise.round_to, optional=1),
    Function("sgn", (_VECTOR,), run=each(elementwise.sgn)),
    Function("sin", (_VECTOR,), run=each(np.sin)),
    Function("sinh", (_VECTOR,), run=each(np.sinh)),
    Function("sqrt", (_VECTOR,), run=each(np.sqrt)),
    Function("tan", (_VECTOR,), run=each(np.tan)),
    Function("tanh", (_VECTOR,), run=each(np.tanh)),
    # Dates
    Function(
        "day_of_month",
        (_VECTOR,),
        run=dates.part(dates.day_of_month),
        optional=1,
        step_dependent=True,
    ),
    Function(
        "day_of_week",
        (_VECTOR,),
        run=dates.part(dates.day_of_week),
        optional=1,
        step_dependent=True,
    ),
    Function(
        "day_of_year",
        (_VECTOR,),
        run=dates.part(dates.day_of_year),
        optional=1,
        step_dependent=True,
    ),
    Function(
        "days_in_month",
        (_VECTOR,),
        run=dates.part(dates.days_in_month),
        optional=1,
        step_dependent=True,
    ),
    Function("hour", (_VECTOR,), run=dates.part(dates.hour), optional=1, step_dependent=True),
    Function("minute", (_VECTOR,), run=dates.part(dates.minute), optional=1, step_dependent=True),
    Function("month", (_VECTOR,), run=dates.part(dates.month), optional=1, step_dependent=True),
    Function("year", (_VECTOR,), run=dates.part(dates.year), optional=1, step_dependent=True),
    # Labels and order
    Function(
        "label_join", (_VECTOR, _STRING, _STRING, _STRING), run=label.label_join, variadic=True
    ),
    Function(
        "label_replace", (_VECTOR, _STRING, _STRING, _STRING, _STRING), run=label.label_replace
    ),
    Function("sort", (_VECTOR,), run=order.sort),
    Function(
        "sort_by_label",
        (_VECTOR, _STRING),
        run=order.sort_by_label,
        variadic=True,
        experimental=True,
    ),
    Function(
        "sort_by_label_desc",
        (_VECTOR, _STRING),
        run=order.sort_by_label_desc,
        variadic=True,
        experimental=True,
    ),
    Function("sort_desc", (_VECTOR,), run=order.sort_desc),
    # Histograms
    Function("histogram_avg", (_VECTOR,), run=histogram.nothing),
    Function("histogram_count", (_VECTOR,), run=histogram.nothing),
    Function("histogram_fraction", (_SCALAR, _SCALAR, _VECTOR), run=histogram.histogram_fraction),
    Function("histogram_quantile", (_SCALAR, _VECTOR), run=histogram.histogram_quantile),
    Function(
        "histogram_quantiles",
        (_VECTOR, _STRING, *(_SCALAR,) * histogram.MAX_QUANTILES),
        run=histogram.histogram_quantiles,
        optional=histogram.MAX_QUANTILES - 1,
        experimental=True,
    ),
    Function("histogram_stddev", (_VECTOR,), run=histogram.nothing),
    Function("histogram_stdvar", (_VECTOR,), run=histogram.nothing),
    Function("histogram_sum", (_VECTOR,), run=histogram.nothing),
    # Between types
    Function("absent", (_VECTOR,), run=vector.absent),
    Function(  # reads info series, so the evaluator itself computes it
        "info", (_VECTOR, _VECTOR), optional=1, experimental=True
    ),
    Function("end", (), run=vector.end, returns=_SCALAR, experimental=True),
    Function("max_of", (_SCALAR, _SCALAR), run=vector.max_of, returns=_SCALAR, experimental=True),
    Function("min_of", (_SCALAR, _SCALAR), run=vector.min_of, returns=_SCALAR, experimental=True),
    Function("pi", (), run=vector.pi, returns=_SCALAR),
    Function("range", (), run=vector.query_range, returns=_SCALAR, experimental=True),
    Function("scalar", (_VECTOR,), run=vector.scalar, returns=_SCALAR),
    Function("start", (), run=vector.start, returns=_SCALAR, experimental=True),
    Function("step", (), run=vector.step, returns=_SCALAR, experimental=True),
    Function("time", (), run=vector.time, returns=_SCALAR, step_dependent=True),
    Function("timestamp", (_VECTOR,), run=vector.timestamp, step_dependent=True),
    Function("vector", (_SCALAR,), run=vector.vector),
)

FUNCTIONS: Final[dict[str, Function]] = {function.name: function for function in _TABLE}
