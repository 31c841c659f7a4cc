"""Random PromQL queries that mean the same in Prometheus 2.42 and 3, as Hypothesis strategies.

Elements of every generated vector are unique by job and inst, so that matching gives no errors.
Not generated is
- what changed in between: metric names after an operation (2.42 keeps them with atan2), the
  deviation of a single infinity, quantiles of buckets summed from floats, dates of NaN;
- what 2.42 does wrongly: `predict_linear` with `@` (answered at the first step only), `@` inside
  `[:] @` inside `[:] @` (reads another time);
- what is not determined: ties of topk, sines of numbers so large that the last bit decides.
"""

from dataclasses import dataclass

from hypothesis import strategies as st

GAUGES = ("gauge", "sparse", "counter_total", "wild")
RANGES = ("20s", "1m", "95s", "5m", "15m")
MODIFIERS = (
    "", "", "", "", " offset 1m", " offset -40s", " @ 1700001000", " @ end()",
    " @ start() offset 30s",
)  # fmt: skip
TIMES = st.sampled_from([15, 30, 37, 60, 300])


@dataclass(frozen=True)
class Query:
    """A query and the times to ask for; an instant query has one step."""

    text: str
    start_ms: int
    step_ms: int
    count: int


def scalars():
    """Return scalar expressions."""
    literal = st.sampled_from(["0", "1", "-2.5", "0.3", "1e3", "Inf", "-Inf", "NaN", "time()"])
    of_vector = st.sampled_from(["scalar(sum(gauge))", "scalar(gauge)", "pi()", "-1", "2 ^ 0.5"])
    return st.one_of(literal, literal, of_vector)


@st.composite
def selectors(draw, metrics=GAUGES, *, modifiers=True):
    """Return a selector without and with matchers, and its offset and @ apart from it."""
    metric = draw(st.sampled_from(metrics))
    matcher = draw(
        st.sampled_from(
            ["", "", "", '{job="a"}', '{job!="a"}', '{inst=~"[12]"}', '{inst!~"1|3"}', '{x=""}']
        )
    )
    modifier = ""
    if modifiers:
        modifier = draw(st.sampled_from(MODIFIERS))
    return metric + matcher, modifier


BUCKETS = (
    "hist_bucket", "rate(hist_bucket[5m])", "increase(hist_bucket[95s])",
    "sum by (le) (hist_bucket)", 'hist_bucket{job="b"} offset 2m',
)  # fmt: skip
RANGE_FUNCTIONS = (
    "rate", "increase", "delta", "irate", "idelta", "changes", "resets", "deriv",
    "sum_over_time", "avg_over_time", "min_over_time", "max_over_time", "count_over_time",
    "last_over_time", "present_over_time", "stddev_over_time", "stdvar_over_time",
)  # fmt: skip


@st.composite
def over_range(draw, inner, depth):
    """Return a function of a range selector or of a subquery."""
    if depth > 0 and draw(st.integers(0, 3)) == 0:
        expression, step = draw(inner), draw(st.sampled_from(["", "10s", "25s", "1m"]))
        modifiers = ["", "", " offset 1m", *[" @ 1700001000"] * ("] @" not in expression)]
        window = f"[{draw(st.sampled_from(RANGES[1:]))}:{step}]{draw(st.sampled_from(modifiers))}"
        ranged = f"({expression}){window}"
    else:
        series, modifier = draw(selectors())
        ranged = f"{series}[{draw(st.sampled_from(RANGES))}]{modifier}"
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return (
            f"quantile_over_time({draw(st.sampled_from(['0', '0.5', '0.93', '1', '2']))}, {ranged})"
        )
    if kind == 1 and "wild" not in ranged and "@" not in ranged:
        return (
            f"predict_linear({ranged}, {draw(st.sampled_from(['0', '60', '-30', 'time() % 9']))})"
        )
    if kind == 2:
        return f"holt_winters({ranged}, 0.3, {draw(st.sampled_from(['0.1', '0.6']))})"
    return f"{draw(st.sampled_from(RANGE_FUNCTIONS))}({ranged})"


ONE_VALUE = (
    "abs", "ceil", "floor", "exp", "ln", "log2", "log10", "sqrt", "sgn", "deg", "rad",
    "atan", "tanh", "asinh", "sort", "-", "+", "timestamp",
)  # fmt: skip


@st.composite
def applied(draw, inner):
    """Return a function of one value applied to a vector."""
    vector = draw(inner)
    forms = (
        f"clamp({vector}, {draw(scalars())}, {draw(scalars())})",
        f"clamp_min({vector}, {draw(scalars())})",
        f"clamp_max({vector}, {draw(scalars())})",
        f"round({vector}{draw(st.sampled_from(['', ', 0.5', ', 10']))})",
        f'label_replace({vector}, "new", "$1-x", "inst", "([12])")',
        f'label_join({vector}, "new", "/", "inst", "job")',
        f"{draw(st.sampled_from(['sin', 'cos', 'tan']))}({draw(plain())})",
        f"abs(({vector}) atan2 {draw(scalars())})",
        *[f"{draw(st.sampled_from(ONE_VALUE))}({vector})"] * 9,
    )
    return draw(st.sampled_from(forms))


ARITHMETIC = ("+", "-", "*", "/", "%", "^")
COMPARISONS = ("==", "!=", "<", ">", "<=", ">=")


@st.composite
def operations(draw, inner):
    """Return a binary operation of two vectors of one shape, or of a vector and a scalar."""
    operator = draw(st.sampled_from(ARITHMETIC + COMPARISONS + ("and", "or", "unless")))
    left = draw(inner)
    modifier = " bool" if operator in COMPARISONS and draw(st.booleans()) else ""
    if operator in {"and", "or", "unless"}:
        return f"({left}) {operator}{draw(matchings())} ({draw(inner)})"
    match draw(st.integers(0, 3)):
        case 0:
            return f"({left}) {operator}{modifier} {draw(scalars())}"
        case 1:
            return f"{draw(scalars())} {operator}{modifier} ({left})"
        case _:
            return f"({left}) {operator}{modifier}{draw(matchings())} ({draw(inner)})"


def matchings():
    """Return vector matchings by which elements are unique, whatever else they have."""
    return st.sampled_from(["", " on (job, inst)", " on (inst, job)"])


@st.composite
def joins(draw, inner):
    """Return many-to-one matches with the info metric or a sum by job."""
    vector = draw(inner)
    operator = draw(st.sampled_from(ARITHMETIC))
    match draw(st.integers(0, 2)):
        case 0:
            return f"({vector}) {operator} on (inst) group_left (version) info"
        case 1:
            return f"info {operator} on (inst) group_right (version) ({vector})"
        case _:
            return f"({vector}) {operator} on (job) group_left sum by (job) ({draw(inner)})"


@st.composite
def by_series(draw, depth):
    """Return a vector whose elements are unique by job and inst."""
    inner = st.deferred(lambda: by_series(depth - 1)) if depth > 0 else plain()
    match draw(st.integers(0, 7)) if depth > 0 else 0:
        case 0:
            return draw(plain())
        case 1 | 2 | 3:
            return draw(over_range(inner, depth - 1))
        case 4 | 5:
            return draw(applied(inner))
        case _:
            return draw(operations(inner))


def plain():
    """Return selectors of instant vectors."""
    return selectors().map("".join)


@st.composite
def expressions(draw):
    """Return any expression of the kinds above, aggregated or not."""
    vector = by_series(draw(st.integers(0, 3)))
    kind = draw(st.integers(0, 9))
    if kind < 4:
        return draw(aggregations(vector))
    if kind < 6:
        return draw(vector)
    if kind < 7:
        return draw(joins(by_series(1)))
    if kind < 8:
        return draw(histograms())
    if kind < 9:
        return f"absent({draw(vector)})"
    return draw(dates_and_absence())


@st.composite
def aggregations(draw, vector):
    """Return an aggregation; topk only of values without ties."""
    grouping = draw(st.sampled_from(["", "by (job) ", "by (inst, job) ", "without (inst) "]))
    name = draw(st.sampled_from(["sum", "avg", "min", "max", "count", "group"]))
    match draw(st.integers(0, 7)):
        case 0:
            q = draw(st.sampled_from(["0", "0.5", "0.93", "1", "-1"]))
            return f"quantile {grouping}({q}, {draw(vector)})"
        case 1:
            series = "".join(draw(selectors(("gauge",))))
            return f"{draw(st.sampled_from(['topk', 'bottomk']))} {grouping}(2, {series})"
        case 2:
            return f'count_values {grouping}("value", count_over_time({draw(ranges())}))'
        case 3:
            series = "".join(draw(selectors(("gauge", "sparse", "counter_total"))))
            return f"{draw(st.sampled_from(['stddev', 'stdvar']))} {grouping}({series})"
        case _:
            return f"{name} {grouping}({draw(vector)})"


@st.composite
def dates_and_absence(draw):
    """Return dates of times, or `absent_over_time`."""
    if draw(st.booleans()):
        return f"absent_over_time({draw(ranges())})"
    date = draw(st.sampled_from(["minute", "hour", "day_of_year", "days_in_month", "year"]))
    return f"{date}({draw(st.sampled_from(['', 'vector(time() * 7.5)', 'gauge * 1e4']))})"


@st.composite
def ranges(draw):
    """Return a range selector."""
    series, modifier = draw(selectors())
    return f"{series}[{draw(st.sampled_from(RANGES))}]{modifier}"


@st.composite
def histograms(draw):
    """Return quantiles of classic buckets."""
    q = draw(st.sampled_from(["0", "0.1", "0.5", "0.9", "0.999", "1", "-3", "7"]))
    return f"histogram_quantile({q}, {draw(st.sampled_from(BUCKETS))})"


@st.composite
def queries(draw, start_ms: int, span_ms: int):
    """Return a query at times within, and a little around, the data."""
    text = draw(expressions())
    start = (
        start_ms + draw(st.integers(-60, span_ms // 1000 + 60)) * 1000 + draw(st.integers(0, 999))
    )
    count = draw(st.sampled_from([1, 1, 2, 7, 30]))
    return Query(text, start, draw(TIMES) * 1000, count)
