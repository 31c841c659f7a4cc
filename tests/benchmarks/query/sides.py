"""The three servers of a comparison: filled with the same samples, started, asked, read."""

import contextlib
import http.client
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import numpy as np
import orjson
import psutil
import requests

from aggregator.model.arrays import Floats, Ids, Ints
from aggregator.model.samples import SampleBlock
from aggregator.store.open import open_store
from aggregator.store.settings import StoreSettings
from tests.benchmarks.query.cases import Case
from tests.benchmarks.query.data import Metric, by_time
from tests.benchmarks.remote_write import series_bytes, write_request
from tests.servers import RealServer, aggregator, prometheus, victoria_metrics

PROMETHEUS_FLAGS = (
    "--web.enable-remote-write-receiver",
    "--storage.tsdb.retention.time=60d",
)
# caches of answers off, limits of a million series raised
VICTORIA_FLAGS = (
    "-search.disableCache",
    "-retentionPeriod=3",
    "-search.maxUniqueTimeseries=2000000",
    "-search.maxTagValues=2000000",
    "-search.maxSeries=2000000",
)
_BLOCK_SAMPLES = 200_000
_SERIES_A_REQUEST = 500
_CALM_SECONDS, _PATIENCE_SECONDS = 3.0, 180.0


@dataclass
class Side:
    """One server under comparison."""

    name: str
    prefix: str
    server: RealServer
    extra: Mapping[str, str]

    def __post_init__(self) -> None:
        self._host = urlsplit(self.server.url).netloc
        self._connection = http.client.HTTPConnection(self._host, timeout=300)

    def ask(self, case: Case) -> tuple[float, bytes]:
        """Return milliseconds until the last byte of the answer, and the answer."""
        parameters = urlencode({**case.parameters, **self.extra})
        target, body, headers = f"{self.prefix}/api/v1/{case.path}", None, {}
        if case.path.startswith("label/"):
            target = f"{target}?{parameters}"
        else:
            body = parameters
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        method = "GET" if body is None else "POST"
        begun = time.perf_counter()
        self._connection.request(method, target, body, headers)
        answer = self._connection.getresponse()
        content = answer.read()
        took = 1000 * (time.perf_counter() - begun)
        if answer.status != 200:
            raise SystemExit(f"{self.name}: {case.name}: {content[:300]!r}")
        return took, content

    def peak_rss_mb(self) -> float:
        """Return the highest resident size the process ever had, in MiB (Linux)."""
        for line in Path(f"/proc/{self.server.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        raise SystemExit("no VmHWM: this benchmark runs on Linux")


@contextlib.contextmanager
def peers(directory: Path) -> Iterator[tuple[RealServer, RealServer]]:
    """Run an empty Prometheus and an empty VictoriaMetrics."""
    with (
        prometheus(directory / "prometheus", flags=PROMETHEUS_FLAGS) as first,
        victoria_metrics(directory / "victoria", VICTORIA_FLAGS) as second,
    ):
        yield first, second


@contextlib.contextmanager
def sides(directory: Path, servers: tuple[RealServer, RealServer]) -> Iterator[list[Side]]:
    """Run ours on the store in *directory*, and yield ours, Prometheus and VictoriaMetrics."""
    with aggregator(directory, "clusters: []\n") as ours:
        yield [
            Side("ours", "/prometheus", ours, {}),
            Side("Prometheus", "", servers[0], {}),
            Side("VictoriaMetrics", "", servers[1], {"nocache": "1"}),
        ]


def fill_store(made: Iterable[Metric], path: Path) -> None:
    """Write the data into a store at *path*."""
    store = open_store(StoreSettings(path=path))
    for metric in made:
        ids = store.series_ids(metric.labels)
        held: list[tuple[Ints, Floats]] = []
        for times, values in metric.slices():
            held.append((times, values))
            if sum(part.size for _, part in held) >= _BLOCK_SAMPLES:
                store.write(_block(ids, held))
                held = []
        if held:
            store.write(_block(ids, held))
    store.close()


def fill_peers(made: list[Metric], servers: Iterable[RealServer]) -> None:
    """Send the data to the remote-write receivers, and wait until it can be read."""
    heads = {metric.name: [series_bytes(labels) for labels in metric.labels] for metric in made}
    urls = [server.url for server in servers]
    with requests.Session() as session:
        for metric, times, values in by_time(made):
            send(session, urls, heads[metric.name], times, values)
        flush(session, urls[1])


def send(
    session: requests.Session, urls: list[str], heads: list[bytes], times: Ints, values: Floats
) -> None:
    """Send `values[series, times]` to every receiver."""
    for row in range(0, len(heads), _SERIES_A_REQUEST):
        rows = slice(row, row + _SERIES_A_REQUEST)
        body = write_request(heads[rows], times, values[rows])
        for url in urls:
            answer = session.post(f"{url}/api/v1/write", data=body, timeout=120)
            if answer.status_code != 204:
                raise SystemExit(f"{url} refused the data: {answer.text[:300]}")


def flush(session: requests.Session, victoria_url: str) -> None:
    """Have VictoriaMetrics show what it took."""
    session.get(f"{victoria_url}/internal/force_flush", timeout=60).raise_for_status()


def settle(compared: list[Side], end_ms: int) -> None:
    """Wait until *end_ms* has come and no server compacts or merges any more."""
    processes = [psutil.Process(side.server.process.pid) for side in compared]
    deadline = time.monotonic() + _PATIENCE_SECONDS
    busy = 1.0
    while busy > 0.1 and time.monotonic() < deadline:
        before = [process.cpu_times() for process in processes]
        time.sleep(_CALM_SECONDS)
        after = [process.cpu_times() for process in processes]
        spent = [b.user + b.system - a.user - a.system for a, b in zip(before, after, strict=True)]
        busy = max(spent) / _CALM_SECONDS
    time.sleep(max(0.0, end_ms / 1000 - time.time()))


def digest(body: bytes) -> tuple[int, float]:
    """Return how many series or strings an answer has, and the sum of its finite values."""
    data = orjson.loads(body)["data"]
    if isinstance(data, list):
        return len(data), 0.0
    result = data["result"]
    texts = [
        text for one in result for _, text in (one["values"] if "values" in one else [one["value"]])
    ]
    values = np.array(texts, np.float64)
    return len(result), float(values[np.isfinite(values)].sum())


def _block(ids: Ids, held: list[tuple[Ints, Floats]]) -> SampleBlock:
    times = np.concatenate([times for times, _ in held])
    values = np.concatenate([values for _, values in held], axis=1)
    return SampleBlock(np.repeat(ids, times.size), np.tile(times, ids.size), values.ravel())
