"""Which heads are read without the framework's parser, and that they say the same."""

import asyncio

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from aggregator.api import heads

LINE = b"POST /prometheus/api/v1/query?a=b%20c HTTP/1.1\r\n"
FIELDS = b"Host: localhost:9090\r\nX-One: 1\r\nX-one: 2\r\nContent-Length: 5\r\n\r\n"


def test_a_plain_request():
    """A head that is all here is read, with the place of the body."""
    data = LINE + FIELDS + b"hello"
    found = heads.read(data, "10.0.0.1")
    assert found is not None
    assert data[found.body : found.end] == b"hello"
    assert found.head == heads.RequestHead(
        "POST",
        "/prometheus/api/v1/query",
        b"/prometheus/api/v1/query",
        b"a=b%20c",
        {"host": "localhost:9090", "x-one": "1, 2", "content-length": "5"},
        "10.0.0.1",
    )


def test_without_fields():
    """No field is needed to end a head."""
    found = heads.read(b"GET / HTTP/1.1\r\n\r\nGET", "")
    assert found is not None
    assert (found.head.path, found.head.query, found.body, found.end) == ("/", b"", 18, 18)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\nGET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"HEAD / HTTP/1.1\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET http://localhost/ HTTP/1.1\r\n\r\n",
        b"GET /%2e HTTP/1.1\r\n\r\n",
        b"GET /?a#b HTTP/1.1\r\n\r\n",
        b"GET /?\x80 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 5_000 + b"\r\n\r\n",
    ],
)
def test_not_plain(data):
    """What is unusual, or not here, is left to the parser that knows everything."""
    assert heads.read(data, "") is None


@pytest.mark.parametrize(
    "field",
    [
        b"Connection: close",
        b"Connection: keep-alive, close",
        b"Connection: Upgrade\r\nUpgrade: h2c",
        b"Upgrade: h2c",
        b"Expect: 100-continue",
        b"Transfer-Encoding: chunked",
        b"Content-Length: 1\r\nContent-Length: 1",
        b"Content-Length: 1\r\nTransfer-Encoding: chunked",
        b"Content-Length: -1",
        b"Content-Length: 99999999999999999999999",
        b"Host : a",
        b" Host: a",
        b"Host: a\r\n folded",
        b"Host: a\nX: b",
        b"Host: a\rX: b",
        b"Host: \x01",
        b"nothing",
        b"Proxy-Connection: close",
        b"\r\n".join(b"X-%d: 1" % number for number in range(65)),
    ],
)
def test_fields_that_are_not_plain(field):
    """Fields that say more than an answer needs, or that no two readers read alike."""
    assert heads.read(b"GET / HTTP/1.1\r\n" + field + b"\r\n\r\n", "") is None


@pytest.fixture(scope="module")
def loop():
    """Return an event loop that nothing runs on."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


async def _nothing(_scope, _receive, _send):
    """Answer nothing."""


class _Taken(HttpToolsProtocol):
    """What uvicorn makes of a connection's bytes, without answering."""

    def __init__(self, loop):
        config = Config(_nothing, interface="asgi3", ws="none", log_config=None)
        super().__init__(config, ServerState(), {}, loop)
        self.begun = []
        self.connection_made(_Wire())

    def on_message_begin(self):
        self.begun.append(None)
        super().on_message_begin()

    def _start_asgi_task(self, cycle, app):  # noqa: ARG002  uvicorn's own
        self.begun[-1] = cycle


class _Wire(asyncio.Transport):
    """A connection that takes everything."""

    def write(self, data):
        """Take an answer."""

    def close(self):
        """Take note of the end."""

    def pause_reading(self):
        """Take note of a pause."""

    def get_extra_info(self, name, default=None):
        """Return the address of the client."""
        return ("10.0.0.1", 1234) if name == "peername" else default


_CHARACTERS = [bytes([code]) for code in range(256)]


def _mostly(usual, odd):
    """Return what is one of the *usual* four times out of five."""
    return st.integers(0, 4).flatmap(lambda number: st.sampled_from(usual if number else odd))


_TEXTS = st.text('ab,;=\t \xff"', max_size=6).map(lambda text: text.encode("latin-1"))
_USUAL_FIELDS = st.one_of(
    st.sampled_from([b"Content-Length: 5", b"content-length:05\t", b"Connection: Keep-Alive"]),
    st.builds(b"%b: %b".__mod__, st.tuples(st.sampled_from([b"X-A", b"x-a", b"a"]), _TEXTS)),
)
_ODD_FIELDS = st.builds(
    lambda name, between, value: name + between + value,
    st.sampled_from(
        b"Connection Proxy-Connection Content-Length Transfer-Encoding Upgrade Keep-Alive Trailer "
        b"H\x00".split(b" ")
    ),
    st.sampled_from([b": ", b":", b":\t ", b" : ", b"", b":\r\n "]),
    st.sampled_from(
        b"|0|+5|5, 5|0x5|chunked|close|upgrade|keep-alive|keep-alive |a\r\n b|"
        b"a\nContent-Length: 5".split(b"|")
    ),
)
_FIELDS = st.builds(
    lambda field, end: field + end,
    st.one_of(_USUAL_FIELDS, _USUAL_FIELDS, _USUAL_FIELDS, _ODD_FIELDS),
    st.sampled_from([b"\r\n"] * 25 + [b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"\r\n\n"]),
)
_TARGETS = st.one_of(
    st.text("/ab.~-_").map("/".__add__),
    st.text("ab?&=%+\"'<>\\^`{|}:;@[]!$*,").map("/a?".__add__),
    st.text("/ab?%#: ").map("/".__add__),
    st.sampled_from(["*", "a:80", "http://a/b", "//a/b", "/?a?b", "/?", "/\t"]),
).map(str.encode)
_HEADS = st.builds(
    lambda method, target, version, fields, end: (
        method + b" " + target + b" " + version + b"".join(fields) + end
    ),
    _mostly([b"GET", b"POST"], [b"HEAD", b"get", b"PRI", b"CONNECT", b"\r\nGET"]),
    _TARGETS,
    _mostly([b"HTTP/1.1\r\n"], [b"HTTP/1.0\r\n", b"HTTP/2.0\r\n", b"HTTP/1.1\n"]),
    st.lists(_FIELDS, max_size=4),
    _mostly([b"\r\n"], [b"\n", b"\r\n\r\n", b"\r\r\n"]),
)


@settings(max_examples=1_000, deadline=None)
@given(_HEADS)
@example(b"GET / HTTP/1.1\r\nProxy-Connection: close\r\n\r\n")
def test_uvicorn_reads_the_same(loop, head):
    """What is read here is, to uvicorn, one request with the same head, body and end."""
    data = head + b"GET /smuggled HTTP/1.1\r\n\r\n"
    _check_same(loop, data)


@pytest.mark.parametrize(
    "place", ["/%b", "/?%b", "/a?b=%b", "/ HTTP/1.1\r\nX-A: %b", "/ HTTP/1.1\r\n%b"]
)
def test_every_character(loop, place):
    """No character is understood differently, wherever it stands."""
    for character in _CHARACTERS:
        target = place.encode() % character
        version = b"" if b"HTTP" in target else b" HTTP/1.1\r\nX-A: b"
        _check_same(loop, b"GET " + target + version + b"\r\n\r\n")


def _check_same(loop, data):
    found = heads.read(data, "10.0.0.1")
    if found is None:
        return
    taken = _Taken(loop)
    taken.data_received(data[: found.end].ljust(found.end, b"x"))
    (cycle,) = taken.begun
    assert found.head == heads.of_scope(cycle.scope)
    assert (cycle.keep_alive, cycle.more_body) == (True, False)
    assert len(cycle.body) == found.end - found.body
    taken.data_received(b"GET /after HTTP/1.1\r\n\r\n")
    assert taken.scope["path"] == "/after"
