"""A cluster's Prometheus: what is sent, recorded answers, replicas, real servers."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import parse_qsl

import orjson
import pytest

from aggregator.errors import (
    SourceRejectedError,
    SourceUnreachableError,
)
from aggregator.sources.failures import Kind
from aggregator.sources.prometheus import PrometheusSource, seconds_text
from aggregator.sources.settings import PrometheusSettings
from tests.servers import (
    Request,
    Response,
    free_port,
    prometheus,
    scripted,
    wait_until,
)
from tests.sources.wire import OK_BODY, fails

T = 1_795_328_222_000


def source_of(url: str, **settings: object) -> PrometheusSource:
    """Return a source with one URL."""
    return PrometheusSource("eu", PrometheusSettings(url=url, **settings), timeout_seconds=5)


def exchange(shared_dir: Path, name: str) -> dict:
    """Return a recorded exchange."""
    return json.loads((shared_dir / "contracts" / f"{name}.json").read_text())


def replay(recorded: dict) -> Callable[[Request], Response]:
    """Return a server that gives the recorded answer, and takes the recorded path only."""
    response = recorded["response"]
    body = response["body"]
    encoded = orjson.dumps(body) if response["body_encoding"] == "json" else body.encode()

    def answer(request: Request) -> Response:
        assert request.path == recorded["request"]["path"]
        kind = response["headers"].get("content-type", "")
        return Response(response["status"], encoded, content_type=kind)

    return answer


def ask(source: PrometheusSource, recorded: dict):
    """Ask as the recorded request does."""
    sent = dict(recorded["request"]["query"] or recorded["request"]["body"] or [])
    if recorded["request"]["path"].endswith("query_range"):
        return source.query_range(sent.get("query", ""), T, T, 1000)
    return source.instant(sent.get("query", ""), T)


SUCCESSES = [
    *(
        f"prometheus/query_{name}"
        for name in (
            "instant_at_modifier_offset", "instant_empty_matrix", "instant_empty_vector",
            "instant_fractional_time", "instant_histogram_quantile", "instant_label_escapes",
            "instant_matrix_range_selector", "instant_post_form", "instant_rfc3339_time",
            "instant_sort_desc", "instant_special_values", "instant_stats_all",
            "instant_subquery", "instant_vector", "instant_vector_no_time",
            "range_11000_points_boundary", "range_empty", "range_float_step", "range_gap",
            "range_matrix", "range_rate_by", "range_scalar_to_matrix", "range_with_warnings",
            "with_warnings_remote_read_failed",
        )
    ),
    *(
        f"victoriametrics/query_{name}"
        for name in (
            "instant_empty", "instant_implicit_range_rate", "instant_no_time",
            "instant_post_form", "instant_range_selector", "instant_scalar",
            "instant_special_values", "instant_string", "instant_vector", "range_empty",
            "range_increase", "range_matrix", "range_nocache", "range_not_aligned",
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize("name", SUCCESSES)
def test_recorded_answers_decode_to_the_recorded_samples(name, shared_dir):
    """What real servers answered comes back whole, unknown and known, warnings included."""
    recorded = exchange(shared_dir, name)
    body = recorded["response"]["body"]
    expected = []
    for one in body["data"]["result"]:
        pairs = one.get("values") or [one["value"]]
        expected.append((one["metric"], [(round(at * 1000), float(text)) for at, text in pairs]))
    with scripted(replay(recorded)) as server:
        source = source_of(server.url)
        first = ask(source, recorded)
        known = source.instant("x", T, known=first.digest) if "instant" in name else None
        source.close()
    found = [
        (
            orjson.loads(labels),
            list(zip(first.times[a:b].tolist(), first.values[a:b].tolist(), strict=True)),
        )
        for labels, a, b in zip(first.metrics, first.offsets[:-1], first.offsets[1:], strict=True)
    ]
    assert repr(found) == repr(expected)  # NaN equals itself here
    assert len(first.warnings) == len(body.get("warnings", []))
    if known is not None:
        assert known.metrics is None


FAILURES = [
    ("prometheus/error_bad_data_parse", SourceRejectedError, Kind.BAD_REQUEST, "unclosed left"),
    ("prometheus/error_bad_data_11000_points", SourceRejectedError, Kind.BAD_REQUEST, "11,000"),
    ("prometheus/error_execution_many_to_many_422", SourceRejectedError, Kind.EXECUTION, "dupl"),
    ("prometheus/error_execution_max_samples_422", SourceRejectedError, Kind.EXECUTION, "too many"),
    ("prometheus/error_timeout_503", SourceUnreachableError, Kind.QUERY_TIMEOUT, "timed out"),
    ("victoriametrics/error_parse", SourceRejectedError, Kind.BAD_REQUEST, "unexpected token"),
    ("victoriametrics/error_many_to_many", SourceRejectedError, Kind.EXECUTION, "duplicate time"),
    ("victoriametrics/error_too_many_points", SourceRejectedError, Kind.EXECUTION, "too many"),
]


@pytest.mark.parametrize(("name", "error_class", "kind", "text"), FAILURES)
def test_recorded_errors_are_classified_with_the_servers_text(
    name, error_class, kind, text, shared_dir
):
    """What real servers refuse arrives with the right class, kind and their own words."""
    recorded = exchange(shared_dir, name)
    with scripted(replay(recorded)) as server:
        source = source_of(server.url)
        error = fails(lambda: ask(source, recorded))
        source.close()
    assert type(error) is error_class
    assert error.kind == kind
    assert text in str(error)
    assert str(error).startswith("cluster eu: ")


@pytest.mark.parametrize("service", ["prometheus", "victoriametrics"])
def test_a_wrong_path_is_not_found(service, shared_dir):
    """Both servers' answers to an unknown path are `not_found`, though one says 400."""
    names = {"prometheus": "error_not_found_path_404", "victoriametrics": "error_not_found_400"}
    response = exchange(shared_dir, f"{service}/{names[service]}")["response"]
    answer = Response(response["status"], response["body"].encode(), content_type="text/plain")
    with scripted(lambda _: answer) as server:
        source = source_of(server.url + "/wrong")
        error = fails(lambda: source.instant("up", T))
        source.close()
    assert (error.kind, type(error)) == (Kind.NOT_FOUND, SourceRejectedError)
    assert server.requests[0].path == "/wrong/api/v1/query"


def test_what_is_sent():
    """Times are exact seconds, the server is told our time limit, our headers are all there are."""
    with scripted(lambda _: Response(200, OK_BODY)) as server:
        source = source_of(server.url + "/prefix/")
        source.instant('up{a="é&="}', T + 5, timeout_seconds=2.5)
        source.query_range("up", T, T + 60_000, 15_500)
        source.close()
    first, second = server.requests
    assert (first.method, first.path) == ("GET", "/prefix/api/v1/query")
    assert first.query == (
        ("query", 'up{a="é&="}'),
        ("time", "1795328222.005"),
        ("timeout", "2.500"),
    )
    assert set(first.headers) == {"host", "accept", "accept-encoding", "user-agent"}
    assert first.headers["accept-encoding"] == "gzip"
    assert second.path == "/prefix/api/v1/query_range"
    assert dict(second.query)["step"] == "15.500"
    assert dict(second.query)["end"] == "1795328282"


def test_a_long_query_goes_as_a_form():
    """A query that would make the URL longer than 4 KiB is POSTed, in the body and nowhere else."""
    expr = " or ".join(f'up{{job="é{n}"}}' for n in range(300))
    with scripted(lambda _: Response(200, OK_BODY)) as server:
        source = source_of(server.url)
        source.instant(expr, T)
        source.close()
    request = server.requests[0]
    assert (request.method, request.query) == ("POST", ())
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert "transfer-encoding" not in request.headers
    assert dict(parse_qsl(request.body.decode()))["query"] == expr


def replicas(*urls: str, timeout_seconds: float = 5) -> PrometheusSource:
    """Return a source of several replicas."""
    settings = PrometheusSettings(replicas=urls)
    return PrometheusSource("eu", settings, timeout_seconds=timeout_seconds)


def test_a_replica_is_kept_until_it_fails():
    """The first replica is asked until it fails, then the next one, within the same call."""
    healthy = {"first": True}

    def first(_: Request) -> Response:
        return Response(200 if healthy["first"] else 500, OK_BODY)

    with scripted(first) as one, scripted(lambda _: Response(200, OK_BODY)) as two:
        source = replicas(one.url, two.url)
        for _ in range(3):
            source.instant("up", T)
        assert (len(one.requests), len(two.requests)) == (3, 0)
        healthy["first"] = False
        source.instant("up", T)
        healthy["first"] = True
        source.instant("up", T)
        assert (len(one.requests), len(two.requests)) == (4, 2)
        source.close()


def test_a_query_that_is_refused_is_not_put_to_the_other_replica():
    """A bad query is as bad elsewhere; a dead pair ends with the last one's error."""
    with scripted(lambda _: Response(400, b"bad")) as one:
        source = replicas(one.url, f"http://127.0.0.1:{free_port()}")
        for _ in range(2):
            assert fails(lambda: source.instant("up", T)).kind == Kind.BAD_REQUEST
        assert len(one.requests) == 2
        source.close()
    source = replicas(f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}")
    assert fails(lambda: source.instant("up", T)).kind == Kind.REFUSED
    source.close()


def test_inherited_methods_work_over_the_same_session():
    """PrometheusConnect's own methods go through our session, and their failures are ours."""

    def answer(request: Request) -> Response:
        if request.path == "/api/v1/label/__name__/values":
            return Response(200, b'{"status":"success","data":["up"]}')
        return Response(200, b"not json")

    with scripted(answer) as server:
        source = source_of(server.url)
        assert source.server.all_metrics() == ["up"]
        assert fails(source.server.get_label_names).kind == Kind.WRONG_JSON
        source.close()


def test_seconds_text_is_exact():
    """Milliseconds become seconds without a float in between."""
    cases: Sequence[tuple[int, str]] = [
        (0, "0"), (1, "0.001"), (1_795_328_222_865, "1795328222.865"), (60_000, "60"),
    ]  # fmt: skip
    assert [seconds_text(at) for at, _ in cases] == [text for _, text in cases]


CONFIG = """
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: "hostile \\"[1,2]\\" \\\\ "
    static_configs:
      - targets: ["127.0.0.1:{port}"]
        labels: {{fake: '","value":[1,"2"]}},{{"metric":{{"a":"b"', brackets: "[[]]"}}
"""


@pytest.mark.integration
def test_a_real_prometheus(tmp_path):
    """Instant vectors, matrices and ranges of a real server decode, and are recognised again."""
    with scripted(
        lambda _: Response(200, b"m 1.5\nn NaN\no +Inf\n", content_type="text/plain")
    ) as target:
        port = target.url.rpartition(":")[2]
        with prometheus(tmp_path, CONFIG.format(port=port)) as server:
            source = source_of(server.url)

            def now() -> int:
                return int(time.time() * 1000)

            wait_until(lambda: source.instant("m[1m]", now()).times.size >= 2, 30, "two scrapes")
            at = now()
            vector = source.instant('{__name__=~"m|n|o"}', at)
            assert [repr(value) for value in vector.values.tolist()] == ["1.5", "nan", "inf"]
            assert set(vector.times.tolist()) == {at}
            labels = orjson.loads(vector.metrics[0])
            assert labels["fake"] == '","value":[1,"2"]},{"metric":{"a":"b"'
            again = source.instant('{__name__=~"m|n|o"}', at + 1, known=vector.digest)
            assert again.metrics is None
            matrix = source.instant('{__name__=~"m|n|o"}[30s]', at)
            assert matrix.series == 3
            shorter = source.instant('{__name__=~"m|n|o"}[2s]', at, known=matrix.digest)
            assert shorter.metrics is None
            ranged = source.query_range("m", at - 2000, at, 1000)
            assert (ranged.series, ranged.times[-1]) == (1, at)
            assert abs((ranged.server_date_ms or 0) - at) < 5000
            assert fails(lambda: source.instant("sum(", at)).kind == Kind.BAD_REQUEST
            source.close()
