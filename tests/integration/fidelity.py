"""Compares the centre with real sources while targets, pods, exporters and labels change.

Three real Prometheus servers scrape real expositions and are copied raw. Afterwards, at many
instants, what the centre counts and sums must be what each source itself answers, and every copied
sample must equal the source's bit for bit.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import requests

from tests.expositions import ExposedCluster, exposed
from tests.servers import RealServer, aggregator, prometheus, wait_until

FOLDERS = {"k8s-131": "kubernetes-1.31", "k8s-135": "kubernetes-1.35", "hosts": "node-exporter"}
SELECTOR = (
    '{__name__=~"up|kube_.*|container_memory_.*|container_cpu_.*|node_.*|etcd_server_.*'
    '|apiserver_request_total|process_.*"}'
)


@dataclass(frozen=True)
class Pace:
    """How fast everything happens, in seconds."""

    scrape: int
    interval: int
    lag: int
    before: float
    between: float
    after: float
    without: tuple[str, ...] = ()

    @property
    def blind_seconds(self) -> float:
        """For how long after an event the centre may still differ: two collection intervals."""
        return 2 * self.interval

    @property
    def settled_seconds(self) -> float:
        """How old an instant is, at most, when the centre has everything of it."""
        return 2 * self.interval + self.lag + self.scrape


# The API server's exposition is two thirds of all: too much to render every other second.
QUICK = Pace(scrape=2, interval=3, lag=2, before=22, between=12, after=48, without=("api-server",))
LONG = Pace(scrape=5, interval=10, lag=5, before=60, between=90, after=400)


@dataclass
class Source:
    """One cluster: what it exposes, and the Prometheus that scrapes it."""

    name: str
    exposition: ExposedCluster
    server: RealServer
    config: Path

    def scrape_without(self, component: str, pace: Pace) -> None:
        """Take one target out of the Prometheus's configuration."""
        kept = {
            name: lines for name, lines in self.exposition.components.items() if name != component
        }
        rest = ExposedCluster(kept, url=self.exposition.url)
        self.config.write_text(rest.scrape_config(f"{pace.scrape}s"))
        requests.post(f"{self.server.url}/-/reload", timeout=10).raise_for_status()


@contextlib.contextmanager
def fleet(base: Path, expositions: Path, pace: Pace) -> Iterator[tuple[list[Source], RealServer]]:
    """Start sources and centre; both end with the block."""
    with contextlib.ExitStack() as stack:
        sources = []
        for name, folder in FOLDERS.items():
            cluster = stack.enter_context(exposed(expositions / folder, without=pace.without))
            config = cluster.scrape_config(f"{pace.scrape}s")
            server = stack.enter_context(prometheus(base / name, config))
            sources.append(Source(name, cluster, server, base / name / "prometheus.yml"))
        clusters = "".join(
            f"  - {{name: {source.name}, region: test, "
            f"prometheus: {{url: '{source.server.url}'}}}}\n"
            for source in sources
        )
        config = (
            f"collect:\n  interval: {pace.interval}s\n  lag: {pace.lag}s\n  profile: []\n"
            f"  limits: {{series: 100000}}\n  raw: [{{match: '{SELECTOR}'}}]\nclusters:\n{clusters}"
        )
        yield sources, stack.enter_context(aggregator(base / "centre", config))


def play(sources: list[Source], pace: Pace) -> tuple[float, list[float], float]:
    """Let things happen; return when the comparison may begin, the events' times, and the end."""
    time.sleep(pace.before)
    old, new, hosts = sources
    begin = time.time() - pace.before / 2
    events = []
    pod = next(
        line.split('pod="', 1)[1].split('"', 1)[0]
        for line in new.exposition.components["ksm"].lines
        if isinstance(line, str) and 'pod="' in line
    )
    for happen in (
        lambda: old.scrape_without("scheduler", pace),
        lambda: new.exposition.vanished_pods.add(pod),
        lambda: hosts.exposition.restart("node-exporter"),
        lambda: old.exposition.replaced.update({'phase="Running"': 'phase="Succeeded"'}),
        lambda: new.exposition.gone.add("etcd"),
    ):
        happen()
        events.append(time.time())
        time.sleep(pace.between)
    time.sleep(pace.after)
    return begin, events, time.time() - pace.settled_seconds


def instants(
    begin: float, events: list[float], end: float, pace: Pace, count: int
) -> tuple[float, float, list[int]]:
    """Return first time, step and those of the steps that lie outside the blind windows."""
    step = max(round((end - begin) / (2 * count), 3), 0.001)
    first = round(begin, 3)
    kept = [
        index
        for index in range(int((end - begin) / step))
        if not any(event <= first + index * step < event + pace.blind_seconds for event in events)
    ]
    assert len(kept) >= count, "the run is too short for the number of instants"
    return first, step, kept


def ask(base: str, query: str, moment: float) -> list[dict]:
    """Return the result of one instant query."""
    answer = requests.post(
        f"{base}/api/v1/query", data={"query": query, "time": f"{moment:.3f}"}, timeout=60
    )
    body = answer.json()
    assert body["status"] == "success", body
    return body["data"]["result"]


def over_time(
    base: str, query: str, first: float, step: float, count: int
) -> dict[str, np.ndarray]:
    """Return the value at every step by the label `cluster`, NaN where there is none."""
    end = first + step * (count - 1)
    form = {"query": query, "start": f"{first:.3f}", "end": f"{end:.3f}", "step": f"{step:.3f}"}
    answer = requests.post(f"{base}/api/v1/query_range", data=form, timeout=120)
    body = answer.json()
    assert body["status"] == "success", body
    found = {}
    for row in body["data"]["result"]:
        values = np.full(count, np.nan)
        for moment, value in row["values"]:
            values[round((moment - first) / step)] = float(value)
        found[row["metric"].get("cluster", "")] = values
    return found


def unplanned(sources: list[Source], begin: float, end: float) -> list[float]:
    """Return when the number of targets that a source reaches changed.

    A scrape that fails on a busy machine makes series end and return, like any other event.
    """
    count = int(end - begin)
    found = []
    for source in sources:
        (reached,) = over_time(source.server.url, "sum(up)", begin, 1.0, count).values()
        found += [begin + second for second in np.flatnonzero(np.diff(reached)).tolist()]
    return found


def compare_instants(
    sources: list[Source], centre: RealServer, first: float, step: float, kept: list[int]
) -> int:
    """Compare count and sum at every kept step; return how many comparisons were made."""
    compared = 0
    count = kept[-1] + 1
    for function, tolerance in (("count", 0.0), ("sum", 1e-12)):
        query = f"{function} by (cluster) ({SELECTOR})"
        ours = over_time(f"{centre.url}/prometheus", query, first, step, count)
        for source in sources:
            (theirs,) = over_time(
                source.server.url, f"{function}({SELECTOR})", first, step, count
            ).values()
            own = ours[source.name]
            equal = np.isclose(own[kept], theirs[kept], tolerance, 0, equal_nan=True)
            wrong = [
                (round(first + step * kept[row], 3), own[kept[row]], theirs[kept[row]])
                for row in np.flatnonzero(~equal)
            ]
            assert not wrong, f"{function} of {source.name}: (time, centre, source) {wrong[:5]}"
            compared += len(kept)
    return compared


def compare_samples(sources: list[Source], centre: RealServer, end: float, seconds: int) -> int:
    """Compare every sample of the last *seconds*; return how many are equal, bit for bit."""
    copied = 0
    for source in sources:
        theirs = samples(ask(source.server.url, f"{SELECTOR}[{seconds}s]", end))
        matcher = f'cluster="{source.name}",'
        selector = SELECTOR.replace("{", "{" + matcher, 1)
        ours = samples(ask(f"{centre.url}/prometheus", f"{selector}[{seconds}s]", end))
        missing = theirs.keys() - ours.keys()
        assert not missing, f"{source.name}: {len(missing)} series are missing: {list(missing)[:3]}"
        for labels, pairs in theirs.items():
            own = ours[labels]
            # Prometheus 2 includes the sample at the window's left edge, the centre does not.
            edge = round((end - seconds) * 1000)
            expected = {stamp: value for stamp, value in pairs.items() if stamp > edge}
            assert own == expected, f"{source.name} {labels}: {own} is not {expected}"
            copied += len(expected)
    return copied


def samples(result: list[dict]) -> dict[tuple, dict[int, float | str]]:
    """Return time → value for each label set, without the labels the centre stamps."""
    found = {}
    for row in result:
        labels = {
            name: value
            for name, value in row["metric"].items()
            if name not in ("cluster", "region")
        }
        labels |= {
            name.removeprefix("exported_"): labels.pop(name)
            for name in ("exported_cluster", "exported_region")
            if name in labels
        }
        key = tuple(sorted(labels.items()))
        found[key] = {
            round(stamp * 1000): "NaN" if value == "NaN" else float(value)
            for stamp, value in row["values"]
        }
    return found


def run(base: Path, expositions: Path, pace: Pace, count: int) -> tuple[int, int]:
    """Run everything; return how many instants were compared and how many samples are equal."""
    with fleet(base, expositions, pace) as (sources, centre):
        for source in sources:
            wait_until(
                lambda url=source.server.url: ask(url, f"count({SELECTOR})", time.time()),
                30,
                f"{source.name} has been scraped",
            )
        begin, events, end = play(sources, pace)
        events += unplanned(sources, round(begin - pace.blind_seconds), end)
        first, step, kept = instants(begin, events, end, pace, count)
        compared = compare_instants(sources, centre, first, step, kept)
        copied = compare_samples(sources, centre, round(end, 3), int(end - begin))
    return compared, copied
