"""What is asked, and how fast ours must be: one row of the table each."""

from collections.abc import Mapping
from dataclasses import dataclass

RANGE_BAR, INSTANT_BAR, LOOK_UP_BAR = 0.6, 0.7, 1.0
_HOUR, _STEP = 3_600, 300
_ALL = '{__name__=~"bench_counter_.*"}'


@dataclass(frozen=True, slots=True)
class Case:
    """A request below /api/v1, and the largest ratio to Prometheus that passes.

    `tolerance` is the relative difference that the sum of all values may have from VictoriaMetrics,
    whose functions do not extrapolate; None where it answers another question. Prometheus's answer
    must be the same but for rounding.
    """

    name: str
    path: str
    parameters: Mapping[str, str]
    bar: float
    tolerance: float | None = 0.05


def query_cases(end_ms: int) -> list[Case]:
    """Return the cases on the data that ends before *end_ms*."""
    now = end_ms // 1000

    def day(name: str, query: str, tolerance: float | None = 0.05) -> Case:
        window = {"start": str(now - 23 * _HOUR + _STEP), "end": str(now), "step": str(_STEP)}
        return Case(name, "query_range", {"query": query, **window}, RANGE_BAR, tolerance)

    def instant(name: str, query: str) -> Case:
        return Case(name, "query", {"query": query, "time": str(now)}, INSTANT_BAR)

    month = {"start": str(now - 719 * _HOUR), "end": str(now), "step": str(_HOUR)}
    return [
        instant("instant rate, all series", f"rate({_ALL}[5m])"),
        instant("instant selector, all series", _ALL),
        instant("instant sum by, all series", f"sum by (job) ({_ALL})"),
        instant("small instant", 'bench_info{namespace="team-7"}'),
        look_up("series by match[]", "series", "bench_counter_07", now),
        look_up("values by match[]", "label/pod/values", "bench_gauge", now),
        day("rate, 500 series × 23 h", "rate(bench_counter_07[5m])"),
        day("sum by, 500 series × 23 h", "sum by (job) (rate(bench_counter_07[5m]))"),
        day("sum by, all series × 23 h", f"sum by (job) (rate({_ALL}[5m]))"),
        day("quantile of 500 × 23 h", "quantile by (job) (0.9, rate(bench_counter_03[5m]))"),
        day("quantile_over_time, 500 × 23 h", "quantile_over_time(0.95, bench_gauge[5m])"),
        day("max_over_time 1 h, 500 × 23 h", "max_over_time(bench_gauge[1h])"),
        day("histogram_quantile, 500 × 23 h",
            "histogram_quantile(0.9, sum by (le, job) (rate(bench_seconds_bucket[5m])))"),
        day("join with info, 500 × 23 h",
            "rate(bench_counter_05[5m]) * on (pod) group_left (version) bench_info"),
        day("topk of 500 × 23 h", "topk(5, rate(bench_counter_11[5m]))", None),
        day("ratio of sums, 1,000 × 23 h",
            "sum by (namespace) (rate(bench_counter_01[5m])) "
            "/ sum by (namespace) (rate(bench_counter_02[5m]))"),
        day("subquery, 500 × 23 h",
            "max_over_time(sum by (job) (rate(bench_counter_13[5m]))[30m:1m])"),
        Case("sum by, 500 × 30 d @ 5 min", "query_range",
             {"query": "sum by (job) (rate(bench_long[30m]))", **month}, RANGE_BAR),
    ]  # fmt: skip


def label_cases(end_ms: int) -> list[Case]:
    """Return the cases on a million series that have a sample before *end_ms*."""
    now = end_ms // 1000

    def count(name: str, selector: str) -> Case:
        return Case(name, "query", {"query": f"count({selector})", "time": str(now)}, INSTANT_BAR)

    return [
        look_up("values of 200", "label/namespace/values", "", now),
        look_up("metric names, 1,000", "label/__name__/values", "", now),
        look_up("values of a metric, 1,000", "label/pod/values", "bench_0007_total", now),
        look_up("values of a cluster", "label/namespace/values", '{cluster="cluster-07"}', now),
        look_up("values, 1 M different", "label/pod/values", "", now),
        look_up("label names", "labels", "", now),
        count("metric and regex", 'bench_0007_total{pod=~"service-.*7"}'),
        count("regex on 1 M values", '{pod=~"service-00012.*"}'),
        count("one pod", '{pod="service-0001234"}'),
    ]


def look_up(name: str, path: str, match: str, now: int) -> Case:
    """Return a label or series request over the last hour, of all series if *match* is empty."""
    parameters = {"start": str(now - _HOUR), "end": str(now)}
    return Case(name, path, parameters | ({"match[]": match} if match else {}), LOOK_UP_BAR)
