"""A Loki is asked for numbers; what it says otherwise is classified, and never repeated freely."""

import json
import socket
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from aggregator.sources.failures import Kind
from aggregator.sources.loki import LokiSource
from aggregator.sources.settings import LokiSettings
from tests.servers import Response, free_port, scripted
from tests.sources.wire import Stop, fails, wire

T = 1_795_327_200_000
TEXT = "text/plain; charset=utf-8"
LINE = "card 4111-1111-1111-1111 refused"
STREAMS = {
    "status": "success",
    "data": {
        "resultType": "streams",
        "result": [{"stream": {"app": "pay"}, "values": [["1795328250000828636", LINE]]}],
        "stats": {},
    },
}


def source_of(url: str, **settings: object) -> LokiSource:
    """Return a source with that URL."""
    own = LokiSettings.model_validate({"url": url, "timeout": "2s", **settings})
    return LokiSource("eu", own, max_bytes=100_000)


def recorded(shared_dir: Path, name: str) -> tuple[Mapping[str, str], Response]:
    """Return the query parameters of a recorded exchange, and its answer."""
    exchange = json.loads((shared_dir / "contracts" / "loki" / f"{name}.json").read_text())
    request, response = exchange["request"], exchange["response"]
    body = response["body"]
    text = body if isinstance(body, str) else json.dumps(body, separators=(",", ":"))
    kind = response["headers"]["content-type"]
    return dict(request["query"]), Response(response["status"], text.encode(), content_type=kind)


def text(status: int, words: str) -> Response:
    """Return an error as Loki writes it."""
    return Response(status, words.encode(), content_type=TEXT)


VECTORS = {
    "query_instant_vector": {'{"app":"checkout"}': 360.0, '{"app":"payments"}': 360.0},
    "query_instant_empty": {},
    "query_instant_scalar": {"{}": 2.0},
    "tenant_query_two": {'{"__tenant_id__":"team-a","cluster":"eu-1"}': 354.0},
    "backfill_1_at_once": {"{}": 154.0},
    "backfill_3_after_flush": None,
}


@pytest.mark.parametrize("name", VECTORS)
def test_recorded_vectors_are_read(shared_dir: Path, name: str) -> None:
    """The numbers of a recorded answer, statistics left out; each is of the instant asked for."""
    query, response = recorded(shared_dir, name)
    with scripted(lambda _: response) as server:
        answer = source_of(server.url).instant(query["query"], T)
    assert answer.metrics is not None
    assert answer.times.tolist() == [T] * answer.series
    found = dict(zip(map(bytes.decode, answer.metrics), answer.values.tolist(), strict=True))
    expected = VECTORS[name]
    assert found if expected is None else found.items() >= expected.items()
    assert answer.series or name == "query_instant_empty"


def test_statistics_do_not_change_the_digest(shared_dir: Path) -> None:
    """An answer with the same labels and other statistics is known, and its labels not parsed."""
    _, response = recorded(shared_dir, "query_instant_vector")
    later = response.body.replace(b'"execTime":0.011058786', b'"execTime":9.5')
    later = later.replace(b'"360"', b'"371"')
    assert later.count(b"371") == 3
    assert b"9.5" in later
    bodies = [response.body, later]
    with scripted(lambda _: Response(200, bodies.pop(0))) as server:
        source = source_of(server.url)
        first = source.instant("x", T)
        second = source.instant("x", T + 60_000, known=first.digest)
    assert second.metrics is None
    assert second.values.tolist() == [371.0] * 3
    assert np.array_equal(second.offsets, first.offsets)


REFUSED = [
    ("query_instant_log_query_400", Kind.BAD_REQUEST, "count_over_time"),
    ("error_max_query_series_instant_400", Kind.EXECUTION, "max_query_series"),
    ("error_missing_org_id_401", Kind.AUTH, "set loki.tenant"),
    ("tenant_invalid_id", Kind.AUTH, "loki.tenant"),
    ("error_parse_400", Kind.BAD_REQUEST, "line 1, col 9"),
    ("error_bad_regex_400", Kind.BAD_REQUEST, "correct it"),
    ("error_empty_matcher_400", Kind.BAD_REQUEST, "not empty"),
    ("error_range_too_long_400", Kind.EXECUTION, "max_query_length"),
    ("error_max_query_range_400", Kind.EXECUTION, "max_query_range"),
    ("error_max_bytes_read", Kind.EXECUTION, "max_query_bytes_read"),
    ("error_query_timeout_504", Kind.QUERY_TIMEOUT, "Loki's load"),
    ("metric_pipeline_error_400", Kind.EXECUTION, "__error__"),
    ("metric_unwrap_error_400", Kind.EXECUTION, "SampleExtractionErr"),
    ("error_not_found_404", Kind.NOT_FOUND, "/loki/api/v1"),
    ("starting_ready_503", Kind.SERVER_ERROR, "see its log"),
    ("push_error_rate_limited_429", Kind.RATE_LIMITED, "more rarely"),
    ("starting_query", Kind.WRONG_JSON, "log lines"),
    ("query_range_streams_default", Kind.WRONG_JSON, "log lines"),
    ("metric_rate_by_level", Kind.WRONG_JSON, "range"),
]


@pytest.mark.parametrize(("name", "kind", "advice"), REFUSED, ids=[one[0] for one in REFUSED])
def test_recorded_errors_are_classified(
    shared_dir: Path, name: str, kind: Kind, advice: str
) -> None:
    """Every error of a recorded Loki has its kind and says what to do."""
    _, response = recorded(shared_dir, name)
    with scripted(lambda _: response) as server:
        error = fails(lambda: source_of(server.url).instant("x", T))
    assert error.kind == kind
    assert advice in error.detail


def test_what_was_logged_is_not_repeated(shared_dir: Path) -> None:
    """A failing parser quotes the line in its error; we do not."""
    _, response = recorded(shared_dir, "metric_unwrap_error_400")
    assert b"payment failed" in response.body
    with scripted(lambda _: response) as server:
        error = fails(lambda: source_of(server.url).instant("x", T))
    assert "payment failed" not in f"{error} {error.__cause__} {error.__context__}"


OTHERS = [
    (text(429, "too many outstanding requests"), Kind.RATE_LIMITED, "queriers"),
    (text(500, f"boom: {LINE}"), Kind.SERVER_ERROR, "see its log"),
    (text(400, f"cannot read: {LINE}"), Kind.BAD_REQUEST, "correct the query"),
    (text(403, LINE), Kind.AUTH, "roles"),
    (text(502, f"<html>{LINE}"), Kind.SERVER_ERROR, "HTTP 502; "),
    (Response(200, f"<html>{LINE}".encode(), content_type="text/html"), Kind.HTML, "login"),
    (Response(200, b""), Kind.EMPTY, "empty body"),
    (Response(200, json.dumps(STREAMS).encode()), Kind.WRONG_JSON, "log lines"),
    (Response(200, json.dumps(STREAMS).encode()[:-9]), Kind.WRONG_JSON, "log lines"),
    (
        Response(200, json.dumps({"status": "error", "error": LINE}).encode()),
        Kind.EXECUTION,
        "log of Loki",
    ),
    (
        Response(
            200, b'{"data":{"result":["' + LINE.encode() * 200 + b'"],"resultType":"streams"}'
        ),
        Kind.TRUNCATED,
        "cut off",
    ),
    (
        Response(
            200,
            b'{"status":"success","data":{"result":["'
            + LINE.encode() * 200
            + b'"],"resultType":"streams"}}',
        ),
        Kind.WRONG_JSON,
        "no samples",
    ),
    (
        Response(
            200,
            json.dumps(
                {
                    "status": "success",
                    "data": {
                        "resultType": "vector",
                        "result": [{"metric": {"a": "b"}, "value": [1, LINE]}],
                    },
                }
            ).encode(),
        ),
        Kind.WRONG_JSON,
        "not a number",
    ),
    (Response(200, b" " * 200_000), Kind.TOO_LARGE, "limits.response_bytes"),
]


@pytest.mark.parametrize(("response", "kind", "advice"), OTHERS)
def test_other_answers_are_classified(response: Response, kind: Kind, advice: str) -> None:
    """Whatever else comes has a kind and advice, and no log line is in the error."""
    with scripted(lambda _: response) as server:
        error = fails(lambda: source_of(server.url).instant("x", T))
    assert error.kind == kind
    assert advice in error.detail
    assert "4111" not in f"{error} {error.__cause__} {error.__context__}"


def test_silence_ends_at_the_deadline() -> None:
    """A Loki that accepts and says nothing is given up after the timeout; one may be refused."""

    def serve(_: socket.socket, stop: Stop) -> None:
        stop.pause(30)

    with wire(serve) as server:
        error = fails(lambda: source_of(server.url, timeout="300ms").instant("x", T))
    assert error.kind == Kind.TIMEOUT
    gone = f"http://127.0.0.1:{free_port()}"
    assert fails(lambda: source_of(gone).instant("x", T)).kind == Kind.REFUSED


def test_what_is_sent() -> None:
    """Times go in nanoseconds, the tenant and credentials in headers, long queries as a form."""
    answer = b'{"status":"success","data":{"resultType":"vector","result":[]}}'
    with scripted(lambda _: Response(200, answer)) as server:
        source = source_of(
            f"{server.url}/logs/", tenant="team-a|team-b", auth={"bearer_token": "s3cret"}
        )
        source.instant("sum(1)", T)
        source.instant("x" * 5_000, T)
    short, long = server.requests
    assert short.path == long.path == "/logs/loki/api/v1/query"
    assert dict(short.query) == {"query": "sum(1)", "time": f"{T}000000"}
    assert short.headers["x-scope-orgid"] == "team-a|team-b"
    assert short.headers["authorization"] == "Bearer s3cret"
    assert long.method == "POST"
    assert f"time={T}000000".encode() in long.body


LABELS = [("labels", {"app", "namespace"}), ("labels_query", {"app"}), ("labels_empty", set())]


@pytest.mark.parametrize(("name", "expected"), LABELS)
def test_labels_are_read(shared_dir: Path, name: str, expected: set[str]) -> None:
    """The labels of recorded answers; nothing in the range is an answer without data."""
    _, response = recorded(shared_dir, name)
    with scripted(lambda _: response) as server:
        found = source_of(server.url).labels(T - 3_600_000, T)
    assert found >= expected
    assert bool(found) == bool(expected)
    [request] = server.requests
    assert dict(request.query) == {"start": f"{T - 3_600_000}000000", "end": f"{T}000000"}


@pytest.mark.parametrize(
    "body", [b"[]", b'{"status":"error"}', b'{"status":"success","data":[1]}', b"{", b"\xff"]
)
def test_what_is_no_list_of_labels_is_refused(body: bytes) -> None:
    """Anything but labels is malformed."""
    with scripted(lambda _: Response(200, body)) as server:
        assert fails(lambda: source_of(server.url).labels(T, T)).kind == Kind.WRONG_JSON


def test_warnings_are_told_without_their_words() -> None:
    """A warning makes the answer partial; its text could quote what was logged."""
    body = {"status": "success", "data": {"resultType": "vector", "result": []}, "warnings": [LINE]}
    with scripted(lambda _: Response(200, json.dumps(body).encode())) as server:
        [warning] = source_of(server.url).instant("x", T).warnings
    assert "4111" not in warning


def test_urls_are_checked() -> None:
    """No credentials, no parameters, and not the path that we add."""
    for url in ("http://u:p@loki", "http://loki/?a=b", "http://loki/loki/api/v1/"):
        with pytest.raises(ValueError, match=r"url"):
            LokiSettings.model_validate({"url": url})
    assert LokiSettings(url="http://x", default_selector='{a="b", }').matchers == 'a="b"'
