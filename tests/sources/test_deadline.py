"""Every way of being slow ends at the deadline, and none as an empty success."""

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from aggregator.errors import SourceUnreachableError
from aggregator.sources.deadline import Exchange
from aggregator.sources.failures import Kind
from aggregator.sources.prometheus import PrometheusSource
from aggregator.sources.resolve import Resolver
from aggregator.sources.settings import PrometheusSettings
from tests.sources.wire import (
    DEADLINE_SECONDS,
    GRACE_SECONDS,
    OK_BODY,
    Serve,
    Stop,
    fails,
    http,
    wire,
)


@pytest.fixture
def late() -> Iterator[Callable[[str], None]]:
    """Return a function that queries a URL and checks that the deadline ends it."""
    sources: list[PrometheusSource] = []

    def check(url: str) -> None:
        settings = PrometheusSettings(url=url, tls={"insecure_skip_verify": True})
        source = PrometheusSource("eu", settings, timeout_seconds=DEADLINE_SECONDS)
        sources.append(source)
        started = time.monotonic()
        error = fails(lambda: source.instant("up", 0))
        took = time.monotonic() - started
        assert isinstance(error, SourceUnreachableError)
        assert error.kind == Kind.TIMEOUT, error
        assert "cluster eu" in str(error)
        assert took >= DEADLINE_SECONDS - 0.05
        assert took < DEADLINE_SECONDS + GRACE_SECONDS

    yield check
    for source in sources:
        source.close()


def trickle(data: bytes, before: bytes = b"", every: float = 0.05) -> Serve:
    """Return a server that sends *before* at once and then *data* byte by byte."""

    def serve(connection: socket.socket, stop: Stop) -> None:
        connection.sendall(before)
        for byte in data:
            if not stop.pause(every):
                return
            connection.sendall(bytes([byte]))

    return serve


def silent(connection: socket.socket, stop: Stop) -> None:
    """Never answer."""
    del connection
    stop.pause(10)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

SLOW: dict[str, tuple[Serve, bool]] = {
    "never answers": (silent, True),
    "never reads": (silent, False),
    "trickles the status line": (trickle(http()), True),
    "trickles headers": (trickle(b"X-A: b\r\n" * 100, HEAD), True),
    "trickles header bytes": (trickle(b"X-A: " + b"b" * 1000, HEAD), True),
    "only continues": (trickle(b"HTTP/1.1 100 Continue\r\n\r\n" * 50, b"", 0.01), True),
    "trickles the body": (trickle(OK_BODY, http()[: -len(OK_BODY)]), True),
    "trickles a body without length": (trickle(OK_BODY, HEAD + b"\r\n"), True),
    "trickles chunks": (trickle(b"1\r\n \r\n" * 100, CHUNKED), True),
    "stops inside the headers": (trickle(b"", HEAD + b"Content-"), True),
    "stops after the headers": (trickle(b"", HEAD + b"Content-Length: 70\r\n\r\n"), True),
    "stops inside gzip": (
        trickle(
            b"",
            HEAD + b"Content-Encoding: gzip\r\nContent-Length: 70\r\n\r\n"
            + gzip.compress(OK_BODY)[:30],
        ),
        True,
    ),
}  # fmt: skip


def lingering(serve: Serve) -> Serve:
    """Return a server that does as *serve* and then keeps the connection."""

    def linger(connection: socket.socket, stop: Stop) -> None:
        serve(connection, stop)
        stop.pause(10)

    return linger


@pytest.mark.parametrize("name", SLOW)
def test_slow_answers_end_at_the_deadline(name, late):
    """A server that is slow in any part of its answer ends as a timeout, in time."""
    serve, reads = SLOW[name]
    with wire(lingering(serve), reads=reads) as server:
        late(server.url)


@pytest.mark.parametrize(
    "serve",
    [silent, trickle(b"\x16\x03\x03\x40\x00\x02" + b"\x00" * 200)],
    ids=["silent", "trickle"],
)
def test_slow_handshakes_end_at_the_deadline(serve, late):
    """A TLS handshake that does not come, or byte by byte, ends as a timeout, in time."""
    with wire(lingering(serve), reads=False) as server:
        late(server.url.replace("http:", "https:"))


def test_connections_that_nobody_accepts_end_at_the_deadline(late):
    """A full backlog drops SYNs, as a black hole does: connecting ends at the deadline."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        waiting = [socket.socket() for _ in range(8)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        late(f"http://127.0.0.1:{listener.getsockname()[1]}")
        for one in waiting:
            one.close()


def test_a_kept_alive_connection_is_watched_too():
    """The second request over one connection has a deadline of its own."""

    def serve(connection: socket.socket, stop: Stop) -> None:
        connection.sendall(http())
        connection.recv(65_536)
        trickle(http())(connection, stop)

    with wire(serve) as server:
        source = PrometheusSource(
            "eu", PrometheusSettings(url=server.url), timeout_seconds=DEADLINE_SECONDS
        )
        assert source.instant("up", 0).series == 0
        started = time.monotonic()
        assert fails(lambda: source.instant("up", 0)).kind == Kind.TIMEOUT
        assert time.monotonic() - started < DEADLINE_SECONDS + GRACE_SECONDS
        assert server.connections == 1
        source.close()


@pytest.mark.parametrize(
    "answer",
    [
        HEAD[:12],
        HEAD,
        HEAD + b"Content-Le",
        HEAD + b"X-A: b",
        HEAD + b"Content-Length: 0",
        HEAD + b"Content-Length: 0\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n",
    ],
)
def test_headers_that_are_cut_are_no_answer(answer):
    """A connection that ends inside the headers is an error, not an empty success."""
    with wire(lambda connection, _: connection.sendall(answer)) as server:
        source = PrometheusSource("eu", PrometheusSettings(url=server.url), timeout_seconds=5)
        assert fails(lambda: source.instant("up", 0)).kind == Kind.RESET
        source.close()


def test_a_hanging_resolver_ends_at_the_deadline(monkeypatch):
    """Name resolution that hangs holds nobody longer than the time there is, in one thread."""
    release = threading.Event()
    asked = []
    real = socket.getaddrinfo

    def hang(host, *args, **kwargs):
        if not kwargs.get("flags"):
            asked.append(host)
            release.wait(10)
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    resolver = Resolver()
    for _ in range(3):
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            resolver.addresses("localhost", 80, 0.2)
        assert time.monotonic() - started < 0.2 + GRACE_SECONDS
    assert asked == ["localhost"]
    source = PrometheusSource(
        "eu", PrometheusSettings(url="http://localhost:1"), timeout_seconds=0.3
    )
    assert fails(lambda: source.instant("up", 0)).kind == Kind.TIMEOUT
    source.close()
    release.set()


def test_an_exchange_that_is_over_is_left_alone():
    """The reaper ends no connection that its exchange has given back."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        exchange = Exchange(time.monotonic() + 0.05, 1.0)
        with exchange:
            exchange.watch(ours)
        exchange.expire()
        assert not exchange.expired
        theirs.sendall(b"x")
        assert ours.recv(1) == b"x"
        with Exchange(time.monotonic() + 0.05, 1.0) as late:
            late.watch(ours)
            ours.settimeout(5)
            assert ours.recv(1) == b""
            assert late.expired
