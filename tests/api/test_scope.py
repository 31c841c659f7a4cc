"""What a token with a match gets: of every path, what a smaller server would answer, or 403."""

import sys
from contextlib import ExitStack
from dataclasses import replace

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregator.api.exchange import Reach
from aggregator.model.alerts import AlertState
from aggregator.promql.scope import admits, parse_scope
from tests.api.fleets import EXPECTED, NOW_MS, alert, serving
from tests.promql.peer import SPAN_MS, START_MS
from tests.promql.scoped import REGIONS, asked, everything, fleets, stored, within
from tests.servers import free_port, running

API = "/prometheus/api/v1"
SCOPED, SAME, FLEET = Reach.SCOPED, Reach.SAME, Reach.FLEET
# Every path there is. Who adds one says here what a token with a match gets of it; for SCOPED the
# strategies below say how to ask.
ROUTES = {
    f"{API}/query": SCOPED,
    f"{API}/query_range": SCOPED,
    f"{API}/series": SCOPED,
    f"{API}/labels": SCOPED,
    f"{API}/label/{{name}}/values": SCOPED,
    f"{API}/metadata": SAME,
    f"{API}/status/tsdb": SCOPED,
    f"{API}/rules": SCOPED,
    f"{API}/alerts": SCOPED,
    f"{API}/query_exemplars": SAME,
    f"{API}/format_query": SAME,
    f"{API}/parse_query": SAME,
    f"{API}/status/buildinfo": SAME,
    "/api/v1/clusters": SCOPED,
    "/api/v1/clusters/{name}": SCOPED,
    "/api/v1/gaps": SCOPED,
    "/api/v1/regions": SCOPED,
    "/": FLEET,
    "/static/{name:path}": SAME,
    "/docs": SAME,
    "/openapi.json": SAME,
    "/healthz": SAME,
    "/readyz": SAME,
    "/metrics": FLEET,
}
MATCHES = (
    'region="europe"', 'region!="us"', 'region=~"us|"', 'cluster="eu-1"', 'cluster!~"eu-.*"',
    'region="europe",cluster!="eu-2"', 'region=""', 'cluster="nowhere"', 'cluster=~".*"',
    'job="a"', 'job=~"b|",region="europe"', 'x=""', '__name__="gauge"', '__name__!~"gauge|info"',
    'inst!="1",cluster=~"us.*|in.*"', 'le="1"', 'os="linux-us-1"', '"__name__"=~"fleet:.*"',
)  # fmt: skip
SELECTORS = (
    "gauge", '{job="a"}', '{cluster="us-1"}', '{__name__=~".+"}', '{region!="europe"}', "nothing",
    'gauge{region=""}', "up{",
)  # fmt: skip
LABELS = ("cluster", "region", "__name__", "job", "le", "version", "os", "nothing")
WHOLE = "everything"  # the token without a match


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Return a server with a token for each match, and one to compare with."""
    tokens = [{"name": f"match-{n}", "token": match, "match": match}
              for n, match in enumerate(MATCHES)]  # fmt: skip
    whole = {"name": "whole", "token": WHOLE}
    with ExitStack() as opened:
        directories = [tmp_path_factory.mktemp(name) for name in ("scoped", "smaller")]
        yield [
            opened.enter_context(serving(directory, given))
            for directory, given in zip(directories, ([*tokens, whole], [whole]), strict=True)
        ]


def seconds():
    """Return times within, and a little around, the data."""
    return st.integers(START_MS // 1000 - 60, NOW_MS // 1000 + 60).map(str)


@st.composite
def catalog(draw, *, required):
    """Return the parameters of a request for labels or series."""
    count = draw(st.integers(int(required), 3))
    pairs = [("match[]", draw(st.sampled_from(SELECTORS))) for _ in range(count)]
    if draw(st.booleans()):
        pairs += [("start", draw(seconds())), ("end", draw(seconds()))]
    if draw(st.booleans()):
        pairs += [("limit", draw(st.sampled_from(["0", "1", "3", "x"])))]
    return pairs


def optional(name, *values):
    """Return one parameter, or none."""
    return st.sampled_from([[], *([(name, value)] for value in values)])


@st.composite
def exchanges(draw):
    """Return a request of every scoped path: path and parameters."""
    query = draw(asked())
    start, step = query.start_ms / 1000, query.step_ms / 1000
    end = start + (query.count - 1) * step
    text = ("query", query.text)
    span = [("start", f"{start:.3f}"), ("end", f"{end:.3f}"), ("step", f"{step:g}")]
    name = draw(st.sampled_from(LABELS))
    region = draw(optional("region", "europe", "us", "x"))
    cluster = draw(st.sampled_from([*REGIONS, "nowhere"]))
    chosen = draw(optional("match[]", '{severity="page"}', '{cluster="us-1"}'))
    return {
        f"{API}/query": (f"{API}/query", [text, ("time", f"{start:.3f}")]),
        f"{API}/query_range": (f"{API}/query_range", [text, *span]),
        f"{API}/series": (f"{API}/series", draw(catalog(required=True))),
        f"{API}/labels": (f"{API}/labels", draw(catalog(required=False))),
        f"{API}/label/{{name}}/values": (f"{API}/label/{name}/values",
                                         draw(catalog(required=False))),
        f"{API}/status/tsdb": (f"{API}/status/tsdb", draw(optional("limit", "1", "500"))),
        f"{API}/rules": (f"{API}/rules", [*chosen, *draw(optional("type", "alert", "record"))]),
        f"{API}/alerts": (f"{API}/alerts", []),
        "/api/v1/clusters": ("/api/v1/clusters", region),
        "/api/v1/clusters/{name}": (f"/api/v1/clusters/{cluster}", []),
        "/api/v1/gaps": ("/api/v1/gaps", region),
        "/api/v1/regions": ("/api/v1/regions", []),
    }  # fmt: skip


def known_clusters(fleet, match):
    """Return the clusters that *match* may know of by the registry, and those it sees in data."""
    scope = parse_scope(match)
    places = {name: {"cluster": name, "region": region} for name, region in REGIONS.items()}
    own = [matcher for matcher in scope if matcher.name in ("cluster", "region")]
    by_name = {name for name, place in places.items() if admits(own, place)}
    labels = [everything().series[number][0] for number in within(fleet, match)]
    in_data = {each.get("cluster", "") for each in labels}
    in_data |= {each.get("os", "").removeprefix("linux-") for each in labels}
    return by_name if own == list(scope) else by_name & in_data, in_data


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(fleet=fleets(), match=st.sampled_from(MATCHES), asking=exchanges(),
       method=st.sampled_from(["GET", "POST"]), firing=st.booleans())  # fmt: skip
def test_a_match_is_a_smaller_server(  # noqa: PLR0917  drawn, not passed
    both, fleet, match, asking, method, firing
):
    """No path answers a token with a match anything but what a smaller server answers everybody.

    That server holds the matching series, the clusters that the match may know of, the metrics it
    may expect of them, and the alerts whose labels match. Where its clusters follow from data, the
    paths about them are closed.
    """
    scoped, smaller = both
    state = AlertState.FIRING if firing else AlertState.PENDING
    alerts = [alert(cluster, state) for cluster in REGIONS]
    known, in_data = known_clusters(fleet, match)
    scoped.shelf.store, smaller.shelf.store = stored(fleet), stored(within(fleet, match))
    scoped.holds(REGIONS, alerts)
    admitted = [each for each in alerts if admits(parse_scope(match), dict(each.labels))]
    named = [matcher for matcher in parse_scope(match) if matcher.name == "__name__"]
    smaller.holds(known, admitted, [name for name in EXPECTED if admits(named, {"__name__": name})])
    registered = {matcher.name for matcher in parse_scope(match)} <= {"cluster", "region"}
    assert asking.keys() == {path for path, reach in ROUTES.items() if reach is SCOPED}
    hidden = REGIONS.keys() - known - in_data - {dict(each.labels)["cluster"] for each in admitted}
    for path, (address, pairs) in asking.items():
        how = method if path.startswith(API) else "GET"
        answer = scoped.ask(how, address, pairs, match)
        if path.startswith(API) or registered:
            assert answer == smaller.ask(how, address, pairs, WHOLE), (address, pairs)
        else:
            assert answer[0] == 403, (address, pairs)
        said = f"{address} {pairs}"
        told = [name for name in hidden if name.encode() in answer[1] and name not in said]
        assert not told, (address, pairs, answer)


def test_every_route_declares_its_reach(tmp_path):
    """The table above lists every path of a running server, as its documentation declares it."""
    port = free_port()
    (tmp_path / "fleet.yaml").write_text(
        f"api: {{listen: '127.0.0.1:{port}'}}\n"
        f"store: {{backend: memory, path: {tmp_path / 'data'}}}\n"
    )
    command = [sys.executable, "-m", "aggregator", "serve", "-c", str(tmp_path / "fleet.yaml")]
    with running(command, f"http://127.0.0.1:{port}", "/healthz", tmp_path) as server:
        document = requests.get(f"{server.url}/openapi.json", timeout=10).json()
    said = {
        path: {reach for reach in Reach if reach.value in how["description"]}
        for path, methods in document["paths"].items()
        for how in methods.values()
    }
    assert said == {path.replace(":path", ""): {reach} for path, reach in ROUTES.items()}


PAIRS = {"query": "1", "start": "0", "end": "1"}


@pytest.mark.parametrize(("path", "reach"), [(p, r) for p, r in ROUTES.items() if r is not SCOPED])
def test_the_whole_fleet_is_closed(both, path, reach):
    """What is about the whole fleet is 403 for a token with a match, what holds no data is not."""
    address = path.replace("{name:path}", "style.css")
    given = [*PAIRS.items()]
    status, body = both[0].ask("GET", address, given, 'region="europe"')
    open_to_all = both[0].ask("GET", address, given, WHOLE)
    if reach is FLEET:
        assert open_to_all[0] == 200
        assert status == 403
        assert b"this token sees only the series of its match" in body
    else:
        assert status == open_to_all[0]
        assert status in (200, 503)
    assert not [name for name in REGIONS if name.encode() in body]


def test_stats(both):
    """Also what a query cost is that of the matching series alone."""
    both[0].shelf.store = stored(range(len(everything().series)))
    pairs = [("query", "count(gauge)"), ("time", f"{(START_MS + SPAN_MS // 2) / 1000}"),
             ("stats", "all")]  # fmt: skip
    counts = []
    for token in ('cluster="nowhere"', 'cluster="eu-1"', WHOLE):
        _, body = both[0].ask("GET", f"{API}/query", pairs, token)
        counts.append(int(body.partition(b'"totalQueryableSamples":')[2].partition(b",")[0]))
    assert counts[0] == 0 < counts[1] < counts[2]


def test_errors_of_rules(both):
    """What went wrong in a rule names series, so that only its failing is told."""
    fleet = both[0]
    fleet.holds(REGIONS)
    report = fleet.reports[0]
    failed = replace(report.rules[1], error='duplicate series {cluster="us-1"}')
    fleet.reports = [replace(report, rules=(report.rules[0], failed))]
    _, body = fleet.ask("GET", f"{API}/rules", [("type", "record")], 'region="europe"')
    assert b'"health":"err","lastError":"the rule failed"' in body
    assert b"us-1" in fleet.ask("GET", f"{API}/rules", [], WHOLE)[1]
