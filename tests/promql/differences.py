"""Where results differ from Prometheus 3 on purpose: each with its reason and an eval.

`prometheus` and `ours` are what follows the eval's line in the notation of the scripts.
"""

from dataclasses import dataclass
from typing import Final

from aggregator.promql.parse import MAX_CHARACTERS, MAX_NESTING

_WIDE = " " * MAX_CHARACTERS
_DEEP = "(" * (MAX_NESTING + 1) + "1" + ")" * (MAX_NESTING + 1)
_REPAIRED = "expect info regex: needed to be fixed for monotonicity .*"


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs and why; samples every minute, and an eval with either's answer."""

    subject: str
    reason: str
    samples: str
    eval: str
    prometheus: str
    ours: str


DIFFERENCES: Final[tuple[Difference, ...]] = (
    Difference(
        "native histograms",
        "sources' native histograms are not collected",
        "h {{schema:0 sum:1 count:1}}",
        "instant at 0 count(h)",
        "{} 1",
        "",
    ),
    Difference(
        "quantiles of buckets whose count is NaN",
        "buckets are searched in order for all steps at once; Prometheus goes by halves, and may "
        "not see what comes before such a count",
        'h_bucket{le="0.1"} 1\n  h_bucket{le="0.5"} NaN\n'
        '  h_bucket{le="1"} 3\n  h_bucket{le="+Inf"} 4',
        "instant at 0 histogram_quantile(0.2, h_bucket)",
        "{} NaN",
        "{} 0.08",
    ),
    Difference(
        "operators that trim native histograms",
        "there are no native histograms",
        "x 1",
        "instant at 0 x </ 2",
        "expect info",
        "expect fail regex: operators that trim native histograms are not supported$",
    ),
    Difference(
        "start timestamps",
        "not collected; experimental in Prometheus",
        "x_total@st _ -1m -1m\n  x_total _ 5 5",
        "instant at 2m increase(x_total[1m30s])",
        "{} 7.5",
        "{} 0",
    ),
    Difference(
        "smoothed and anchored",
        "experimental in Prometheus",
        "x 1 2",
        "instant at 90s x smoothed",
        "x 2",
        "expect fail regex: the smoothed modifier is not supported$",
    ),
    Difference(
        "experimental functions, fill and duration arithmetic",
        "need no feature flag: who writes them means them",
        "x 1 2",
        "instant at 1m mad_over_time(x[30s + 1m])",
        "expect fail",
        "{} 0.5",
    ),
    Difference(
        "holt_winters",
        "dashboards made for Prometheus 2 use it",
        "x 1 2 3",
        "instant at 2m holt_winters(x[3m], 0.5, 0.5)",
        "expect fail",
        "{} 3",
    ),
    Difference(
        "limit_ratio membership",
        "depends on the server's hash of the labels; ratio and complement are exact",
        'x{a="0"} 1\n  x{a="1"} 1\n  x{a="2"} 1\n  x{a="3"} 1',
        "instant at 0 count(limit_ratio(0.6, x))",
        "{} 2",
        "{} 3",
    ),
    Difference(
        "sum of finite values whose partial sums overflow",
        "the sum if float64 can hold it; Prometheus's depends on the order of the series",
        "\n  ".join(f'x{{a="{n}"}} {n}e307' for n in range(-9, 10)),
        "instant at 0 sum(x)",
        "{} -Inf",
        "{} 0",
    ),
    Difference(
        "comparison of vectors whose left name is to be dropped",
        "the name stays marked for removal; Prometheus brings it back",
        "a 1\n  b 2",
        "instant at 0 -a < b",
        "a -1",
        "{} -1",
    ),
    Difference(
        "last_over_time over a subquery whose names are to be dropped",
        "the names stay marked for removal; Prometheus brings them back",
        "a 1",
        "instant at 0 last_over_time((-a)[1m:])",
        "a -1",
        "{} -1",
    ),
    Difference(
        "dates of NaN and infinities",
        "NaN; Prometheus gives what the processor makes of the conversion to an integer",
        "x 1",
        "instant at 0 year(vector(NaN))",
        "{} 292277026596",
        "{} NaN",
    ),
    Difference(
        "info about a histogram repaired for monotonicity",
        "names the metric only, not the buckets, the largest difference and the steps",
        'x_bucket{le="1"} 2\n  x_bucket{le="2"} 1\n  x_bucket{le="+Inf"} 3',
        "instant at 0 histogram_quantile(0.5, x_bucket)",
        f'{_REPAIRED} for metric name "x_bucket", from buckets 1 to 2\n  {{}} 0.75',
        f'{_REPAIRED} for metric name "x_bucket"$\n  {{}} 0.75',
    ),
    Difference(
        "quantiles of histogram_quantiles that change from step to step",
        "100 different ones, for the memory's sake",
        'x_bucket{le="+Inf"} 1',
        "range from 0 to 100s step 1s count(histogram_quantiles(x_bucket, 'q', time() / 100))",
        "{} 1x100",
        "expect fail msg: more than 100 different quantiles in histogram_quantiles()",
    ),
    Difference(
        "length of a query",
        f"{MAX_CHARACTERS:,} characters, for the parser's sake",
        "x 1",
        f"instant at 0 1 +{_WIDE}1",
        "2",
        f"expect fail regex: query is longer than {MAX_CHARACTERS} characters$",
    ),
    Difference(
        "depth of an expression",
        "100 nested levels, 250 operators in a row, 20 in a duration, for the stack's sake",
        "x 1",
        f"instant at 0 {_DEEP}",
        "1",
        f"expect fail regex: expression is nested deeper than {MAX_NESTING} levels$",
    ),
    Difference(
        "\\x escapes that are not UTF-8",
        "become U+FFFD: no stored label holds such bytes",
        "x 1",
        "instant at 0 "
        'label_replace(x, "a", "\\xff", "", "") == on (a) label_replace(x, "a", "\\xfe", "", "")',
        "",
        '{a="\ufffd"} 1',
    ),
)
