"""What /metrics holds."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from aggregator import telemetry

BOUNDS = (0.005, 0.1, 1.0, 30.0, 1e7)
OBSERVED = st.tuples(
    st.sampled_from(["/api/v1/x", 'a "quoted"\\\n', "refused"]),
    st.sampled_from([200, 404, 503]),
    st.one_of(st.sampled_from([0.0, *BOUNDS]), st.floats(0, 1e9)),
)


def test_no_creation_times() -> None:
    """Counters and histograms are exposed without the time at which each series began."""
    telemetry.SAMPLES_WRITTEN.inc()
    telemetry.WRITE_SECONDS.observe(1.0)
    lines = telemetry.render().decode().splitlines()
    names = {line.split("{")[0].split(" ")[0] for line in lines if not line.startswith("#")}
    assert {"aggregator_samples_written_total", "aggregator_write_duration_seconds_count"} <= names
    assert [name for name in names if name.endswith("_created")] == []


@given(st.lists(OBSERVED, max_size=20))
def test_requests_are_exposed_as_by_the_library(observed) -> None:
    """Our collector exposes to the byte what the library's counter and histogram would."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    requests = telemetry.Requests("our_http", BOUNDS)
    ours.register(requests)
    counter = Counter(
        "our_http_requests_total",
        "HTTP requests by route and status.",
        ["route", "status"],
        registry=theirs,
    )
    histogram = Histogram(
        "our_http_request_duration_seconds",
        "Time to answer a request.",
        ["route"],
        buckets=BOUNDS,
        registry=theirs,
    )
    for route, status, seconds in observed:
        requests.observe(route, status, seconds)
        counter.labels(route, status).inc()
        histogram.labels(route).observe(seconds)
    assert generate_latest(ours) == generate_latest(theirs)
