"""Random PromQL queries that mean the same in Prometheus 2.42 and 3, as Hypothesis strategies.

Elements of every generated vector are unique by job and inst, so that matching gives no errors.
Not generated is
- what changed in between: metric names after an operation (2.42 keeps them with atan2), the
  deviation of a single infinity, quantiles of buckets summed from floats, dates of NaN;
- what 2.42 does wrongly: `predict_linear` with `@` (answered at the first step only), `@` inside
  `[:] @` inside `[:] @` (reads another time);
- what is not determined: ties of topk, sines of numbers so large that the last bit decides.
`NOT_GENERATED` names the functions that this leaves out.
"""

from dataclasses import dataclass
from typing import Final

from hypothesis import strategies as st

ARITHMETIC = ("+", "-", "*", "/", "%", "^")
COMPARISONS = ("==", "!=", "<", ">", "<=", ">=")
GAUGES = ("gauge", "sparse", "counter_total", "wild")
RANGES = ("20s", "1m", "95s", "5m", "15m")
MODIFIERS = (
    "", "", "", "", " offset 1m", " offset -40s", " @ 1080", " @ end()",
    " @ start() offset 30s", " offset -1m30s @ end()",
)  # fmt: skip
MATCHERS = (
    "", "", "", '{job="a"}', '{job!="a"}', '{inst=~"[12]"}', '{inst!~"1|3"}', '{x=""}',
    '{job=~"a|b",inst!=""}', '{inst=~".+",job!~"b.*"}', "{inst='3',}",
)  # fmt: skip

NOT_GENERATED: Final = {
    "double_exponential_smoothing": "2.42 knows it as holt_winters, which is generated",
    "first_over_time": "not in 2.42",
    "histogram_avg": "of native histograms",
    "histogram_count": "of native histograms",
    "histogram_fraction": "of native histograms in 2.42",
    "histogram_quantiles": "not in 2.42",
    "histogram_stddev": "of native histograms",
    "histogram_stdvar": "of native histograms",
    "histogram_sum": "of native histograms",
    "info": "not in 2.42",
    "mad_over_time": "not in 2.42",
    "sort_by_label": "not in 2.42",
    "sort_by_label_desc": "not in 2.42",
    "ts_of_first_over_time": "not in 2.42",
    "ts_of_last_over_time": "not in 2.42",
    "ts_of_max_over_time": "not in 2.42",
    "ts_of_min_over_time": "not in 2.42",
    "end": "not in 2.42",
    "max_of": "not in 2.42",
    "min_of": "not in 2.42",
    "range": "not in 2.42",
    "start": "not in 2.42",
    "step": "not in 2.42",
}
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
    other = st.sampled_from(
        ["scalar(sum(gauge))", "scalar(gauge)", "pi()", "-1", "2 ^ 0.5 ^ 2", "0x1F", "-2 ^ 2",
         "time() / 60 * 2", "1 + 2 / (3 - 4)", "scalar(absent(gauge))", "scalar(info{inst='2'})",
         "-(time() % 7)"]
    )  # fmt: skip
    operator = st.sampled_from(
        [*ARITHMETIC, "atan2", *(f"{comparison} bool" for comparison in COMPARISONS)]
    )
    operation = st.builds("({} {} {})".format, literal, operator, st.one_of(literal, other))
    return st.one_of(literal, literal, other, operation)


@st.composite
def selectors(draw, metrics=GAUGES, *, modifiers=True):
    """Return a selector without and with matchers, and its offset and @ apart from it."""
    metric = draw(st.sampled_from(metrics))
    matcher = draw(st.sampled_from(MATCHERS))
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
        modifiers = ["", "", " offset 1m", " offset -30s"]
        modifiers += [" @ 1080", " @ end()"] * ("] @" not in expression)
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
    "acos", "acosh", "asin", "asinh", "atan", "atanh", "cosh", "sinh", "tanh",
    "sort", "sort_desc", "-", "+", "timestamp",
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
        f'label_replace({vector}, "job", "", "job", "b|c")',
        f'label_replace({vector}, "new", "${{x}}$2", "job", "(?P<x>.)(.*)")',
        f'label_join({vector}, "new", "/", "inst", "job")',
        f'label_join({vector}, "new", "")',
        f"{draw(st.sampled_from(['sin', 'cos', 'tan']))}({draw(plain())})",
        f"abs(({vector}) atan2 {draw(scalars())})",
        f"abs({draw(scalars())} atan2 ({vector}))",
        *[f"{draw(st.sampled_from(ONE_VALUE))}({vector})"] * 9,
    )
    return draw(st.sampled_from(forms))


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
    return st.sampled_from(["", " on (job, inst)", " on (inst, job)", " ignoring (new, x)"])


@st.composite
def joins(draw, inner):
    """Return matches of many elements with one, or of sets."""
    vector, other = draw(inner), draw(inner)
    operator = draw(st.sampled_from((*ARITHMETIC, *ARITHMETIC, *COMPARISONS)))
    sets = draw(st.sampled_from(["and", "or", "unless"]))
    flag = " bool" if operator in COMPARISONS and draw(st.booleans()) else ""
    forms = (
        f"({vector}) {operator}{flag} on (inst) group_left (version) info",
        f"info {operator}{flag} on (inst) group_right (version) ({vector})",
        f"({vector}) {operator}{flag} ignoring (job, version) group_left () info",
        f"({vector}) {operator}{flag} on (job) group_left sum by (job) ({other})",
        f"avg without (inst) ({other}) {operator}{flag} on (job) group_right () ({vector})",
        f"({vector}) {operator}{flag} ignoring (inst, job) group_left sum ({other})",
        f"({vector}) {operator}{flag} on () group_left max ({other})",
        f"({vector}) {sets} on (inst) info{{version!='v2'}}",
        f"({vector}) {sets} ignoring (inst) min by (job) ({other})",
        f"({vector}) {sets} on () vector({draw(scalars())})",
        f"sum by (job) ({vector}) {operator}{flag} sum by (job) ({other})",
        f"sum ({vector}) {operator}{flag} vector({draw(scalars())})",
    )
    return draw(st.sampled_from(forms))


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
    aggregated = aggregations(vector)
    again = st.builds("{} {}({})".format, aggregation(), GROUPINGS, aggregated)
    kinds = (
        *[aggregated] * 4, vector, vector, *[joins(by_series(1))] * 2, histograms(),
        vector.map("absent({})".format), dates_and_absence(), again,
    )  # fmt: skip
    return draw(draw(st.sampled_from(kinds)))


GROUPINGS = st.sampled_from(
    ["", "", "by (job) ", "by (inst, job) ", "without (inst) ", "by (nobody) ", "without () "]
)


def aggregation():
    """Return aggregations of any vector."""
    return st.sampled_from(["sum", "avg", "min", "max", "count", "group"])


@st.composite
def aggregations(draw, vector):
    """Return an aggregation; topk only of values without ties."""
    grouping = draw(GROUPINGS)
    match draw(st.integers(0, 8)):
        case 0:
            q = draw(st.sampled_from(["0", "0.5", "0.93", "1", "-1", "NaN", "time() % 2"]))
            return f"quantile {grouping}({q}, {draw(vector)})"
        case 1:
            form = draw(st.sampled_from(["{}", "{} * 3 - 1", "-{}", "avg_over_time({}[2m])"]))
            series, modifier = draw(selectors(("gauge",)))
            inner = form.format(series if "[" in form else series + modifier)
            k = draw(st.sampled_from(["0", "1", "2", "3.7", "10", "time() % 4"]))
            return f"{draw(st.sampled_from(['topk', 'bottomk']))} {grouping}({k}, {inner})"
        case 2:
            counted = (
                f"count_over_time({draw(ranges())})",
                f"changes({draw(ranges())})",
                "".join(draw(selectors(("sparse", "wild")))),
                f"round(gauge{draw(st.sampled_from(MATCHERS))}, 1e4) + 0",
            )
            return f'count_values {grouping}("value", {draw(st.sampled_from(counted))})'
        case 3:
            series = "".join(draw(selectors(("gauge", "sparse", "counter_total"))))
            return f"{draw(st.sampled_from(['stddev', 'stdvar']))} {grouping}({series})"
        case 4:
            chosen = '{__name__=~"gauge|sparse|wild",job=~"a|b"}'
            return f"{draw(aggregation())} {grouping}({chosen}{draw(st.sampled_from(MODIFIERS))})"
        case _:
            return f"{draw(aggregation())} {grouping}({draw(vector)})"


DATES = (
    "minute", "hour", "day_of_week", "day_of_month", "day_of_year", "days_in_month", "month",
    "year",
)  # fmt: skip


@st.composite
def dates_and_absence(draw):
    """Return dates of times, `absent_over_time`, scalars and vectors of them, plain ranges."""
    match draw(st.integers(0, 4)):
        case 0 | 1:
            return f"absent_over_time({draw(ranges())})"
        case 2:
            return draw(scalars())
        case 3:
            return f"vector({draw(scalars())}) or {draw(plain())}"
        case _:
            date = draw(st.sampled_from(DATES))
            of = draw(st.sampled_from(["", "vector(time() * 1e6)", "gauge * 1e4", "gauge * 1e6"]))
            return f"{date}({of})"


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
    count = draw(st.sampled_from([1, 1, 2, 7, 30]))
    ranged = count == 1 and draw(st.integers(0, 15)) == 0
    text = draw(ranges() if ranged else expressions())
    start = (
        start_ms + draw(st.integers(-60, span_ms // 1000 + 60)) * 1000 + draw(st.integers(0, 999))
    )
    return Query(text, start, draw(TIMES) * 1000, count)
