"""The requests that one refresh of a 25-panel dashboard makes, as Grafana sends them."""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlencode

PANELS = 25
_STEP, _HOUR = 30, 3_600
_FORM = "Content-Type: application/x-www-form-urlencoded\r\n"

# Time series panels, some with two queries; $who is the chosen namespace or job.
_RANGES = (
    ("sum by (job) (rate(bench_counter_00{$who}[2m]))", 1),
    ("sum by (job) (rate(bench_counter_01{$who}[2m]))", 1),
    ("sum(rate(bench_counter_02{$who}[2m])) / sum(rate(bench_counter_03{$who}[2m]))", 1),
    ("topk(5, sum by (pod) (rate(bench_counter_04{$who}[2m])))", 1),
    ("histogram_quantile(0.9, sum by (le) (rate(bench_seconds_bucket{$who}[2m])))", 1),
    ("histogram_quantile(0.5, sum by (le) (rate(bench_seconds_bucket{$who}[2m])))", 1),
    ("avg(bench_gauge{$who})", 1),
    ("max(bench_gauge{$who})", 1),
    ("bench_gauge{$who}", 1),
    ("rate(bench_counter_05{$who}[2m])", 1),
    ("sum by (instance) (irate(bench_counter_06{$who}[2m]))", 1),
    ("count by (version) (bench_info{$who})", 1),
    ("max_over_time(bench_gauge{$who}[10m])", 1),
    ("sum(increase(bench_counter_07{$who}[5m]))", 6),
    ("avg(rate(bench_counter_08{$who}[5m]))", 6),
    ("sum by (job) (rate(bench_counter_09{$who}[5m]))", 6),
    ("quantile(0.95, rate(bench_counter_10{$who}[5m]))", 6),
    ("rate(bench_counter_11{$who}[5m]) * on (pod) group_left (version) bench_info", 1),
)
# Stat and table panels.
_INSTANTS = (
    "count(bench_info{$who})",
    "sum(rate(bench_counter_12{$who}[5m]))",
    "sum(increase(bench_counter_13{$who}[1h]))",
    "avg(bench_gauge{$who})",
    "max(max_over_time(bench_gauge{$who}[1h]))",
    "count(bench_gauge{$who} > 100)",
    "sum(bench_counter_14)",
    "bench_info{$who}",
    "topk(10, bench_gauge)",
    "sum by (pod) (rate(bench_counter_15{$who}[5m]))",
    "sort_desc(sum by (namespace) (rate(bench_counter_16[5m])))",
)
_VARIABLES = (
    ("namespace", "bench_info"),
    ("pod", 'bench_info{job="job-3"}'),
    ("job", 'bench_gauge{namespace="team-3"}'),
)


@dataclass(frozen=True, slots=True)
class Ask:
    """One HTTP/1.1 request, ready to be sent."""

    kind: str
    data: bytes


def refresh(host: str, prefix: str, client: int, now: int) -> list[Ask]:
    """Return the requests of one refresh, those of the variables first."""
    who = f'namespace="team-{client}"' if client % 2 else f'job="job-{client % 10}"'
    return list(_asks(host, f"{prefix}/api/v1", who, now))


def _asks(host: str, base: str, who: str, now: int) -> Iterator[Ask]:
    head = f"Host: {host}\r\nAccept-Encoding: gzip\r\nUser-Agent: Grafana/13.0.0\r\n"

    def post(kind: str, path: str, parameters: dict[str, str]) -> Ask:
        form = urlencode(parameters)
        lines = f"POST {base}/{path} HTTP/1.1\r\n{head}{_FORM}Content-Length: {len(form)}\r\n\r\n"
        return Ask(kind, f"{lines}{form}".encode())

    for label, match in _VARIABLES:
        span = {"match[]": match, "start": str(now - _HOUR), "end": str(now), "limit": "40000"}
        target = f"{base}/label/{label}/values?{urlencode(span)}"
        yield Ask("label", f"GET {target} HTTP/1.1\r\n{head}\r\n".encode())
    for query, hours in _RANGES:
        end = now // _STEP * _STEP  # Grafana aligns ranges to steps, nothing else
        window = {"start": str(end - hours * _HOUR), "end": str(end), "step": str(_STEP)}
        yield post("range", "query_range", {"query": query.replace("$who", who), **window})
    for query in _INSTANTS:
        moment = {"query": query.replace("$who", who), "time": str(now)}
        yield post("instant", "query", moment)
