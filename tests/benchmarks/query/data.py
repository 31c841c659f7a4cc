"""The samples that all three servers hold: made from one seed, by columns, oldest first.

20 counters of 500 series over 24 h at 30 s (28.8 M samples); beside them a gauge, a classic
histogram and an info metric of 500 series each, and 500 counters over 30 d at 5 min.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from aggregator.model.arrays import Floats, Ints

COUNTERS, STEP_MS, LONG_STEP_MS, HOURS, DAYS = 20, 30_000, 300_000, 24, 30
SLICE_MS = 1_800_000
# Queries are evaluated half a minute after whole ones, subqueries at whole minutes, and samples lie
# between: so the closed windows of Prometheus 2.42 hold what left-open ones do.
HALF_MINUTE_MS, PHASE_MS = 30_000, 15_000
BOUNDS = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "5", "+Inf")


class Kind(Enum):
    """How the values of a metric move."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric's series, all sampled at `first_ms + k * step_ms`, `k < count`."""

    name: str
    kind: Kind
    labels: Sequence[dict[str, str]]
    first_ms: int
    step_ms: int
    count: int
    seed: int

    @property
    def samples(self) -> int:
        """How many samples the metric has."""
        return len(self.labels) * self.count

    def slices(self) -> Iterator[tuple[Ints, Floats]]:
        """Yield times `[steps]` (ms) and values `[series, steps]` of half an hour each."""
        random = np.random.default_rng(self.seed)
        size = len(self.labels)
        rates, level = random.uniform(0.5, 300, size), np.zeros(size)
        steps = SLICE_MS // self.step_ms
        for first in range(0, self.count, steps):
            count = min(steps, self.count - first)
            times = self.first_ms + self.step_ms * np.arange(first, first + count, dtype=np.int64)
            match self.kind:
                case Kind.COUNTER:
                    grown = random.poisson(rates[:, None], (size, count))
                case Kind.GAUGE:
                    yield times, rates[:, None] + random.normal(0, 20, (size, count))
                    continue
                case Kind.HISTOGRAM:
                    shape = (size // len(BOUNDS), len(BOUNDS), count)
                    grown = random.poisson(3.0, shape).cumsum(axis=1).reshape(-1, count)
                case Kind.INFO:
                    yield times, np.ones((size, count))
                    continue
            values = level[:, None] + grown.cumsum(axis=1)
            level = values[:, -1]
            yield times, values


def metrics(per_metric: int, end_ms: int) -> list[Metric]:
    """Return every metric; the last samples are before *end_ms*."""
    short = _grid(end_ms, STEP_MS, HOURS * 3_600_000)
    long = _grid(end_ms, LONG_STEP_MS, DAYS * 86_400_000)
    made = [
        Metric(name, Kind.COUNTER, _series(name, per_metric), *short, seed=number)
        for number, name in enumerate(f"bench_counter_{metric:02}" for metric in range(COUNTERS))
    ]
    others = (
        ("bench_gauge", Kind.GAUGE, _series("bench_gauge", per_metric), short),
        ("bench_seconds_bucket", Kind.HISTOGRAM, _buckets(per_metric), short),
        ("bench_info", Kind.INFO, _versions(per_metric), short),
        ("bench_long", Kind.COUNTER, _series("bench_long", per_metric), long),
    )
    made += [
        Metric(name, kind, labels, *grid, seed=100 + number)
        for number, (name, kind, labels, grid) in enumerate(others)
    ]
    return made


def _grid(end_ms: int, step_ms: int, span_ms: int) -> tuple[int, int, int]:
    """Return first time, step and count of samples."""
    count = span_ms // step_ms
    last_ms = (end_ms - PHASE_MS) // step_ms * step_ms + PHASE_MS
    return last_ms - (count - 1) * step_ms, step_ms, count


def by_time(made: Sequence[Metric]) -> Iterator[tuple[Metric, Ints, Floats]]:
    """Yield the slices of all metrics, so that times never fall back by more than a slice."""
    pending = [(metric, metric.slices()) for metric in made]
    heads = [(metric, slices, *next(slices)) for metric, slices in pending]
    while heads:
        place = min(range(len(heads)), key=lambda k: int(heads[k][2][0]))
        metric, slices, times, values = heads[place]
        yield metric, times, values
        following = next(slices, None)
        if following is None:
            del heads[place]
        else:
            heads[place] = (metric, slices, *following)


def _pod(number: int) -> dict[str, str]:
    return {
        "cluster": "bench",
        "region": "bench",
        "job": f"job-{number % 10}",
        "namespace": f"team-{number % 37}",
        "pod": f"service-{number:05}",
        "instance": f"10.0.{number % 17}.{number % 251}:8080",
    }


def _series(name: str, count: int) -> list[dict[str, str]]:
    return [
        {"__name__": name, "series": f"{name}-{number:04}", **_pod(number)}
        for number in range(count)
    ]


def _buckets(count: int) -> list[dict[str, str]]:
    return [
        {"__name__": "bench_seconds_bucket", "le": bound, **_pod(number)}
        for number in range(count // len(BOUNDS))
        for bound in BOUNDS
    ]


def _versions(count: int) -> list[dict[str, str]]:
    return [
        {"__name__": "bench_info", "version": f"v1.{number % 7}", **_pod(number)}
        for number in range(count)
    ]
