"""What is counted in a cluster's logs: when it is asked, how it is stored, what failures mean."""

from collections.abc import Iterator

import pytest

from aggregator.collect.collector import freshness_of
from aggregator.collect.logs import ClusterLogs
from aggregator.fleet.freshness import State
from aggregator.fleet.subjects import LOG_METRICS
from aggregator.profile.format import Profile
from tests.collect.lokistage import (
    MINUTE,
    TEXT,
    FakeLoki,
    log_metric,
    log_profile,
    loki,
    registry,
    vector,
)
from tests.collect.stage import T0, Stage
from tests.servers import Response, ScriptedServer

SHOP = {"namespace": "shop"}


@pytest.fixture
def source() -> Iterator[tuple[FakeLoki, ScriptedServer]]:
    """Run a scripted Loki."""
    with loki() as pair:
        yield pair


class Turns:
    """A cluster's log metrics and a clock: one turn a minute."""

    def __init__(
        self, stage: Stage, server: ScriptedServer, profile: Profile, **own: object
    ) -> None:
        self.stage = stage
        self.registry = registry(stage, {"a": server.url}, **own)
        [cluster] = self.registry
        assert cluster.loki is not None
        self.logs = ClusterLogs(cluster, cluster.loki, profile, stage.context)
        self.cluster = cluster
        self.freshness = freshness_of(self.registry, profile, stage.context)
        # every grid used here has T0 + 1 minute
        self.start = T0 + MINUTE + (-T0 - MINUTE) % (15 * MINUTE)

    def at(self, minute: int, *, ask: bool = True, probe: bool = False) -> None:
        """Run the turn of one minute after the start, seconds after it."""
        self.stage.clock[0] = self.start + minute * MINUTE + 6_000
        outcome = self.logs.turn(ask=ask, probe=probe)
        if outcome is not None:
            self.stage.context.log_health.ended("a", outcome, None)

    def stored(self, metric: str) -> dict[str, list[tuple[float, float | str]]]:
        """Return what is stored, in minutes after the start."""
        shift = self.start - T0
        return {
            labels: [((at - shift) / MINUTE, value) for at, value in samples]
            for labels, samples in self.stage.samples(metric).items()
        }

    def asked(self, fake: FakeLoki, piece: str) -> list[int]:
        """Return the instants asked for, in minutes after the start."""
        return [minute - (self.start - T0) // MINUTE for minute in fake.times(piece)]

    def unit(self) -> tuple[State, float | None]:
        """Return the state of log metrics, and where they end in minutes after the start."""
        units = self.freshness.units(self.cluster, self.stage.clock[0])
        [found] = [unit for unit in units if unit.subject.name == LOG_METRICS]
        until = found.data_until_ms
        return found.state, None if until is None else (until - self.start) / MINUTE


def test_an_answer_is_stored_again_each_minute_until_the_next(
    stage: Stage, source: tuple[FakeLoki, ScriptedServer]
) -> None:
    """A metric is asked for every five minutes, and no stored series is sparser than one."""
    fake, server = source
    turns = Turns(stage, server, log_profile("panics"))
    fake.vectors["panics"] = lambda time_ms: [(SHOP, (time_ms - turns.start) / MINUTE)]
    for minute in range(8):
        turns.at(minute)
    assert turns.asked(fake, "panics") == [0, 5]
    expected = [(float(at), 0.0 if at < 5 else 5.0) for at in range(8)]
    assert turns.stored("fleet:panics") == {"namespace=shop": expected}
    assert turns.unit() == (State.OK, 5.0)


def test_an_answer_ends_after_three_intervals(
    stage: Stage, source: tuple[FakeLoki, ScriptedServer]
) -> None:
    """While Loki does not answer the last values go on for 15 minutes, then end as stale."""
    fake, server = source
    turns = Turns(stage, server, log_profile("panics"))
    fake.vectors["panics"] = lambda _: [(SHOP, 7.0)]
    turns.at(0)
    fake.fail = Response(503, b"no", content_type=TEXT)
    for minute in range(1, 20):
        turns.at(minute)
    samples = turns.stored("fleet:panics")["namespace=shop"]
    assert samples == [*((float(at), 7.0) for at in range(15)), (15.0, "stale")]
    assert turns.unit() == (State.UNREACHABLE, 0.0)
    fake.fail = None
    turns.at(20)
    assert turns.stored("fleet:panics")["namespace=shop"][-1] == (20.0, 7.0)
    assert turns.unit() == (State.OK, 20.0)
    [gap] = stage.context.gaps.open("a")
    assert (gap.start_ms - turns.start, gap.end_ms - turns.start) == (14 * MINUTE, 19 * MINUTE)


def test_missed_minutes_are_made_up_for(
    stage: Stage, source: tuple[FakeLoki, ScriptedServer]
) -> None:
    """A turn that comes late writes the minutes before it, with what stood then."""
    fake, server = source
    turns = Turns(stage, server, log_profile("panics"))
    fake.vectors["panics"] = lambda time_ms: [(SHOP, (time_ms - turns.start) / MINUTE)]
    turns.at(0)
    turns.at(7)
    assert turns.stored("fleet:panics")["namespace=shop"] == [
        *((float(at), 0.0) for at in range(5)),
        *((float(at), 5.0) for at in range(5, 8)),
    ]


def test_a_recovered_loki_is_asked_for_the_newest_minute(
    stage: Stage, source: tuple[FakeLoki, ScriptedServer]
) -> None:
    """An instant that failed was written over meanwhile, so a later one is asked for."""
    fake, server = source
    turns = Turns(stage, server, log_profile("panics"))
    fake.vectors["panics"] = lambda time_ms: [(SHOP, (time_ms - turns.start) / MINUTE)]
    turns.at(0)
    fake.fail = Response(503, b"no", content_type=TEXT)
    turns.at(5)
    turns.at(6)
    fake.fail = None
    turns.at(7)
    turns.at(8)
    assert turns.asked(fake, "panics") == [0, 7]
    assert turns.stored("fleet:panics")["namespace=shop"][-4:] == [
        (5.0, 0.0),
        (6.0, 0.0),
        (7.0, 7.0),
        (8.0, 7.0),
    ]


def test_what_vanished_ends_with_the_next_answer(
    stage: Stage, source: tuple[FakeLoki, ScriptedServer]
) -> None:
    """A namespace without such lines any more is stale from the answer that lacks it."""
    fake, server = source
    turns = Turns(stage, server, log_profile("panics"))
    fake.vectors["panics"] = lambda time_ms: (
        [(SHOP, 1.0)] if time_ms < turns.start + MINUTE else [({"namespace": "pay"}, 2.0)]
    )
    turns.at(0)
    turns.at(5)
    stored = turns.stored("fleet:panics")
    assert stored["namespace=shop"][-2:] == [(4.0, 1.0), (5.0, "stale")]
    assert stored["namespace=pay"] == [(5.0, 2.0)]


def test_quiet_logs_are_data(stage: Stage, source: tuple[FakeLoki, ScriptedServer]) -> None:
    """Where there are streams but no such lines the state is ok; without streams it is missing."""
    fake, server = source
    turns = Turns(stage, server, log_profile("panics"))
    turns.at(0)
    assert turns.unit() == (State.OK, 0.0)
    fake.labels = []
    for minute in range(1, 16):
        turns.at(minute)
    assert turns.unit() == (State.MISSING, 0.0)
    assert turns.stored("fleet:panics") == {}


def test_only_declared_labels_are_stored(
    stage: Stage, source: tuple[FakeLoki, ScriptedServer]
) -> None:
    """Labels pass a whitelist; what a stream calls its cluster, region or rule counts nothing."""
    fake, server = source
    turns = Turns(stage, server, log_profile("panics"))
    hostile = {"cluster": "other", "region": "mars", "__rule__": "7", "pod": "x", **SHOP}
    fake.vectors["panics"] = lambda _: [(hostile, 3.0)]
    turns.at(0)
    assert turns.stored("fleet:panics") == {"namespace=shop": [(0.0, 3.0)]}
    assert stage.samples("fleet:panics", cluster="a", region="europe")


def test_limits_series_holds_for_logs(
    stage: Stage, source: tuple[FakeLoki, ScriptedServer]
) -> None:
    """Of more series than the limit the rest is counted, and named in the subject's state."""
    fake, server = source
    turns = Turns(stage, server, log_profile("panics"), limits={"series": 3})
    fake.vectors["panics"] = lambda _: [({"namespace": f"n{n}"}, 1.0) for n in range(5)]
    turns.at(0)
    assert len(turns.stored("fleet:panics")) == 3
    health = stage.context.log_health.get("a")
    assert health.dropped[LOG_METRICS].series == 2
    assert "limits.series" in health.notes[LOG_METRICS]


def test_one_query_that_fails_holds_back_no_other(
    stage: Stage, source: tuple[FakeLoki, ScriptedServer]
) -> None:
    """Its metric is quarantined with what to do, and is asked more and more rarely."""
    fake, server = source
    turns = Turns(stage, server, log_profile("panics", "errors"))
    fake.vectors["errors"] = lambda _: [(SHOP, 1.0)]
    text = b"maximum number of series (2) reached for a single query; consider reducing"
    fake.refused["panics"] = Response(400, text, content_type=TEXT)
    for minute in range(0, 40, 5):
        turns.at(minute)
    assert turns.asked(fake, "panics") == [0, 5, 15, 35]
    assert turns.asked(fake, "errors") == list(range(0, 40, 5))
    assert turns.unit() == (State.OK, 35.0)
    health = stage.context.log_health.get("a")
    assert "max_query_series" in health.quarantined["fleet:panics"]
    fake.refused.clear()
    turns.at(75)
    assert not stage.context.log_health.get("a").quarantined


def test_a_query_that_breaks_loki_is_told_from_a_broken_loki(
    stage: Stage, source: tuple[FakeLoki, ScriptedServer]
) -> None:
    """After a 500 a simple query shows that the others can be asked; after a 429 none is."""
    fake, server = source
    turns = Turns(stage, server, log_profile("panics", "errors"))
    fake.vectors["errors"] = lambda _: [(SHOP, 1.0)]
    fake.refused["panics"] = Response(500, b"querier died", content_type=TEXT)
    turns.at(0)
    assert turns.stored("fleet:errors") == {"namespace=shop": [(0.0, 1.0)]}
    fake.refused["panics"] = Response(429, b"too many outstanding requests", content_type=TEXT)
    turns.at(5)
    assert turns.asked(fake, "errors") == [0]
    assert "queriers" in stage.context.log_health.get("a").error


def test_nothing_is_lost_while_the_store_is_behind(
    stage: Stage, source: tuple[FakeLoki, ScriptedServer]
) -> None:
    """Without room no watermark moves, and the same instant is asked for again."""
    fake, server = source
    turns = Turns(stage, server, log_profile("panics"))
    fake.vectors["panics"] = lambda _: [(SHOP, 1.0)]
    stage.accepting[0] = False
    turns.at(0)
    assert turns.unit() == (State.NEVER, None)
    stage.accepting[0] = True
    turns.at(1)
    assert turns.stored("fleet:panics") == {"namespace=shop": [(0.0, 1.0), (1.0, 1.0)]}
    assert turns.unit() == (State.OK, 0.0)


def test_a_clock_that_was_set_back_begins_again(
    stage: Stage, source: tuple[FakeLoki, ScriptedServer]
) -> None:
    """Answers that lie in the future do not keep a metric from being asked for."""
    fake, server = source
    turns = Turns(stage, server, log_profile("panics"))
    fake.vectors["panics"] = lambda _: [(SHOP, 1.0)]
    turns.at(0)
    turns.at(-60)
    assert turns.asked(fake, "panics") == [0, -60]


def test_candidates_of_a_union_are_one_metric(
    stage: Stage, source: tuple[FakeLoki, ScriptedServer]
) -> None:
    """Every candidate is asked; of rows with the same labels the earlier candidate's counts."""
    fake, server = source
    candidates = [
        {
            "id": word,
            "quality": "close",
            "merge": "union",
            "expr": f'sum by (namespace) (rate({{namespace=~".+",$sel}} |= "{word}" [$window]))',
        }
        for word in ("one", "two")
    ]
    turns = Turns(stage, server, Profile((log_metric("both", candidates=candidates),)))
    fake.vectors["one"] = lambda _: [(SHOP, 1.0)]
    fake.vectors["two"] = lambda _: [(SHOP, 2.0), ({"namespace": "pay"}, 2.0)]
    turns.at(0)
    turns.at(5)
    assert {key: samples[-1][1] for key, samples in turns.stored("fleet:both").items()} == {
        "namespace=shop": 1.0,
        "namespace=pay": 2.0,
    }


def test_a_retired_cluster_ends_its_series(
    stage: Stage, source: tuple[FakeLoki, ScriptedServer]
) -> None:
    """The markers lie behind every sample."""
    fake, server = source
    turns = Turns(stage, server, log_profile("panics"))
    fake.vectors["panics"] = lambda _: [(SHOP, 1.0)]
    turns.at(0)
    turns.logs.close()
    turns.logs.retire()
    [samples] = turns.stored("fleet:panics").values()
    assert samples[-1][1] == "stale"


def test_answers_with_other_statistics_have_one_layout(
    stage: Stage, source: tuple[FakeLoki, ScriptedServer]
) -> None:
    """An answer whose labels are known is stored without naming its series again."""
    fake, server = source
    turns = Turns(stage, server, log_profile("panics"))
    fake.vectors["panics"] = lambda _: [(SHOP, 1.0)]
    turns.at(0)
    fake.refused["panics"] = Response(
        200, vector([(SHOP, 4.0)], turns.start).body.replace(b"0.01", b"9.75")
    )
    turns.at(5)
    assert turns.stored("fleet:panics")["namespace=shop"][-1] == (5.0, 4.0)
