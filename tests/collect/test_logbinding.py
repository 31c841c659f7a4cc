"""Which candidates count a cluster's logs: by labels of streams, and by what is in the lines."""

from collections.abc import Iterator

import pytest

from aggregator.collect.logbinding import LogBinder
from aggregator.errors import SourceError
from aggregator.profile.format import Profile, Source
from aggregator.profile.load import load_profile
from aggregator.profile.logstreams import stream_labels
from aggregator.sources.loki import LokiSource
from aggregator.state.bindings import Standing
from tests.collect.lokistage import TEXT, FakeLoki, loki, registry
from tests.collect.stage import T0, Stage
from tests.servers import Response

BUNDLED = load_profile("kubernetes").served_by(Source.LOKI)
MINUTE, HOUR = 60_000, 3_600_000
ONE = [({}, 1.0)]


class Asking:
    """A cluster's binder and its Loki."""

    def __init__(self, stage: Stage, fake: FakeLoki, url: str) -> None:
        self.stage, self.fake, self.url = stage, fake, url
        [cluster] = registry(stage, {"a": url})
        assert cluster.loki is not None
        self.cluster, self.source = cluster, LokiSource("a", cluster.loki, max_bytes=10**6)

    def binder(self, profile: Profile = BUNDLED, matchers: str = "") -> LogBinder:
        """Return a binder as after a start."""
        return LogBinder(self.cluster, matchers, profile, self.stage.context)

    def bound(self, binder: LogBinder) -> dict[str, str]:
        """Ask, and return what is bound."""
        binder.ask(self.source, T0)
        return {item.metric.name: item.candidate.id for item in binder.bound}


@pytest.fixture
def asking(stage: Stage) -> Iterator[Asking]:
    """Run a scripted Loki and return what asks it."""
    with loki() as (fake, server):
        yield Asking(stage, fake, server.url)


def test_streams_say_which_names_are_used(asking: Asking) -> None:
    """Promtail's and OpenTelemetry's labels each bind their candidates, found lines or not."""
    plain = asking.bound(asking.binder())
    asking.fake.labels = ["k8s_namespace_name", "service_name"]
    otlp = asking.bound(asking.binder())
    names = {
        "fleet:log_error_lines_per_second",
        "fleet:log_crash_lines",
        "fleet:log_oom_lines",
        "fleet:log_dns_failure_lines",
        "fleet:log_db_pool_lines",
    }
    assert plain == dict.fromkeys(names, "text")
    assert otlp == dict.fromkeys(names, "otlp-text")


def test_presence_tells_better_candidates(asking: Asking) -> None:
    """Levels that Loki found, and access logs in JSON, are preferred to texts."""
    asking.fake.vectors['detected_level=~".+"'] = lambda _: ONE
    asking.fake.vectors['| json | __error__="" | status=~".+"'] = lambda _: ONE
    bound = asking.bound(asking.binder())
    assert bound["fleet:log_error_lines_per_second"] == "level"
    assert bound["fleet:log_ingress_5xx_per_second"] == "nginx-json"
    kept = asking.stage.context.bindings.of("a")
    assert kept["fleet:log_ingress_5xx_per_second"].quality == "exact"
    asking.fake.vectors.clear()
    asking.fake.vectors["regexp"] = lambda _: ONE
    assert asking.bound(asking.binder())["fleet:log_ingress_5xx_per_second"] == "nginx-text"


def test_bindings_are_kept(asking: Asking) -> None:
    """After a start what is kept is collected at once, and asked about daily."""
    everything = {"detected_level": lambda _: ONE, "status": lambda _: ONE}
    asking.fake.vectors = everything
    asking.bound(asking.binder())
    again = asking.binder()
    assert len(again.bound) == len(BUNDLED.metrics)
    now_ms = asking.stage.clock[0]
    assert not again.due(now_ms + 17 * HOUR)
    assert again.due(now_ms + 31 * HOUR)


def test_what_nothing_serves_is_asked_ever_more_rarely(asking: Asking) -> None:
    """From a minute to an hour apart, and the reason is kept."""
    asking.fake.labels = []
    binder, waits = asking.binder(), []
    assert binder.due(asking.stage.clock[0])
    for _ in range(9):
        asking.bound(binder)
        begin = asking.stage.clock[0]
        while not binder.due(asking.stage.clock[0]):
            asking.stage.clock[0] += MINUTE
        waits.append((asking.stage.clock[0] - begin) // MINUTE)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    kept = asking.stage.context.bindings.of("a")["fleet:log_oom_lines"]
    assert kept.standing is Standing.NEVER
    assert "loki.tenant" in kept.reason
    asking.fake.labels = ["job"]
    asking.bound(binder)
    kept = asking.stage.context.bindings.of("a")["fleet:log_oom_lines"]
    assert kept.reason.endswith("selects by: k8s_namespace_name, namespace")


def test_a_question_that_fails_moves_nothing(asking: Asking) -> None:
    """What is bound stays bound when its presence cannot be asked for; else that is the reason."""
    asking.fake.vectors["detected_level"] = lambda _: ONE
    binder = asking.binder()
    asking.bound(binder)
    refusal = Response(400, b"maximum number of series (500) reached", content_type=TEXT)
    asking.fake.refused["detected_level"] = refusal
    asking.fake.refused["ingress-nginx"] = refusal
    assert asking.bound(binder)["fleet:log_error_lines_per_second"] == "level"
    kept = asking.stage.context.bindings.of("a")["fleet:log_ingress_5xx_per_second"]
    assert kept.standing is Standing.FAILED
    assert "max_query_series" in kept.reason


def test_a_loki_that_fails_is_asked_again(asking: Asking) -> None:
    """An answer of no use raises, and the question stays due."""
    asking.fake.fail = Response(401, b"no org id", content_type=TEXT)
    binder = asking.binder()
    with pytest.raises(SourceError, match=r"set loki\.tenant"):
        binder.ask(asking.source, T0)
    assert binder.due(asking.stage.clock[0])


def test_three_empty_answers_are_looked_into(asking: Asking) -> None:
    """Levels that are found no more give way to text, which is said and counted."""
    asking.fake.vectors["detected_level"] = lambda _: ONE
    asking.fake.vectors["status"] = lambda _: ONE
    binder = asking.binder()
    asking.bound(binder)
    [level] = [item for item in binder.bound if item.candidate.id == "level"]
    now_ms = asking.stage.clock[0]
    for turn in range(3):
        assert not binder.due(now_ms)
        binder.observe([(level, 0)], {level.metric.name: T0 + turn}, streams=True)
    assert binder.due(now_ms)
    asking.fake.vectors.clear()
    assert asking.bound(binder)["fleet:log_error_lines_per_second"] == "text"
    kept = asking.stage.context.bindings.of("a")["fleet:log_error_lines_per_second"]
    assert kept.previous == ("level",)


def test_a_selector_is_on_every_stream(asking: Asking) -> None:
    """Matchers of the default selector stand in the questions too."""
    asking.bound(asking.binder(matchers='cluster="prod"'))
    assert asking.fake.asked
    assert all('cluster="prod"}' in query for query, _ in asking.fake.asked)
    assert all("[5m]" in query for query, _ in asking.fake.asked)


def test_labels_that_streams_must_have() -> None:
    """Equal and pattern matchers count, what is inside of strings does not."""
    expr = 'sum(rate({a="{b=\\"x\\"}", c=~`d="e"`, f!="g", h!~"i", $sel} |= "{j=`k`}" [5m]))'
    assert stream_labels(expr) == {"a", "c"}
