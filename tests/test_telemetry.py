"""What /metrics holds."""

from aggregator import telemetry


def test_no_creation_times() -> None:
    """Counters and histograms are exposed without the time at which each series began."""
    telemetry.SAMPLES_WRITTEN.inc()
    telemetry.WRITE_SECONDS.observe(1.0)
    lines = telemetry.render().decode().splitlines()
    names = {line.split("{")[0].split(" ")[0] for line in lines if not line.startswith("#")}
    assert {"aggregator_samples_written_total", "aggregator_write_duration_seconds_count"} <= names
    assert [name for name in names if name.endswith("_created")] == []
