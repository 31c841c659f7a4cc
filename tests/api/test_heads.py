"""Which heads are read without the framework's parser, and that they say the same."""

import pytest

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
    ],
)
def test_fields_that_are_not_plain(field):
    """Fields that say more than an answer needs, or that no two readers read alike."""
    assert heads.read(b"GET / HTTP/1.1\r\n" + field + b"\r\n\r\n", "") is None
