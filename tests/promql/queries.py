"""Random PromQL queries that mean the same in Prometheus 2.42 and 3.

Elements of every generated vector are unique by job and inst, so that matching gives no errors.
Not generated is
- what changed in between: metric names after an operation (2.42 keeps them with atan2), the
  deviation of a single infinity, quantiles of buckets summed from floats, dates of NaN;
- what 2.42 does wrongly: `predict_linear` with `@` (answered at the first step only), `@` inside
  `[:] @` inside `[:]` (reads another time); a parameter that changes from step to step, of an
  aggregation of something with `@` (taken at the first step);
- what all versions do wrongly: `timestamp` of a selector with `@` and `offset` (not shifted);
- what is not determined: ties of topk, sines, remainders and roundings of what is computed, in
  which the last bit decides.
`NOT_GENERATED` names the functions that this leaves out.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

ARITHMETIC = ("+", "-", "*", "/", "%", "^")
# of what is computed, the last bit may decide whether a divisor is zero, or what remains
EXACT = ("/", "%")
COMPARISONS = ("==", "!=", "<", ">", "<=", ">=")
SETS = ("and", "or", "unless")
GAUGES = ("gauge", "sparse", "counter_total", "even_total", "wild")
WINDOWS = ("20s", "1m", "95s", "5m", "15m")
MODIFIERS = (
    "", "", "", "", " offset 1m", " offset -40s", " @ 1080", " @ end()",
    " @ start() offset 30s", " offset -1m30s @ end()",
)  # fmt: skip
MATCHERS = (
    "", "", "", '{job="a"}', '{job!="a"}', '{inst=~"[12]"}', '{inst!~"1|3"}', '{x=""}',
    '{job=~"a|b",inst!=""}', '{inst=~".+",job!~"b.*"}', "{inst='3',}",
)  # fmt: skip
GROUPINGS = (
    "", "", "by (job) ", "by (inst, job) ", "without (inst) ", "by (nobody) ", "without () ",
)  # fmt: skip
BUCKETS = (
    "hist_bucket", "rate(hist_bucket[5m])", "increase(hist_bucket[95s])",
    "sum by (le) (hist_bucket)", 'hist_bucket{job="b"} offset 2m',
)  # fmt: skip
RANGE_FUNCTIONS = (
    "rate", "increase", "delta", "irate", "idelta", "changes", "resets", "deriv",
    "sum_over_time", "avg_over_time", "min_over_time", "max_over_time", "count_over_time",
    "last_over_time", "present_over_time", "stddev_over_time", "stdvar_over_time",
)  # fmt: skip
ONE_VALUE = (
    "abs", "exp", "ln", "log2", "log10", "sqrt", "deg", "rad",
    "acos", "acosh", "asin", "asinh", "atan", "atanh", "tanh",
    "sort", "sort_desc", "-", "+",
)  # fmt: skip
DATES = (
    "minute", "hour", "day_of_week", "day_of_month", "day_of_year", "days_in_month", "month",
    "year",
)  # fmt: skip
AGGREGATIONS = ("sum", "avg", "min", "max", "count", "group")

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

_FIXED_SUBQUERY: Final = re.compile(r":\w*\] @")
Vector = Callable[[], str]


@dataclass(frozen=True)
class Query:
    """A query and the times to ask for; an instant query has one step."""

    text: str
    start_ms: int
    step_ms: int
    count: int


def queries(seed: int, start_ms: int, span_ms: int) -> Iterator[Query]:
    """Yield queries without end, at times within, and a little around, the data."""
    random = Random(seed)
    writer = Writer(random)
    while True:
        count = random.choice((1, 1, 2, 7, 30))
        ranged = count == 1 and random.random() < 0.06
        text = writer.ranges() if ranged else writer.expression()
        start = start_ms + random.randrange(-60_000, span_ms + 60_000)
        yield Query(text, start, random.choice((15, 30, 37, 60, 300)) * 1000, count)


class Writer:
    """Writes random expressions."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._one = random.choice

    def expression(self) -> str:
        """Return any expression of the kinds below, aggregated or not."""
        depth = self._random.randrange(4)

        def vector() -> str:
            return self.by_series(depth)

        match self._random.randrange(12):
            case 0 | 1 | 2 | 3:
                text = self.aggregation(vector)
            case 4 | 5:
                text = vector()
            case 6 | 7:
                text = self.join(lambda: self.by_series(1))
            case 8:
                text = self.histogram()
            case 9:
                text = f"absent({vector()})"
            case 10:
                text = self.date_or_absence()
            case _:
                again, grouping = self._one(AGGREGATIONS), self._one(GROUPINGS)
                text = f"{again} {grouping}({self.aggregation(vector)})"
        return text

    def scalar(self) -> str:
        """Return a scalar expression."""
        literals = ("0", "1", "-2.5", "0.3", "1e3", "Inf", "-Inf", "NaN", "time()")
        others = (
            "scalar(sum(gauge))", "scalar(gauge)", "pi()", "-1", "2 ^ 0.5 ^ 2", "0x1F", "-2 ^ 2",
            "time() / 60 * 2", "1 + 2 / (3 - 4)", "scalar(absent(gauge))",
            "scalar(info{inst='2'})", "-(time() % 7)",
        )  # fmt: skip
        match self._random.randrange(4):
            case 0:
                return self._one(others)
            case 1:
                operators = (*ARITHMETIC, "atan2", *(f"{each} bool" for each in COMPARISONS))
                right = self._one((*literals, *others))
                return f"({self._one(literals)} {self._one(operators)} {right})"
            case _:
                return self._one(literals)

    def selector(self, metrics: tuple[str, ...] = GAUGES) -> tuple[str, str]:
        """Return a selector, and its offset and @ apart from it."""
        return self._one(metrics) + self._one(MATCHERS), self._one(MODIFIERS)

    def plain(self) -> str:
        """Return a selector of an instant vector."""
        return "".join(self.selector())

    def ranges(self) -> str:
        """Return a range selector."""
        series, modifier = self.selector()
        return f"{series}[{self._one(WINDOWS)}]{modifier}"

    def by_series(self, depth: int) -> str:
        """Return a vector whose elements are unique by job and inst."""
        if depth == 0:
            return self.plain()

        def inner() -> str:
            return self.by_series(depth - 1)

        match self._random.randrange(8):
            case 0:
                return self.plain()
            case 1 | 2 | 3:
                return self.over_range(inner, depth - 1)
            case 4 | 5:
                return self.applied(inner)
            case _:
                return self.operation(inner)

    def over_range(self, inner: Vector, depth: int) -> str:
        """Return a function of a range selector or of a subquery."""
        ranged = self.ranges()
        if depth > 0 and self._random.randrange(4) == 0:
            expression, step = inner(), self._one(("", "10s", "25s", "1m"))
            modifiers = ["", "", " offset 1m", " offset -30s"]
            modifiers += [" @ 1080", " @ end()"] * ("] @" not in expression)
            if not (_FIXED_SUBQUERY.search(expression) and expression.count("@") > 1):
                ranged = f"({expression})[{self._one(WINDOWS[1:])}:{step}]{self._one(modifiers)}"
        kind = self._random.randrange(10)
        if kind == 0:
            q = self._one(("0", "0.5", "0.93", "1", "2"))
            return f"quantile_over_time({q}, {ranged})"
        if kind == 1 and "wild" not in ranged and "@" not in ranged:
            return f"predict_linear({ranged}, {self._one(('0', '60', '-30', 'time() % 9'))})"
        if kind == 2:
            return f"holt_winters({ranged}, 0.3, {self._one(('0.1', '0.6'))})"
        return f"{self._one(RANGE_FUNCTIONS)}({ranged})"

    def applied(self, inner: Vector) -> str:
        """Return a function of one value applied to a vector."""
        vector, scalar, series = inner(), self.scalar(), self.selector()[0]
        forms = (
            f"clamp({vector}, {scalar}, {self.scalar()})",
            f"clamp_min({vector}, {scalar})",
            f"clamp_max({vector}, {scalar})",
            f"round({self.plain()}{self._one(('', ', 0.5', ', 10'))})",
            f'label_replace({vector}, "new", "$1-x", "inst", "([12])")',
            f'label_replace({vector}, "job", "", "job", "b|c")',
            f'label_replace({vector}, "new", "${{x}}$2", "job", "(?P<x>.)(.*)")',
            f'label_join({vector}, "new", "/", "inst", "job")',
            f'label_join({vector}, "new", "")',
            f"{self._one(('sin', 'cos', 'tan', 'ceil', 'floor', 'sgn'))}({self.plain()})",
            f"abs(({vector}) atan2 {scalar})",
            f"abs({scalar} atan2 ({vector}))",
            *[f"{self._one(ONE_VALUE)}({vector})"] * 12,
            f"timestamp({series}{self._one(('', ' offset 1m', ' offset -40s', ' @ end()'))})",
            f"timestamp(-{series})",
            # small, as sums of large numbers of both signs leave other rests in 2.42
            f"{self._one(('cosh', 'sinh'))}(clamp({vector}, -9, 9))",
        )
        return self._one(forms)

    def operation(self, inner: Vector) -> str:
        """Return a binary operation of two vectors of one shape, or of a vector and a scalar."""
        operator = self._one(ARITHMETIC + COMPARISONS + SETS)
        inner = self.plain if operator in EXACT else inner
        left = inner()
        if operator == "or":  # versions differ in when two names for one job and inst are an error
            left, right = (f"max by (inst, job) ({side})" for side in (left, inner()))
            return f"{left} or{self.matching()} {right}"
        if operator in SETS:
            return f"({left}) {operator}{self.matching()} ({inner()})"
        flag = " bool" if operator in COMPARISONS and self._random.random() < 0.5 else ""
        match self._random.randrange(4):
            case 0:
                return f"({left}) {operator}{flag} {self.scalar()}"
            case 1:
                return f"{self.scalar()} {operator}{flag} ({left})"
            case _:
                return f"({left}) {operator}{flag}{self.matching()} ({inner()})"

    def matching(self) -> str:
        """Return a matching by which elements are unique, whatever else they have."""
        return self._one(("", " on (job, inst)", " on (inst, job)", " ignoring (new, x)"))

    def join(self, inner: Vector) -> str:
        """Return matches of many elements with one, or of sets."""
        operator = self._one((*ARITHMETIC, *ARITHMETIC, *COMPARISONS))
        inner = self.plain if operator in EXACT else inner
        vector, other = inner(), inner()
        if operator in COMPARISONS and self._random.random() < 0.5:
            operator += " bool"
        sets = self._one(SETS)
        restarted = f"restarted{self._one(MODIFIERS)}"
        forms = (
            f"({vector}) {operator} on (inst) group_left (version) info",
            f"info {operator} on (inst) group_right (version) ({vector})",
            f"({vector}) {operator} ignoring (job, version) group_left () info",
            f"({vector}) {operator} on (job) group_left sum by (job) ({other})",
            f"avg without (inst) ({other}) {operator} on (job) group_right () ({vector})",
            f"({vector}) {operator} ignoring (inst, job) group_left sum ({other})",
            f"({vector}) {operator} on () group_left max ({other})",
            f"({vector}) {sets} on (inst) info{{version!='v2'}}",
            f"({vector}) {sets} ignoring (inst) min by (job) ({other})",
            f"({vector}) {sets} on () vector({self.scalar()})",
            f"({vector}) {operator} on (inst, job) {restarted}",
            f"({vector}) {operator} on (inst, job) group_left (pod) {restarted}",
            f"{restarted} {operator} on (job, inst) group_left () ({vector})",
            f"{restarted} {operator} ignoring (pod) group_left () {self.plain()}",
            f"{restarted} {sets} on (job, inst) ({vector})",
            f"sum by (job) ({vector}) {operator} sum by (job) ({other})",
            f"sum ({vector}) {operator} vector({self.scalar()})",
        )
        return self._one(forms)

    def aggregation(self, vector: Vector) -> str:
        """Return an aggregation; topk only of values without ties."""
        grouping = self._one(GROUPINGS)
        match self._random.randrange(9):
            case 0:
                q, of = self._one(("0", "0.5", "0.93", "1", "-1", "NaN", "time() % 2")), vector()
                text = f"quantile {grouping}({_fixed(q, of)}, {of})"
            case 1:
                series, modifier = self.selector(("gauge",))
                form = self._one(("{}{}", "{}{} * 3 - 1", "-{}{}", "avg_over_time({}[2m]{})"))
                k = self._one(("0", "1", "2", "3.7", "10", "time() % 4"))
                name, of = self._one(("topk", "bottomk")), form.format(series, modifier)
                text = f"{name} {grouping}({_fixed(k, of)}, {of})"
            case 2:
                counted = (
                    f"count_over_time({self.ranges()})",
                    f"changes({self.ranges()})",
                    "".join(self.selector(("sparse", "wild"))),
                    f"round(gauge{self._one(MATCHERS)}, 1e4) + 0",
                )
                text = f'count_values {grouping}("value", {self._one(counted)})'
            case 3:
                series = "".join(self.selector(("gauge", "sparse", "counter_total")))
                text = f"{self._one(('stddev', 'stdvar'))} {grouping}({series})"
            case 4:
                chosen = '{__name__=~"gauge|sparse|wild",job=~"a|b"}' + self._one(MODIFIERS)
                text = f"{self._one(AGGREGATIONS)} {grouping}({chosen})"
            case _:
                text = f"{self._one(AGGREGATIONS)} {grouping}({vector()})"
        return text

    def date_or_absence(self) -> str:
        """Return dates of times, `absent_over_time`, scalars and vectors of them."""
        match self._random.randrange(5):
            case 0:
                return f"absent_over_time({self.ranges()})"
            case 1:
                return self.scalar()
            case 2:
                return f"vector({self.scalar()}) or {self.plain()}"
            case _:
                of = ("", "vector(time() * 1e6)", "gauge * 1e4", "gauge * 1e6")
                return f"{self._one(DATES)}({self._one(of)})"

    def histogram(self) -> str:
        """Return quantiles of classic buckets."""
        q = self._one(("0", "0.1", "0.5", "0.9", "0.999", "1", "-3", "7"))
        return f"histogram_quantile({q}, {self._one(BUCKETS)})"


def _fixed(parameter: str, vector: str) -> str:
    """Return *parameter*, or a constant one if *vector* may be the same at every step."""
    return "1" if "@" in vector and "time()" in parameter else parameter
