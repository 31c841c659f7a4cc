"""Raw copies: the source's samples bit for bit, no more requests than needed, markers at T."""

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest

from aggregator.collect.budget import NewSeries
from aggregator.collect.context import Context
from aggregator.collect.cycle import ClusterCollector
from aggregator.collect.identity import RawLayout, SeriesCache
from aggregator.collect.raw import OVERLAP_MS, RawCopy, take
from aggregator.fleet.settings import RawSelector
from aggregator.sources.prometheus import Answer
from aggregator.state.watermarks import Watermark
from tests.collect.stage import T0, Response, Stage, profile, raw_series

STEP = 15_000
UP = raw_series("up", job="x")
OTHER = raw_series("up", job="y")


def collector(stage: Stage, match: str = "up", **collect: object) -> ClusterCollector:
    """Return a collector of one raw selector."""
    raw = [{"match": match}]
    return ClusterCollector(stage.cluster(raw=raw, **collect), profile(), stage.context)


def run(stage: Stage, collecting: ClusterCollector, cycles: int = 1) -> None:
    """Run cycles, one interval apart."""
    for _ in range(cycles):
        collecting.cycle()
        stage.clock[0] += STEP


def scrapes(first_ms: int, count: int, step_ms: int = STEP) -> list[tuple[int, float]]:
    """Return samples from T0 + first_ms on."""
    return [(T0 + first_ms + step_ms * n, n + 0.1) for n in range(count)]


def stored(samples: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return samples as the stage shows them."""
    return [(at - T0, value) for at, value in samples]


def windows(stage: Stage) -> list[str]:
    """Return the range queries that came."""
    return [query for query in stage.prometheus.queries if query.endswith("ms]")]


def instants(stage: Stage) -> int:
    """Return how often the instant vector was asked for."""
    return sum(query.startswith("{") and query.endswith("}") for query in stage.prometheus.queries)


def test_copies_are_exact(stage: Stage):
    """Every sample arrives with the source's time and value, from 5 minutes before the start on."""
    stage.prometheus.raw[UP] = samples = scrapes(-400_123, 40)
    run(stage, collector(stage), 6)
    wanted = [s for s in samples if T0 - 300_000 < s[0] <= T0 + 5 * STEP]
    assert stage.samples("up") == {"job=x": stored(wanted)}
    assert stage.context.watermarks.get("a", "raw:up") == Watermark(
        T0 + 5 * STEP, T0 + 5 * STEP, T0
    )


def test_steady_state_asks_once(stage: Stage):
    """While the same series have new samples, a cycle is one request."""
    stage.prometheus.raw = {UP: scrapes(-290_000, 40), OTHER: scrapes(-291_000, 40)}
    run(stage, collector(stage), 6)
    assert len(windows(stage)) == 6
    assert instants(stage) == 1


def test_only_new_samples_reach_the_writer(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    """The overlap with the last window is not written again."""
    written: list[int] = []
    real = Context.store

    def counted(self, block, on_stored):
        written.append(len(block))
        real(self, block, on_stored)

    monkeypatch.setattr(Context, "store", counted)
    stage.prometheus.raw[UP] = scrapes(-290_000, 40)
    run(stage, collector(stage), 6)
    assert written[1:] == [1] * 5


def test_late_appended_sample_is_copied(stage: Stage):
    """A scrape stamped before the watermark and appended after it is in the overlap."""
    samples = stage.prometheus.raw[UP] = scrapes(-290_000, 15)
    collecting = collector(stage)
    run(stage, collecting)
    late = [(T0 - 2_000, 7.0), (T0 + 5_000, 8.0)]
    samples += late
    run(stage, collecting)
    assert stage.samples("up")["job=x"][-2:] == stored(late)


def test_out_of_order_sample_is_copied(stage: Stage):
    """A sample that appears between stored ones within the overlap is found by the count."""
    samples = stage.prometheus.raw[UP] = [(T0 - 12_000, 1.0), (T0 - 4_000, 3.0)]
    collecting = collector(stage)
    run(stage, collecting)
    samples.insert(1, (T0 - 8_000, 2.0))
    samples.append((T0 + 4_000, 4.0))
    run(stage, collecting)
    assert [value for _, value in stage.samples("up")["job=x"]] == [1.0, 2.0, 3.0, 4.0]


def test_vanished_series_ends_at_t(stage: Stage):
    """A series that the source does not show at T any more gets a marker at T, and only then."""
    stage.prometheus.raw = {UP: scrapes(-290_000, 60), OTHER: scrapes(-290_000, 21)}
    stage.prometheus.ended[OTHER] = T0 + 20_000
    run(stage, collector(stage), 6)
    found = stage.samples("up")
    assert found["job=y"][-1] == (2 * STEP, "stale")
    assert "stale" not in [value for _, value in found["job=x"]]


def test_slow_scrapes_end_nothing(stage: Stage):
    """No sample in one window means nothing while the source still shows the series."""
    stage.prometheus.raw = {UP: scrapes(-280_000, 60), OTHER: scrapes(-280_000, 10, 60_000)}
    run(stage, collector(stage), 12)
    assert "stale" not in [value for _, value in stage.samples("up")["job=y"]]


def test_series_that_returns(stage: Stage):
    """A series that ended and comes back has its samples again after the marker."""
    back = scrapes(65_000, 10)
    stage.prometheus.raw = {UP: scrapes(-290_000, 60), OTHER: [*scrapes(-290_000, 20)]}
    stage.prometheus.ended[OTHER] = T0 + 1_000
    collecting = collector(stage)
    run(stage, collecting, 4)
    stage.prometheus.raw[OTHER] += back
    del stage.prometheus.ended[OTHER]
    run(stage, collecting, 4)
    assert stage.samples("up")["job=y"][-4:] == [(STEP, "stale"), *stored(back[:3])]


def test_failure_in_between_loses_nothing(stage: Stage):
    """After cycles that failed the next window reaches back to the watermark."""
    samples = stage.prometheus.raw[UP] = scrapes(-290_000, 60)
    collecting = collector(stage)
    run(stage, collecting, 2)
    stage.prometheus.fail = Response(503, b"")
    run(stage, collecting, 3)
    stage.prometheus.fail = None
    run(stage, collecting)
    assert stage.samples("up")["job=x"] == stored([s for s in samples if s[0] <= T0 + 5 * STEP])
    assert stage.context.gaps.open("a") == ()


def test_refused_block_is_sent_again(stage: Stage):
    """What the writer did not take comes with the next window."""
    samples = stage.prometheus.raw[UP] = scrapes(-290_000, 60)
    collecting = collector(stage)
    run(stage, collecting, 2)
    stage.accepting[0] = False
    run(stage, collecting)
    stage.accepting[0] = True
    run(stage, collecting)
    assert stage.samples("up")["job=x"] == stored([s for s in samples if s[0] <= T0 + 3 * STEP])


def test_long_outage_is_a_gap(stage: Stage):
    """What lies before the longest window is a gap in the ledger."""
    stage.prometheus.raw[UP] = scrapes(-290_000, 100)
    collecting = collector(stage)
    run(stage, collecting)
    stage.clock[0] += 39 * STEP
    run(stage, collecting)
    [gap] = stage.context.gaps.open("a")
    assert (gap.subject, gap.start_ms, gap.end_ms) == ("raw:up", T0, T0 + 40 * STEP - 300_000)


def test_restart_continues_from_the_watermark(stage: Stage):
    """A new process writes the overlap again, which changes nothing, and misses nothing."""
    samples = stage.prometheus.raw[UP] = scrapes(-290_000, 60)
    run(stage, collector(stage), 2)
    run(stage, collector(stage), 2)
    assert stage.samples("up")["job=x"] == stored([s for s in samples if s[0] <= T0 + 3 * STEP])
    assert windows(stage)[2].endswith(f"[{STEP + OVERLAP_MS}ms]")


def test_what_vanishes_during_a_restart_ends(stage: Stage):
    """A series that the source stopped to show between two processes gets its marker at T."""
    stage.prometheus.raw = {UP: scrapes(-290_000, 60), OTHER: scrapes(-280_000, 5, 60_000)}
    run(stage, collector(stage), 2)
    stage.prometheus.ended[OTHER] = T0 + 20_000
    run(stage, collector(stage), 2)
    found = stage.samples("up")
    assert found["job=y"][-1] == (2 * STEP, "stale")
    assert "stale" not in [value for _, value in found["job=x"]]


def test_clock_set_back(stage: Stage):
    """After the clock was set back every window has a length, and no sample is missing."""
    stage.prometheus.raw[UP] = samples = scrapes(-3_900_000, 300)
    collecting = collector(stage)
    run(stage, collecting, 2)
    stage.clock[0] -= 3_600_000
    assert collecting.cycle() is not None
    stage.clock[0] += STEP
    run(stage, collecting, 3)
    asked = [int(query.rpartition("[")[2][:-3]) for query in windows(stage)]
    assert asked[2:] == [300_000, 30_000, 30_000, 30_000]
    wanted = [s for s in samples if -3_870_000 < s[0] - T0 <= -3_525_000]
    assert [s for s in stage.samples("up")["job=x"] if s[0] <= -3_525_000] == stored(wanted)


def test_restart_with_a_watermark_of_the_future(stage: Stage):
    """A process that finds a watermark later than now copies the longest window."""
    stage.prometheus.raw[UP] = scrapes(-290_000, 60)
    stage.context.watermarks.advance("a", T0 + 3_600_000, with_data=["raw:up"])
    run(stage, collector(stage), 2)
    assert [query.rpartition("[")[2] for query in windows(stage)] == ["300000ms]", "30000ms]"]


def test_own_interval(stage: Stage):
    """A selector with an interval of its own is asked on its own grid."""
    stage.prometheus.raw[UP] = scrapes(-290_000, 60)
    cluster = stage.cluster(raw=[{"match": "up", "interval": "60s"}])
    collecting = ClusterCollector(cluster, profile(), stage.context)
    run(stage, collecting, 9)
    assert len(windows(stage)) == 3


def test_stamped_and_reserved_names(stage: Stage):
    """What a source calls cluster is renamed, fleet metrics are refused, both counted."""
    hostile = raw_series("up", cluster="other")
    stage.prometheus.raw = {
        hostile: scrapes(-100_000, 1),
        raw_series("fleet:m", x="1"): scrapes(-100_000, 1),
    }
    run(stage, collector(stage, '{__name__=~".+"}'))
    assert list(stage.samples("up", cluster="a")) == ["exported_cluster=other"]
    assert stage.samples("fleet:m") == {}
    assert stage.context.health.get("a").rejected["reserved_name"] == 1


def test_limit_of_series(stage: Stage):
    """Above the limit the same series are kept every time, the rest is counted, none ends."""
    stage.prometheus.raw = {
        raw_series("up", job=f"{n:03}"): scrapes(-290_000, 60) for n in range(9)
    }
    run(stage, collector(stage, limits={"series": 4}), 3)
    found = stage.samples("up")
    assert sorted(found) == [f"job={n:03}" for n in range(4)]
    assert stage.context.health.get("a").rejected["series_limit"] == 5
    assert "5 series above the limit of 4" in stage.context.health.get("a").notes["raw:up"]


def test_too_large_windows_get_shorter(stage: Stage):
    """A window that the source refuses for its size is halved until it is answered."""
    stage.prometheus.raw[UP] = scrapes(-290_000, 60)
    stage.prometheus.refused["[300000ms]"] = 422
    collecting = collector(stage)
    run(stage, collecting, 2)
    assert [query.partition("[")[2] for query in windows(stage)] == ["300000ms]", "150000ms]"]
    assert stage.samples("up")


def test_a_copy_that_is_too_large_says_what_to_do(stage: Stage):
    """A copy whose shortest window passes the byte cap names itself and every way out."""
    job = "x" * 900
    names = [raw_series("up", job=job, number=str(n)) for n in range(20)]
    stage.prometheus.raw = dict.fromkeys(names, scrapes(-290_000, 60))
    collecting = collector(stage, limits={"response_bytes": 4_000})
    run(stage, collecting, 5)
    assert windows(stage)[-1].endswith("[30000ms]")
    note = stage.context.health.get("a").notes["raw:up"]
    assert note.startswith("the answer for raw:up passes limits.response_bytes even for its last")
    assert "cut it into several" in note
    narrow = names[:1]
    stage.prometheus.raw = dict.fromkeys(narrow, scrapes(-290_000, 60))
    run(stage, collecting)
    assert stage.context.health.get("a").notes.get("raw:up") is None


def test_selector_of_the_cluster(stage: Stage):
    """Where one endpoint holds several clusters, every selector picks this one."""
    cluster = stage.cluster()
    settings = cluster.prometheus.model_copy(update={"selector": 'cluster="prod"'})
    copy = RawCopy(
        replace(cluster, prometheus=settings),
        RawSelector(match='up{job=~"a|b"}'),
        stage.context,
        SeriesCache(cluster, stage.context, NewSeries(9, stage.context.now)),
    )
    assert copy.expr == '{job=~"a|b",__name__="up",cluster="prod"}'


def test_replicas_become_one_series(stage: Stage):
    """Of two replicas one is copied; when it goes the other one takes its place."""
    first, second = (raw_series("up", prometheus_replica=r) for r in "ab")
    stage.prometheus.raw = {first: scrapes(-290_000, 22), second: scrapes(-289_000, 60)}
    stage.prometheus.ended[first] = T0 + 31_000
    run(stage, collector(stage), 8)
    [found] = stage.samples("up").values()
    assert found[-1][0] > 6 * STEP


def answer(series: dict[int, list[tuple[int, float]]]) -> Answer:
    """Return an answer with these samples by row."""
    offsets = np.cumsum([0, *(len(samples) for samples in series.values())])
    flat = list(itertools.chain.from_iterable(series.values()))
    times = np.array([at for at, _ in flat], np.int64)
    values = np.array([value for _, value in flat], np.float64)
    return Answer(b"", None, offsets, times, values, (), (), 0, 0, None)


@pytest.mark.parametrize("seed", range(20))
def test_take_against_a_plain_loop(seed: int):
    """Over random windows, late samples and changing lists, the store ends up with every sample."""
    rng = random.Random(seed)
    truth: dict[int, dict[int, float]] = {row: {} for row in range(6)}
    got: dict[tuple[int, int], float] = {}
    sent, written, first = None, 0, True
    until = 0
    for time_ms in range(STEP, 20 * STEP, STEP):
        for row, known in truth.items():
            for _ in range(rng.randrange(4)):
                at = rng.randrange(time_ms - OVERLAP_MS + 1, time_ms + 1)
                known.setdefault(at, rng.random())
            if rng.random() < 0.1:
                known[time_ms + 1_000 * row + 1] = 1.0  # not yet in the window
        left = until - OVERLAP_MS
        shown = {
            row: sorted((at, v) for at, v in known.items() if left <= at <= time_ms)
            for row, known in truth.items()
        }
        shown = {row: samples for row, samples in shown.items() if samples}
        if sent is not None and list(shown) == (sent.layout.ids - 1).tolist():
            layout = sent.layout
        else:
            ids = np.array(list(shown), np.uint32) + 1
            layout = RawLayout(b"", 0, ids, np.ones(ids.size, np.bool_))
        window = take(answer(shown), layout, (left, time_ms), until, sent)
        if rng.random() < 0.8:  # stored
            sent, until, first = window.sent, time_ms, False
            written += len(window.block)
            block = window.block
            for row, at, value in zip(block.ids, block.times, block.values, strict=True):
                got.setdefault((int(row) - 1, int(at)), float(value))
        else:
            sent = sent if sent is not None and sent.time_ms == until else None
    assert not first
    kept = {(row, at): v for row, known in truth.items() for at, v in known.items() if at <= until}
    assert {key: kept[key] for key in got} == got
    missed = set(kept) - set(got)
    assert all(at <= 0 for _, at in missed)


def test_cache_forgets_with_the_store(stage: Stage):
    """When the store forgot ids, every label set is asked for again."""
    cluster = stage.cluster()
    cache = SeriesCache(cluster, stage.context, NewSeries(9_999, stage.context.now))
    layout, _ = cache.layout(b"d", [UP.encode()], 10)
    assert cache.digest(layout) == b"d"
    stage.store._generation += 1
    assert cache.digest(layout) is None


def test_source_of_a_cluster_is_bounded(stage: Stage):
    """A request may take two thirds of an interval, and never longer than the limit."""
    for interval, limit, seconds in (("15s", "10s", 10.0), ("6s", "10s", 4.0), ("30s", "2s", 2.0)):
        collecting = collector(stage, interval=interval, limits={"timeout": limit})
        assert collecting._source._timeout_seconds == seconds
