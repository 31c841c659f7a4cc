"""Every way of answering is classified: the class, the kind, the cluster and what to do."""

import gzip
import socket
import zlib
from functools import partial
from http.client import IncompleteRead

import orjson
import pytest
from isal import isal_zlib

from aggregator.errors import (
    SourceError,
    SourceMalformedError,
    SourceRejectedError,
    SourceUnreachableError,
)
from aggregator.sources.failures import Kind, clean_text, translate
from aggregator.sources.prometheus import PrometheusSource
from aggregator.sources.settings import PrometheusSettings
from tests.servers import Response, free_port, scripted
from tests.sources.wire import OK_BODY, Stop, fails, http, wire

T = 1_795_328_222_000
HTML = "text/html; charset=utf-8"
LOGIN = {"Location": "https://user:pass@login.example/x?token=y"}
NASTY = orjson.dumps({"status": "error", "error": "a\x1b[31m\n\u202eb" + "x" * 999})


def source_of(url: str, **limits: object) -> PrometheusSource:
    """Return a source with one URL."""
    return PrometheusSource("eu", PrometheusSettings(url=url), timeout_seconds=5, **limits)


ANSWERS = [
    (Response(401, b"no"), Kind.AUTH, "check auth"),
    (Response(403, b"<html>no", content_type=HTML), Kind.AUTH, "check auth"),
    (Response(404, b"gone"), Kind.NOT_FOUND, "path of url"),
    (Response(405, b"no POST"), Kind.BAD_REQUEST, "no POST"),
    (Response(407), Kind.AUTH, "proxy_url"),
    (Response(408), Kind.TIMEOUT, "network"),
    (Response(429, b"slow down", {"Retry-After": "7"}), Kind.RATE_LIMITED, "wait 7 s"),
    (Response(500, b'{"error": 5}'), Kind.SERVER_ERROR, "see its log"),
    (Response(502, b"<html>", content_type=HTML), Kind.SERVER_ERROR, "HTTP 502; "),
    (Response(503, b"starting"), Kind.SERVER_ERROR, "starting"),
    (Response(504), Kind.QUERY_TIMEOUT, "too long"),
    (Response(599, b"?" * 200_000), Kind.SERVER_ERROR, "???"),
    (Response(301, b"", LOGIN), Kind.REDIRECT, "to https://login.example;"),
    (Response(302, b"", {"Location": "/login"}), Kind.REDIRECT, "final address"),
    (Response(304), Kind.REDIRECT, "final address"),
    (Response(204), Kind.EMPTY, "url"),
    (Response(299, OK_BODY), Kind.WRONG_PROTOCOL, "HTTP 299"),
    (Response(200, b"<!doctype html>", content_type=HTML), Kind.HTML, "login"),
    (Response(200, b" <HTML>"), Kind.HTML, "HTML"),
    (Response(200, b""), Kind.EMPTY, "empty body"),
    (Response(200, b" \n"), Kind.EMPTY, "empty body"),
    (Response(200, OK_BODY[:40]), Kind.TRUNCATED, "cut off"),
    (Response(200, b'{"a":1}'), Kind.WRONG_JSON, "right server"),
    (Response(200, b"up 1"), Kind.WRONG_JSON, "right server"),
    (Response(200, OK_BODY, {"Content-Encoding": "br"}), Kind.BAD_ENCODING, "br"),
    (Response(200, OK_BODY, {"Content-Encoding": "gzip"}), Kind.BAD_ENCODING, "gzip"),
    (Response(400, NASTY), Kind.BAD_REQUEST, "a [31m b"),
]
CLASSES = {
    SourceRejectedError: {
        Kind.AUTH, Kind.NOT_FOUND, Kind.BAD_REQUEST, Kind.EXECUTION, Kind.REDIRECT,
    },
    SourceMalformedError: {
        Kind.HTML, Kind.EMPTY, Kind.TRUNCATED, Kind.WRONG_JSON, Kind.WRONG_PROTOCOL,
        Kind.TOO_LARGE, Kind.BAD_ENCODING,
    },
}  # fmt: skip


def class_of(kind: Kind) -> type[SourceError]:
    """Return the class that errors of *kind* have to have."""
    found = [one for one, kinds in CLASSES.items() if kind in kinds]
    return found[0] if found else SourceUnreachableError


def check(error: SourceError, kind: Kind, text: str) -> None:
    """Hold an error against what it has to say."""
    assert (error.kind, type(error)) == (kind, class_of(kind)), error
    assert str(error).startswith("cluster eu: ")
    assert text in str(error)
    assert str(error).isprintable()
    assert len(str(error)) < 500


@pytest.mark.parametrize(("answer", "kind", "text"), ANSWERS)
def test_every_way_of_answering_is_classified(answer, kind, text):
    """Each answer that is no success has its class and kind, names the cluster and what to do."""
    with scripted(lambda _: answer) as server:
        source = source_of(server.url)
        check(fails(lambda: source.instant("up", T)), kind, text)
        assert len(server.requests) == 1
        inherited = fails(source.server.all_metrics)
        assert type(inherited) is class_of(kind)
        source.close()


def chunked(*pieces: bytes) -> bytes:
    """Return chunks without the last, empty one."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
GZIP = HEAD + b"Content-Encoding: gzip\r\n"
PACKED = gzip.compress(OK_BODY * 100)
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
CUTS = [
    (b"", Kind.RESET, "cut"),
    (b"SSH-2.0-OpenSSH_9\r\n", Kind.WRONG_PROTOCOL, "HTTP"),
    (b"\x15\x03\x01\x00\x02\x02\x0a", Kind.WRONG_PROTOCOL, "HTTP"),
    (HEAD + b"X: y\r\n" * 200 + b"\r\n", Kind.WRONG_PROTOCOL, "HTTP"),
    (HEAD + b"X: " + b"y" * 100_000 + b"\r\n\r\n", Kind.WRONG_PROTOCOL, "HTTP"),
    (HEAD + b"\r\n", Kind.EMPTY, "empty"),
    (HEAD + b"\r\n" + OK_BODY[:-1], Kind.TRUNCATED, "cut off"),
    (HEAD + b"Content-Length: 99\r\n\r\n" + OK_BODY, Kind.TRUNCATED, "cut off"),
    (HEAD + CHUNKED + chunked(OK_BODY), Kind.TRUNCATED, "cut off"),
    (HEAD + CHUNKED + b"zz\r\n", Kind.TRUNCATED, "cut off"),
    (HEAD + CHUNKED, Kind.TRUNCATED, "cut off"),
    (GZIP + b"\r\n" + PACKED[:-9], Kind.TRUNCATED, "gzip"),
    (GZIP + CHUNKED + chunked(PACKED[:40]), Kind.TRUNCATED, "cut off"),
    (GZIP + b"\r\n" + PACKED[:10] + b"\xff" * 60, Kind.BAD_ENCODING, "gzip"),
    (GZIP + b"\r\n" + PACKED + b"and some text behind it", Kind.BAD_ENCODING, "gzip"),
    (GZIP + b"\r\n", Kind.EMPTY, "empty"),
]


@pytest.mark.parametrize(("data", "kind", "text"), CUTS)
def test_connections_that_end_early_are_classified(data, kind, text):
    """A connection that ends anywhere but behind a whole answer is an error that says so."""
    with wire(lambda connection, _: connection.sendall(data)) as server:
        source = source_of(server.url)
        check(fails(lambda: source.instant("up", T)), kind, text)
        source.close()


def test_a_connection_that_is_reset_is_classified():
    """A reset in the middle of the body is not a short answer."""

    def serve(connection: socket.socket, stop: Stop) -> None:
        del stop
        connection.sendall(http()[:-5])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with wire(serve) as server:
        source = source_of(server.url)
        error = fails(lambda: source.instant("up", T))
        assert error.kind in {Kind.RESET, Kind.TRUNCATED}
        source.close()


@pytest.mark.parametrize("kept_alive", [True, False])
def test_a_connection_closed_while_idle_is_replaced(kept_alive):
    """Where a kept connection is closed before an answer, and only there, another one is opened."""

    def serve(connection: socket.socket, stop: Stop) -> None:
        del stop
        if kept_alive:
            connection.sendall(http())
            connection.recv(65_536)  # and closes, as a server does whose patience ended just now

    with wire(serve) as server:
        source = source_of(server.url)
        if kept_alive:
            assert [source.instant("up", T).series for _ in range(3)] == [0, 0, 0]
            assert server.connections == 3
        else:
            check(fails(lambda: source.instant("up", T)), Kind.RESET, "cut")
            assert server.connections == 1
        source.close()


@pytest.mark.parametrize(
    ("url", "kind", "text"),
    [
        ("http://127.0.0.1:{port}", Kind.REFUSED, "refused"),
        ("https://127.0.0.1:{port}", Kind.REFUSED, "refused"),
        ("http://no-such-name.invalid", Kind.DNS, "DNS"),
        ("http://no-such-name.invalid.", Kind.DNS, "DNS"),
        (f"http://{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 63}", Kind.DNS, "DNS"),
        ("http://169.254.169.254/latest", Kind.DNS, "link-local"),
        ("http://[fd00:ec2::254]", Kind.DNS, "link-local"),
        ("http://[::ffff:169.254.169.254]", Kind.DNS, "link-local"),
    ],
)
def test_what_cannot_be_reached_is_classified(url, kind, text):
    """A port nobody listens on, a name nobody knows and metadata services have their own words."""
    source = source_of(url.format(port=free_port()))
    check(fails(lambda: source.instant("up", T)), kind, text)
    source.close()


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_answers_beyond_the_limit_are_refused(declared, packed):
    """Bytes as sent are capped, whether the length is declared or not, packed or not."""
    body = b"x" * 3_000_000
    head = b"Content-Length: 3000000\r\n\r\n" if declared else b"\r\n"
    with wire(
        lambda connection, _: connection.sendall((GZIP if packed else HEAD) + head + body)
    ) as server:
        source = source_of(server.url, max_bytes=1_000_000)
        error = fails(lambda: source.instant("up", T))
        assert error.kind in ({Kind.TOO_LARGE, Kind.BAD_ENCODING} if packed else {Kind.TOO_LARGE})
        source.close()


def test_a_gzip_bomb_is_not_inflated():
    """A bomb ends at the limit of inflated bytes, or when its ratio is no JSON's."""
    stream = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(stream.compress(b" " * 2**20) for _ in range(300)) + stream.flush()
    with scripted(lambda _: Response(200, bomb, {"Content-Encoding": "gzip"})) as server:
        for source in (source_of(server.url, max_bytes=limit) for limit in (2**20, 2**30)):
            check(fails(partial(source.instant, "up", T)), Kind.TOO_LARGE, "response_bytes")
            source.close()


def test_gzip_in_several_members_is_one_answer():
    """Members that follow one another are one body, as the format allows."""
    packed = gzip.compress(OK_BODY[:20]) + isal_zlib.compress(OK_BODY[20:], wbits=31)
    with scripted(lambda _: Response(200, packed, {"Content-Encoding": "gzip"})) as server:
        source = source_of(server.url)
        answer = source.instant("up", T)
        assert (answer.raw_bytes, answer.inflated_bytes) == (len(packed), len(OK_BODY))
        source.close()


def test_identity_is_asked_for_where_gzip_is_off():
    """A source on a LAN can be spared the compression."""
    with scripted(lambda _: Response(200, OK_BODY)) as server:
        source = source_of(server.url, gzip=False)
        source.instant("up", T)
        source.close()
    assert server.requests[0].headers["accept-encoding"] == "identity"


def test_text_of_others_is_cleaned():
    """Control, formatting and separator characters go, and so does what is too long."""
    assert clean_text("a\x00b\x1b[1m\u202ec\u2028d  e\n") == "a b [1m c d e"
    assert clean_text("x" * 1000) == "x" * 299 + "…"


def test_unknown_exceptions_are_still_ours():
    """What nobody thought of becomes a `SourceError` that names its type, not its text."""
    error = translate("eu", ValueError("secret"))
    assert isinstance(error, SourceUnreachableError)
    assert "ValueError" in str(error)
    assert "secret" not in str(error)
    nested = OSError("x", IncompleteRead(b""))
    assert translate("eu", nested).kind == Kind.TRUNCATED
