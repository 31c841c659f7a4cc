import promql_parser

from aggregator.profile.batch import MAX_QUERY_BYTES
from aggregator.profile.format import Profile
from aggregator.profile.load import load_profile
from aggregator.profile.probe import (
    Probe,
    bind,
    probe_batches,
    probe_expression,
    probes,
    with_data,
)
from tests.profile.profiles import ERRORS, REQUESTS, WORKLOADS, candidate, metric, row

KILLS = metric(
    "kills",
    [],
    candidate("a"),
    candidate("b", presence="own{$sel}"),
    empty_means="zero",
    presence="there{$sel}",
)
READY = metric("ready", [], candidate("a"), candidate("b"), presence="there{$sel}")
PROFILE = Profile((ERRORS, REQUESTS, WORKLOADS, KILLS, READY))


def bindings(*found: tuple[str, str]) -> list[tuple[str, str]]:
    """Return what is bound if the named candidates have data."""
    asked = [probe for probe in probes(PROFILE) if (probe.metric, probe.candidate) in found]
    assert len(asked) == len(found)
    return [(item.metric.name, item.candidate.id) for item in bind(PROFILE, asked)]


def test_the_first_candidate_with_data_is_bound():
    """The order of the candidates decides, not that of the answers."""
    assert bindings(("fleet:ready", "b")) == [("fleet:ready", "b")]
    assert bindings(("fleet:ready", "b"), ("fleet:ready", "a")) == [("fleet:ready", "a")]


def test_of_a_union_every_candidate_with_data_is_bound():
    """`merge: union` binds each candidate that has data."""
    found = [("fleet:replicas", "deployment"), ("fleet:replicas", "copy")]
    assert bindings(*found) == found
    assert bindings(found[1]) == [found[1]]


def test_what_follows_a_union_serves_where_nothing_of_it_does():
    """A candidate without `merge` is bound only if none of the union has data."""
    lag = metric(
        "lag", [], candidate("a", merge="union"), candidate("b", merge="union"), candidate("c")
    )
    asked = probes(Profile((lag,)))
    assert [item.candidate.id for item in bind(Profile((lag,)), asked)] == ["a", "b"]
    assert [item.candidate.id for item in bind(Profile((lag,)), asked[2:])] == ["c"]


def test_a_derived_metric_follows_its_source():
    """What is derived is bound when its source is, and stands in the profile's order."""
    assert bindings(("fleet:requests_per_second", "nginx")) == [
        ("fleet:error_ratio", "derived"),
        ("fleet:requests_per_second", "nginx"),
    ]


def test_presence_binds_what_may_be_zero():
    """Where empty means zero, a candidate counts as able when its exporter is there."""
    asked = {(probe.metric, probe.candidate): probe.expr for probe in probes(PROFILE)}
    assert asked["fleet:kills", "a"] == "((a{$sel}) or on () there{$sel})"
    assert asked["fleet:kills", "b"] == "((b{$sel}) or on () own{$sel})"
    assert asked["fleet:ready", "a"] == "a{$sel}"
    assert bindings(("fleet:kills", ""), ("fleet:kills", "b")) == [("fleet:kills", "b")]
    assert bindings(("fleet:ready", "")) == []


def test_the_first_of_each_is_bound():
    """Of the candidates with one constant the first with data is bound, for every constant."""
    points = metric(
        "points",
        ["point"],
        *(candidate(name, const={"point": name[0]}) for name in ("up1", "up2", "client1")),
        each=["point"],
    )
    found = [probe for probe in probes(Profile((points,))) if probe.candidate != "up1"]
    assert [item.candidate.id for item in bind(Profile((points,)), found)] == ["up2", "client1"]


def test_an_answer_names_the_probes_with_data():
    """Tags lead back to the questions; unknown tags, twins and broken rows say nothing."""
    batch = [Probe("m", name, name) for name in "abc"]
    answer = [row(2, {}), row(0, {}), row(2, {"x": "y"}), row(9, {}), b"{", b'{"__rule__":1}']
    assert with_data(answer, batch) == [batch[2], batch[0]]


def test_probes_of_the_bundled_profile_parse():
    """Every question of the bundled profile is asked, in batches that parse."""
    asked = probes(load_profile("kubernetes"))
    split = probe_batches(asked, selector='cluster="c"')
    assert {probe for batch in split for probe in batch} == {*asked}
    for batch in split:
        text = probe_expression(batch, 'cluster="c"')
        assert len(text) <= MAX_QUERY_BYTES
        promql_parser.parse(text)


def test_names_that_old_servers_cannot_read_are_asked_for_apart():
    """A quoted metric name is refused by a server before Prometheus 3, with all that is beside."""
    *common, newer = probe_batches(probes(load_profile("kubernetes")))
    assert all('{"' in probe.expr for probe in newer)
    assert not any('{"' in probe.expr for batch in common for probe in batch)
