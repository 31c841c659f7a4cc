"""The same samples in a real Prometheus and in our store, and one query answered by both."""

import itertools
import math
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import requests

from aggregator.errors import QueryError
from aggregator.model.budget import Budget
from aggregator.model.samples import STALE, SampleBlock
from aggregator.model.stepmatrix import StepRange
from aggregator.promql.engine import Engine
from aggregator.promql.result import QueryResult
from aggregator.promql.windows import PROMETHEUS_2
from aggregator.store.memory import MemoryStore
from tests.benchmarks.remote_write import series_bytes, write_request
from tests.promql.queries import Query
from tests.servers import prometheus

# near zero, so that what fails can be written as a script; far enough from it for every offset
START_MS = 120_000
SPAN_MS = 40 * 60_000
FLAGS = ("--web.enable-remote-write-receiver", "--storage.tsdb.retention.time=100y")

# Label sets without absent labels, and the values by time in ms.
Result = dict[frozenset[tuple[str, str]], dict[int, float]]


@dataclass
class Dataset:
    """Series by label set, and the largest finite value of each metric."""

    series: list[tuple[dict[str, str], np.ndarray, np.ndarray]] = field(default_factory=list)

    def add(self, labels: dict[str, str], times: np.ndarray, values: np.ndarray) -> None:
        """Add a series."""
        self.series.append((labels, times.astype(np.int64), values.astype(np.float64)))

    def largest(self, text: str) -> float:
        """Return the largest absolute finite value of the metrics named in a query."""
        return max(
            (
                float(np.abs(values[np.isfinite(values)]).max(initial=0))
                for labels, _, values in self.series
                if labels["__name__"] in text
            ),
            default=0.0,
        )


def random_dataset(seed: int) -> Dataset:
    """Return gauges, counters with resets, sparse and wild series, an info metric, histograms.

    The samples of `even_total` have the same times in all series. Those of `restarted` by one job
    and inst follow one another, as pods do.
    """
    generator = np.random.default_rng(seed)
    data = Dataset()
    for job in ("a", "b"):
        for inst in ("1", "2", "3"):
            labels = {"job": job, "inst": inst}
            size = SPAN_MS // 15_000
            times = START_MS + np.arange(size) * 15_000 + generator.integers(-300, 300, size)
            whole = START_MS + np.arange(size) * 15_000
            gauge = generator.normal(size=size) * 10.0 ** generator.integers(-2, 5)
            data.add({"__name__": "gauge", **labels}, times, gauge)
            counter = np.cumsum(generator.poisson(3.0, size) * generator.choice([1.0, 0.25]))
            fall = np.where(generator.random(size) < 0.03, counter, 0)
            counter -= np.maximum.accumulate(fall)
            gap = generator.random(size) > 0.1
            data.add({"__name__": "counter_total", **labels}, times[gap], counter[gap])
            few = np.sort(generator.choice(size, 25, replace=False))
            data.add({"__name__": "sparse", **labels}, whole[few], np.round(gauge[few]) + 0.0)
            odd = generator.choice([math.nan, math.inf, -math.inf, STALE, 0.0, 7.0], size)
            wild = np.where(generator.random(size) < 0.25, odd, np.round(gauge) + 0.0)
            data.add({"__name__": "wild", **labels}, whole, wild)
    for inst in ("1", "2", "3"):
        labels = {"__name__": "info", "inst": inst, "version": f"v{inst}"}
        data.add(labels, START_MS + np.arange(160) * 15_000, np.ones(160))
    for job in ("a", "b"):
        _add_histogram(data, job, generator)
    _add_even_counters(data, generator)
    _add_restarted(data, generator)
    return data


def _add_restarted(data: Dataset, generator: np.random.Generator) -> None:
    times = START_MS + np.arange(SPAN_MS // 15_000) * 15_000
    # as many pods as there are series of a gauge, but not one for each
    for (job, inst), pods in zip(itertools.product("ab", "123"), (2, 0, 1, 3, 0, 0), strict=True):
        if not pods:
            continue
        restarts = np.sort(generator.choice(np.arange(2, times.size - 2), pods - 1, replace=False))
        for pod, lived in enumerate(np.split(times, restarts)):
            values = generator.integers(1, 9, lived.size).astype(np.float64)
            values[-1] = STALE
            labels = {"job": job, "inst": inst, "pod": f"p{pod}"}
            data.add({"__name__": "restarted", **labels}, lived, values)


def _add_even_counters(data: Dataset, generator: np.random.Generator) -> None:
    times = START_MS + np.arange(160) * 15_000 + generator.integers(-300, 300, 160)
    times = times[generator.random(160) > 0.1]
    for job, inst in itertools.product("ab", "123"):
        level = np.cumsum(generator.poisson(3.0, times.size) * 0.25)
        level -= np.maximum.accumulate(np.where(generator.random(times.size) < 0.03, level, 0))
        data.add({"__name__": "even_total", "job": job, "inst": inst}, times, level)


def _add_histogram(data: Dataset, job: str, generator: np.random.Generator) -> None:
    times = START_MS + np.arange(160) * 15_000
    bounds = ("0.1", "0.5", "1", "5", "+Inf")
    counts = np.cumsum(generator.poisson(1.5, (len(bounds), 160)), axis=1).cumsum(axis=0)
    if job == "a":
        counts[2] -= generator.integers(0, 3, 160).cumsum() % 5
    for bound, count in zip(bounds, counts, strict=True):
        data.add({"__name__": "hist_bucket", "job": job, "le": bound}, times, count)


@dataclass(frozen=True)
class Answers:
    """What two engines say, the first being right, and the largest value that they read."""

    theirs: Result | str
    ours: Result | str
    largest: float

    def differences(self) -> str:
        """Return how the answers differ, empty if they do not; a failure equals any other."""
        if isinstance(self.theirs, str) or isinstance(self.ours, str):
            if isinstance(self.theirs, str) == isinstance(self.ours, str):
                return ""
            return f"expected {self.theirs}\ngot {self.ours}"
        lines = [f"unexpected {dict(key)}" for key in self.ours.keys() - self.theirs.keys()]
        lines += [f"missing {dict(key)}" for key in self.theirs.keys() - self.ours.keys()]
        for key in self.theirs.keys() & self.ours.keys():
            theirs, ours = self.theirs[key], self.ours[key]
            for time in sorted(theirs.keys() | ours.keys()):
                wanted, got = theirs.get(time), ours.get(time)
                if wanted is None or got is None or not _close(wanted, got, self.largest):
                    lines.append(f"{dict(key)} at {time}: expected {wanted}, got {got}")
        return "\n".join(lines[:10])


class Peer:
    """Both engines on one dataset."""

    def __init__(self, url: str, engine: Engine, data: Dataset) -> None:
        self.url, self.engine, self.data = url, engine, data

    def theirs(self, query: Query) -> Result | str:
        """Return Prometheus's answer, or its error."""
        seconds = query.start_ms / 1000
        parameters: dict[str, str] = {"query": query.text}
        if query.count == 1:
            path, parameters["time"] = "query", f"{seconds:.3f}"
        else:
            path, parameters["start"] = "query_range", f"{seconds:.3f}"
            parameters["end"] = f"{seconds + (query.count - 1) * query.step_ms / 1000:.3f}"
            parameters["step"] = f"{query.step_ms / 1000:.3f}"
        body = urllib.parse.urlencode(parameters).encode()
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}", body, timeout=30) as reply:  # noqa: S310  always http
                data = msgspec.json.decode(reply.read())["data"]
        except urllib.error.HTTPError as error:
            with error:
                return str(msgspec.json.decode(error.read())["error"])
        if data["resultType"] == "scalar":
            return _parsed([{"metric": {}, "value": data["result"]}])
        return _parsed(data["result"])

    def ours(self, query: Query) -> Result | str:
        """Return our answer, or our error."""
        try:
            if query.count == 1:
                result = self.engine.instant(query.text, query.start_ms, Budget())
            else:
                steps = StepRange(query.start_ms, query.step_ms, query.count)
                result = self.engine.range(query.text, steps, Budget())
        except QueryError as error:
            return str(error)
        return as_result(result)

    def answers(self, query: Query) -> "Answers":
        """Return both answers."""
        return Answers(self.theirs(query), self.ours(query), self.data.largest(query.text))


@contextmanager
def peers(directory: Path, data: Dataset):
    """Run a Prometheus that holds *data*, beside our engine with Prometheus 2.42's windows."""
    store = MemoryStore()
    ids = store.series_ids([labels for labels, _, _ in data.series])
    for number, (_, times, values) in zip(ids, data.series, strict=True):
        store.write(SampleBlock(np.full(times.size, number, np.uint32), times, values))
    with prometheus(directory, flags=FLAGS) as server:
        for labels, times, values in sorted(data.series, key=lambda each: int(each[1][0])):
            body = write_request([series_bytes(labels)], times, values[None, :])
            answer = requests.post(f"{server.url}/api/v1/write", body, timeout=30)
            assert answer.status_code == 204, answer.text
        yield Peer(server.url, Engine(store, rules=PROMETHEUS_2), data)


def _close(wanted: float, got: float, largest: float) -> bool:
    return bool(np.isclose(got, wanted, rtol=1e-9, atol=1e-12 * largest, equal_nan=True))


def _parsed(series: Sequence[Mapping]) -> Result:
    return {
        frozenset(one["metric"].items()): {
            round(float(time) * 1000): float(value)
            for time, value in (one.get("values") or [one["value"]])
        }
        for one in series
    }


def as_result(result: QueryResult) -> Result:
    """Return the series, times and values of a result."""
    if result.ranges is not None:
        runs = result.ranges.samples
        bounds = itertools.pairwise(runs.offsets.tolist())
        return {
            frozenset(labels.items()): dict(
                zip(runs.times[low:high].tolist(), runs.values[low:high].tolist(), strict=True)
            )
            for labels, (low, high) in zip(result.ranges.labels.dicts(), bounds, strict=True)
        }
    assert result.matrix is not None
    matrix, times = result.matrix, result.steps.times().tolist()
    return {
        frozenset(labels.items()): {
            time: value for time, value, there in zip(times, values, present, strict=True) if there
        }
        for labels, values, present in zip(
            matrix.series.dicts(), matrix.values.tolist(), matrix.present.tolist(), strict=True
        )
        if any(present)
    }
