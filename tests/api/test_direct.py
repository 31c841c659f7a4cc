"""Requests that are answered without the framework's server, and what becomes of the connection."""

import contextlib
import http.client
import random
import struct
import threading
import time
from socket import SO_LINGER, SOL_SOCKET

import pytest

from aggregator.api.protocol import BoundedProtocol
from tests.api.raw import CHUNKED, ROUTES, answers, connect, connections, request, until_closed
from tests.servers import wait_until

PLAIN = b"GET /echo?size=%d HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.fixture
def echoing(run):
    """Return a server with routes that are answered at once."""
    with run(ROUTES) as api:
        yield api


def _mixed():
    """Return requests of all kinds, those in between plain, and what is answered to them."""
    odd = [
        CHUNKED + b"3\r\nabc\r\n0\r\n\r\n",
        request(b"/echo", b"hi", b"connection: keep-alive, x"),
        request(b"/ech%6F", b"hi"),
        b"\r\n\r\n" + request(b"/echo", b"hi"),
        request(b"/prometheus/api/v1/query?query=1"),
        request(b"/long?size=300000"),
        request(b"/nowhere"),
        request(b"/size", b"x" * 40_000),
        request(b"/echo", b"hi", b"x-long: " + b"x" * 5_000),
    ]
    bodies = [b"3", b"hi|", b"hi|", b"hi|", None, b"x" * 300_000, None, b"40000", b"hi|"]
    sent, expected = [], []
    for number, (each, body) in enumerate(zip(odd, bodies, strict=True)):
        sent += [PLAIN % number, each]
        expected += [b"|%d" % number, body]
    return sent, expected


def _check_bodies(found, expected):
    assert len(found) == len(expected)
    assert [
        (status, body) for (status, body), known in zip(found, expected, strict=True) if known
    ] == [(200, known) for known in expected if known]


def test_headers_are_those_of_asgi(echoing):
    """Whoever answers, and whatever was asked before on the connection."""
    client = http.client.HTTPConnection(echoing.url.removeprefix("http://"), timeout=10)

    def headers(method, given):
        client.request(method, "/echo?size=1", headers=given)
        answer = client.getresponse()
        answer.read()
        return {name: value for name, value in answer.getheaders() if name != "date"}

    with contextlib.closing(client):
        for method in ("GET", "POST", "GET", "POST"):
            direct = headers(method, {})
            assert direct == headers(method, {"Connection": "keep-alive, x"})
            assert direct["x-content-type-options"] == "nosniff"
            assert ("cache-control" in direct) == (method == "GET")


def test_plain_requests_between_others(echoing):
    """Whoever answers, on one connection every request gets its own answer."""
    sent, expected = _mixed()
    with connect(echoing) as client:
        found = []
        for each in sent * 2:
            client.sendall(each)
            found += answers(client, 1)
    _check_bodies(found, expected * 2)


@pytest.mark.parametrize("seed", range(8))
def test_requests_in_packets_of_any_size(echoing, seed):
    """Wherever what is sent is cut, the answers are the same, in order."""
    sent, expected = _mixed()
    data = b"".join(sent)
    chance = random.Random(seed)
    cuts = sorted(chance.sample(range(len(data)), 40 if seed else 0))
    with connect(echoing) as client:
        for first, last in zip([0, *cuts], [*cuts, len(data)], strict=True):
            client.sendall(data[first:last])
        _check_bodies(answers(client, len(sent)), expected)


def test_byte_by_byte(echoing):
    """A plain request may come in the smallest of pieces, and be followed by a whole one."""
    sent = request(b"/echo?size=1", b"hello")
    with connect(echoing) as client:
        for place in range(len(sent)):
            client.sendall(sent[place : place + 1])
        assert answers(client, 1) == [(200, b"hello|1")]
        client.sendall(sent)
        assert answers(client, 1) == [(200, b"hello|1")]


@pytest.mark.parametrize("sent", [PLAIN % 1, CHUNKED + b"0\r\n\r\n", b""])
def test_idle_connections_are_closed(run, monkeypatch, sent):
    """A connection stays for a time after its last request, however that was answered."""
    monkeypatch.setattr("aggregator.api.server._KEEP_ALIVE_SECONDS", 1.0)
    with run(ROUTES) as api, connect(api) as client:
        for _ in range(2):  # the second one in time, the third not
            client.sendall(PLAIN % 2 + sent)
            answers(client, 2 if sent else 1)
            asked = time.monotonic()
            client.settimeout(0.6)
            with pytest.raises(TimeoutError):
                client.recv(1)
            client.settimeout(10)
        assert until_closed(client) == b""
        assert 0.8 < time.monotonic() - asked < 5


@pytest.fixture
def patient(run, monkeypatch):
    """Return what runs a server that holds a request for its body until something happens."""
    monkeypatch.setattr("aggregator.api.protocol._REST_SECONDS", 5.0)
    return run


def test_a_held_request_is_no_slow_head(patient, monkeypatch):
    """The patience with heads ends with the head, though its body is still to come."""
    monkeypatch.setattr(BoundedProtocol, "patience_seconds", 0.3)
    sent = request(b"/echo", b"hello")
    with patient(ROUTES) as api, connect(api) as client:
        client.sendall(sent[:-1])
        client.settimeout(0.6)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.sendall(sent[-1:])
        assert answers(client, 1) == [(200, b"hello|")]


def test_a_held_request_at_shutdown(patient):
    """Whose body is on its way when the server stops is answered still."""
    sent, running = request(b"/echo", b"hello"), patient(ROUTES)
    stopping = threading.Thread(target=running.server.stop)
    with running as api, connect(api) as client, connect(api) as other:
        client.sendall(sent[:-1])
        other.sendall(PLAIN % 1)
        answers(other, 1)  # it came later
        stopping.start()
        assert until_closed(other) == b""
        client.sendall(sent[-1:])
        head, _, body = until_closed(client).partition(b"\r\n\r\n")
        assert (body, b"connection: close" in head) == (b"hello|", True)
    stopping.join(10)


@pytest.mark.parametrize("sent", [b"", PLAIN % 1, request(b"/echo", b"hello")[:-1]])
def test_a_reset_leaves_nothing(patient, sent):
    """A connection that is cut is forgotten at once, whatever it waited for."""
    with patient(ROUTES) as api:
        with connect(api) as client:
            client.sendall(PLAIN % 1)
            answers(client, 1)
            client.sendall(sent)
            assert connections() == 1
            client.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        wait_until(lambda: connections() == 0, 10, "the end of the connection")


def test_too_many_connections(run, monkeypatch):
    """When there are too many, also who was served before is refused."""
    monkeypatch.setattr("aggregator.api.server._BACKLOG", 2)
    with run(ROUTES) as api, connect(api) as client:
        client.sendall(PLAIN % 1)
        assert answers(client, 1) == [(200, b"|1")]

        def refused():
            client.sendall(PLAIN % 1)
            return client.recv(65_536).startswith(b"HTTP/1.1 503 ")

        with connect(api):
            wait_until(refused, 10, "the second connection")
        until_closed(client)


@pytest.mark.parametrize("field", [b"content-length: %d", b"transfer-encoding: chunked"])
@pytest.mark.parametrize("pieces", [1, 2])
def test_a_body_behind_an_offer(echoing, field, pieces):
    """What follows the offer of another protocol is no request: a proxy took it for a body."""
    offer = b"POST /echo HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: h2c\r\n"
    head = offer + (field % len(PLAIN) if b"%" in field else field) + b"\r\n\r\n"
    with connect(echoing) as client:
        for each in [head + PLAIN % 1] if pieces == 1 else [head, PLAIN % 1]:
            with contextlib.suppress(ConnectionError):
                client.sendall(each)
        received = until_closed(client)
    assert received.count(b"HTTP/1.1") == received.count(b"HTTP/1.1 400 ") == 1


def test_an_offer(echoing, caplog):
    """Who offers another protocol is answered in this one, once; nobody is warned of it."""
    offer = (PLAIN % 1).replace(
        b"\r\n\r\n", b"\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    )
    with connect(echoing) as client:
        client.sendall(PLAIN % 2)
        assert answers(client, 1) == [(200, b"|2")]
        client.sendall(offer + PLAIN % 3)
        head, _, body = until_closed(client).partition(b"\r\n\r\n")
    assert (head[:12], body, b"connection: close" in head) == (b"HTTP/1.1 200", b"|1", True)
    assert caplog.records == []


def test_a_token_ends_with_its_file(run, monkeypatch, tmp_path):
    """A token that was replaced is refused with the next request, on the same connection too."""
    monkeypatch.setattr("aggregator.api.auth._LOOK_AGAIN_SECONDS", 0.0)
    file = tmp_path / "token"
    file.write_text("first")
    tokens = [{"name": "one", "token_file": str(file)}]
    sent = request(b"/echo", b"", b"authorization: Bearer first")
    with run(ROUTES, tokens=tokens) as api, connect(api) as client:
        for expected in (200, 200):
            client.sendall(sent)
            assert [status for status, _ in answers(client, 1)] == [expected]
        file.write_text("second one")
        client.sendall(sent)
        assert [status for status, _ in answers(client, 1)] == [401]
