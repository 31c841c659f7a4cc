"""Our own /metrics: every metric the aggregator exposes about itself, in one place.

Names follow Prometheus's conventions: `aggregator_` prefix, base units, `_total` for counters.
"""

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Requests(Collector):
    """Requests by route and status, and how long they took.

    One thread counts all of them, so it does without the locks and layers of the library's own
    counters, which take as long as a small answer does for its parameters.
    """

    def __init__(self, prefix: str, bounds: Sequence[float]) -> None:
        self._prefix, self._bounds = prefix, (*bounds, math.inf)
        self._counts: dict[tuple[str, int], int] = {}
        self._buckets: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}

    def observe(self, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        key = route, status
        self._counts[key] = self._counts.get(key, 0) + 1
        if route not in self._buckets:
            self._seconds[route] = 0.0
            self._buckets[route] = [0] * len(self._bounds)
        self._buckets[route][bisect_left(self._bounds, seconds)] += 1
        self._seconds[route] += seconds

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as the registry wants them; on another thread."""
        requests = CounterMetricFamily(
            f"{self._prefix}_requests",
            "HTTP requests by route and status.",
            None,
            ["route", "status"],
        )
        for (route, status), count in list(self._counts.items()):
            requests.add_metric([route, str(status)], count)
        yield requests
        durations = HistogramMetricFamily(
            f"{self._prefix}_request_duration_seconds",
            "Time to answer a request.",
            None,
            None,
            ["route"],
        )
        names = [floatToGoString(bound) for bound in self._bounds]  # type: ignore[no-untyped-call]  # the library leaves it unannotated
        for route, buckets in list(self._buckets.items()):
            cumulated = zip(names, accumulate(buckets), strict=True)
            durations.add_metric([route], list(cumulated), self._seconds[route])
        yield durations


# They would be one more series for each counter and histogram.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library leaves it unannotated
REGISTRY = CollectorRegistry(auto_describe=False)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

# collection, per cluster
COLLECTIONS = Counter(
    "aggregator_collections_total",
    "Collection cycles by how they ended.",
    ["cluster", "result"],
    registry=REGISTRY,
)
COLLECTION_SECONDS = Histogram(
    "aggregator_collection_duration_seconds",
    "Time one collection cycle took, request to columns.",
    ["cluster"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
LOG_COLLECTIONS = Counter(
    "aggregator_log_collections_total",
    "Turns in which a cluster's Loki was asked for log metrics, by how they ended.",
    ["cluster", "result"],
    registry=REGISTRY,
)
DATA_AGE_SECONDS = Gauge(
    "aggregator_data_age_seconds",
    "Age of the least fresh data that is expected of a cluster.",
    ["cluster"],
    registry=REGISTRY,
)
RESPONSE_BYTES = Counter(
    "aggregator_source_response_bytes_total",
    "Bytes received from a cluster's servers, as sent.",
    ["cluster"],
    registry=REGISTRY,
)
CLUSTER_SERIES = Gauge(
    "aggregator_cluster_series",
    "Series in the last complete answers of a cluster.",
    ["cluster", "kind"],
    registry=REGISTRY,
)
REJECTED = Counter(
    "aggregator_samples_rejected_total",
    "Samples or series of a cluster that were not stored, by reason.",
    ["cluster", "reason"],
    registry=REGISTRY,
)
RENAMED = Counter(
    "aggregator_labels_renamed_total",
    "Labels and names of a cluster's series that were renamed because they are ours.",
    ["cluster", "label"],
    registry=REGISTRY,
)
BINDING_CHANGES = Counter(
    "aggregator_binding_changes_total",
    "Fleet metrics of a cluster that another candidate serves than before.",
    ["cluster"],
    registry=REGISTRY,
)
CYCLES_SKIPPED = Counter(
    "aggregator_collections_skipped_total",
    "Ticks of a cluster that started no cycle, by reason.",
    ["cluster", "reason"],
    registry=REGISTRY,
)

# writer and pools
QUEUE_SAMPLES = Gauge(
    "aggregator_writer_queue_samples", "Samples waiting for the writer.", registry=REGISTRY
)
QUEUE_LIMIT_SAMPLES = Gauge(
    "aggregator_writer_queue_limit_samples",
    "Samples that may wait for the writer before collectors are held back.",
    registry=REGISTRY,
)
SAMPLES_WRITTEN = Counter("aggregator_samples_written_total", "Samples stored.", registry=REGISTRY)
WRITE_SECONDS = Histogram(
    "aggregator_write_duration_seconds",
    "Time one batch took to become durable.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
SAMPLES_LEFT_OUT = Counter(
    "aggregator_samples_left_out_total",
    "Samples the store did not add: stored before, in conflict with a stored one, or refused.",
    ["reason"],
    registry=REGISTRY,
)
WRITE_FAILURES = Counter(
    "aggregator_write_failures_total",
    "Batches the store did not take; they are tried again.",
    registry=REGISTRY,
)
POOL_BUSY = Gauge("aggregator_pool_busy_threads", "Threads at work.", ["pool"], registry=REGISTRY)
POOL_SIZE = Gauge("aggregator_pool_threads", "Threads a pool may use.", ["pool"], registry=REGISTRY)
POOL_WAITING = Gauge(
    "aggregator_pool_waiting_jobs",
    "Jobs submitted and not yet running.",
    ["pool"],
    registry=REGISTRY,
)
POOL_WAIT_SECONDS = Histogram(
    "aggregator_pool_wait_seconds",
    "Time between the submission of a job and its start.",
    ["pool"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
LEAF_READS = Counter(
    "aggregator_leaf_reads_total",
    "Times a query read samples of up to some thousand series, by where they came from.",
    ["path"],
    registry=REGISTRY,
)
STORE_SERIES = Gauge("aggregator_store_series", "Series the store knows.", registry=REGISTRY)
RUNNER_FAILURES = Counter(
    "aggregator_runner_failures_total",
    "Unexpected exceptions that a supervised thread or job survived.",
    ["runner"],
    registry=REGISTRY,
)

# queries, rules, notifications
HTTP_REQUESTS = Requests("aggregator_http", _SECONDS)
REGISTRY.register(HTTP_REQUESTS)
RULE_EVALUATIONS = Counter(
    "aggregator_rule_evaluations_total",
    "Rule evaluations by result.",
    ["group", "result"],
    registry=REGISTRY,
)
RULE_GROUP_SECONDS = Histogram(
    "aggregator_rule_group_duration_seconds",
    "Time one evaluation of a rule group took.",
    ["group"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
ALERTS = Gauge("aggregator_alerts", "Alerts by state.", ["state"], registry=REGISTRY)
GRAFANA_RUNS = Counter(
    "aggregator_grafana_runs_total",
    "Times that data source and dashboards were compared with Grafana, by result.",
    ["result"],
    registry=REGISTRY,
)
NOTIFICATIONS = Counter(
    "aggregator_notifications_total",
    "Notifications by receiver and result.",
    ["receiver", "result"],
    registry=REGISTRY,
)


_PER_CLUSTER = (
    COLLECTIONS,
    COLLECTION_SECONDS,
    DATA_AGE_SECONDS,
    RESPONSE_BYTES,
    CLUSTER_SERIES,
    REJECTED,
    RENAMED,
    BINDING_CHANGES,
    LOG_COLLECTIONS,
    CYCLES_SKIPPED,
)


def forget_cluster(cluster: str) -> None:
    """Drop what is exposed about a cluster that left the registry."""
    for metric in _PER_CLUSTER:
        metric.remove_by_labels({"cluster": cluster})


def render() -> bytes:
    """Return every metric in the text exposition format."""
    return generate_latest(REGISTRY)
