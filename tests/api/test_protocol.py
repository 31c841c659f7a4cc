"""What a client may owe us of a request, and for how long."""

import socket

import pytest

from aggregator.api.protocol import MAX_HEAD_BYTES, BoundedProtocol

HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


def _connect(api):
    host, port = api.url.removeprefix("http://").rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=10)


def _until_closed(client):
    """Return everything that comes before the server closes the connection."""
    received = b""
    try:
        while part := client.recv(65_536):
            received += part
    except ConnectionResetError:
        pass
    return received


@pytest.fixture
def impatient(run, monkeypatch):
    """Return a server that waits for a tenth of a second."""
    monkeypatch.setattr(BoundedProtocol, "patience_seconds", 0.1)
    with run() as api:
        yield api


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"GET /hea", HEAD + b"X-Slow: "])
def test_slow_head(impatient, sent):
    """A connection on which no head arrives in time is closed."""
    with _connect(impatient) as client:
        client.sendall(sent)
        assert _until_closed(client) == b""


def test_slow_second_head(impatient):
    """The patience is the same for a later request of a connection."""
    with _connect(impatient) as client:
        client.sendall(HEAD + b"\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
        client.sendall(b"GET /hea")
        assert _until_closed(client).endswith(b"ok\n")


def test_slow_body_of_answered_request(impatient):
    """Who was answered already does not keep the connection by sending its body slowly."""
    with _connect(impatient) as client:
        client.sendall(HEAD.replace(b"GET", b"POST") + b"Content-Length: 100\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 405"
        client.sendall(b"x")
        assert _until_closed(client).endswith(b"}")


def test_endless_head(run):
    """A head that does not end is refused before it fills the memory."""
    broken = pytest.raises(OSError, match=r"reset|[Bb]roken pipe")
    with run() as api, _connect(api) as client, broken:
        client.sendall(HEAD + b"X-Long: " + b"x" * 2**24)


def test_long_head(run):
    """A head below the limit is taken, in however many pieces it comes."""
    with run() as api, _connect(api) as client:
        client.sendall(HEAD)
        for _ in range(16):
            client.sendall(b"X-Long: " + b"x" * (MAX_HEAD_BYTES // 20) + b"\r\n")
        client.sendall(b"\r\n")
        assert client.recv(65_536).startswith(b"HTTP/1.1 200")
