"""Where results differ from Prometheus 3 on purpose, one line each with its reason."""

from typing import Final

DIFFERENCES: Final[tuple[tuple[str, str], ...]] = (
    ("native histograms", "not supported: sources' native histograms are not collected"),
    ("duration arithmetic, step(), range()", "experimental in Prometheus; refused with a message"),
    ("anchored and smoothed", "experimental in Prometheus; refused with a message"),
    (
        "limit_ratio membership",
        "depends on the server's hash of the labels; ratio and complement are exact",
    ),
    (
        "sum and avg of infinite partial sums",
        "samples are added pairwise, so an overflow of float64 may come earlier or later",
    ),
    (
        "comparison of vectors whose left name is to be dropped",
        "the name stays marked for removal; Prometheus brings it back",
    ),
    (
        "last_over_time over a subquery whose names are to be dropped",
        "the names stay marked for removal; Prometheus brings them back",
    ),
    (
        "dates of NaN and infinities",
        "NaN; Prometheus gives what the processor makes of the conversion to an integer",
    ),
    (
        "info about a histogram repaired for monotonicity",
        "names the metric only, not the buckets, the largest difference and the steps",
    ),
    ("length of a query", "100,000 characters, for the parser's sake"),
    ("depth of an expression", "100 nested levels, 250 operators in a row, for the stack's sake"),
    (
        "\\x escapes that are not UTF-8",
        "become U+FFFD: no stored label holds such bytes",
    ),
)
