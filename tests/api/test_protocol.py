"""What a client may owe us of a request, for how long, and what is answered at once."""

import contextlib

import pytest

from aggregator.api.edge import MAX_BODY_BYTES
from aggregator.api.protocol import MAX_HEAD_BYTES, BoundedProtocol
from tests.api.raw import CHUNKED, ROUTES, answers, connect, request, until_closed

HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


def _send_in_vain(client, data):
    """Send *data*; the server closes the connection meanwhile, or when it has seen enough."""
    client.settimeout(BoundedProtocol.patience_seconds / 2)  # that would close it, too
    with contextlib.suppress(ConnectionError):
        client.sendall(data)
    until_closed(client)


@pytest.fixture
def impatient(run, monkeypatch):
    """Return a server that waits for a tenth of a second."""
    monkeypatch.setattr(BoundedProtocol, "patience_seconds", 0.1)
    with run() as api:
        yield api


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"GET /hea", HEAD + b"X-Slow: "])
def test_slow_head(impatient, sent):
    """A connection on which no head arrives in time is closed."""
    with connect(impatient) as client:
        client.sendall(sent)
        assert until_closed(client) == b""


@pytest.mark.parametrize("sent", [b"GET /hea", b"\r\n"])
def test_slow_second_head(impatient, sent):
    """The patience is the same for a later request, and for lines that begin none."""
    with connect(impatient) as client:
        client.sendall(HEAD + b"\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
        client.sendall(sent)
        assert until_closed(client).endswith(b"ok\n")


def test_slow_body_of_answered_request(impatient):
    """Who was answered already does not keep the connection by sending its body slowly."""
    with connect(impatient) as client:
        client.sendall(HEAD.replace(b"GET", b"POST") + b"Content-Length: 100\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 405"
        client.sendall(b"x")
        assert until_closed(client).endswith(b"}")


def test_endless_head(run):
    """A head that does not end is refused before it fills the memory."""
    with run() as api, connect(api) as client:
        _send_in_vain(client, HEAD + b"X-Long: " + b"x" * 2**24)


def test_long_head(run):
    """A head below the limit is taken, in however many pieces it comes."""
    with run() as api, connect(api) as client:
        client.sendall(HEAD)
        for _ in range(16):
            client.sendall(b"X-Long: " + b"x" * (MAX_HEAD_BYTES // 20) + b"\r\n")
        client.sendall(b"\r\n")
        assert client.recv(65_536).startswith(b"HTTP/1.1 200")


@pytest.fixture
def echoing(run):
    """Return a server with routes that are answered at once."""
    with run(ROUTES) as api:
        yield api


def test_a_body_in_pieces(echoing):
    """What comes in pieces is answered as what comes as a whole is."""
    sent = request(b"/echo?size=3", b"hello")
    with connect(echoing) as client:
        for end in (len(sent) - 1, len(sent) - 5, 10, len(sent)):
            client.sendall(sent[:end])
            client.sendall(sent[end:])
            assert answers(client, 1) == [(200, b"hello|3")]


def test_a_slow_body(echoing):
    """A body that takes its time is waited for."""
    sent = request(b"/echo", b"hello")
    with connect(echoing) as client:
        client.sendall(sent[:-2])
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(10)
        client.sendall(sent[-2:])
        assert answers(client, 1) == [(200, b"hello|")]


def test_pipelined_requests(echoing):
    """Answers come in the order of the requests, whichever of them are made at once."""
    paths = [b"/echo?size=%d" % number for number in range(6)]
    paths[2] = b"/prometheus/api/v1/query?query=1"
    paths[4] = b"/nowhere"
    with connect(echoing) as client:
        client.sendall(b"".join(request(path, b"body") for path in paths))
        found = answers(client, 6)
    assert [status for status, _ in found] == [200, 200, 200, 200, 404, 200]
    assert [found[place][1] for place in (0, 1, 3, 5)] == [
        b"body|%d" % size for size in (0, 1, 3, 5)
    ]


def test_too_many_pipelined_requests(echoing):
    """Who sends requests without end, whatever becomes of them, does not fill the memory."""
    with connect(echoing) as client:
        client.sendall(request(b"/echo") * 2_000)
        assert until_closed(client).count(b"HTTP/1.1") < 2_000


def test_long_answers(echoing):
    """An answer of any length comes as a whole, and the connection stays."""
    with connect(echoing) as client:
        for size in (0, 10, 2**18, 2**18 + 1, 2**22):
            client.sendall(request(b"/long?size=%d" % size))
            assert answers(client, 1) == [(200, b"x" * size)]


@pytest.mark.parametrize(
    "sent",
    [
        request(b"/echo", b"", b"connection: close"),
        request(b"/echo", b"", version=b"1.0"),
    ],
)
def test_last_request(echoing, sent):
    """The connection is closed after the answer to who asks for that."""
    with connect(echoing) as client:
        client.sendall(sent)
        head, _, body = until_closed(client).partition(b"\r\n\r\n")
    assert (body, b"\r\nconnection: close" in head) == (b"|", True)


def test_expect_continue(echoing):
    """A client that waits to be told to send its body is told."""
    head, _, body = request(b"/echo", b"hello", b"expect: 100-continue").rpartition(b"\r\n")
    with connect(echoing) as client:
        client.sendall(head + b"\r\n")
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert answers(client, 1) == [(200, b"hello|")]


def test_rubbish_after_a_request(echoing):
    """What is no HTTP is refused, and nothing follows the refusal."""
    with connect(echoing) as client:
        client.sendall(request(b"/echo") + b"rubbish\r\n\r\n")
        assert until_closed(client).count(b"HTTP/1.1") == 1


def test_a_head_only(echoing):
    """HEAD is answered without a body, and GET then with one."""
    with connect(echoing) as client:
        last = HEAD + b"connection: close\r\n\r\n"
        client.sendall(HEAD.replace(b"GET", b"HEAD") + b"\r\n" + last)
        assert until_closed(client).count(b"ok\n") == 1


@pytest.mark.parametrize("end", [b"%0D%0A", b"%0A", b"%0D"])
def test_torn_header(echoing, end):
    """A header with a line break is never sent."""
    with connect(echoing) as client:
        client.sendall(request(b"/torn?end=" + end))
        assert b"x-other" not in until_closed(client)


def test_the_body_of_a_get(echoing):
    """What comes with GET asks for nothing, whether it is answered at once or not."""
    form = b"content-type: application/x-www-form-urlencoded"
    sent = request(b"/echo?size=3", b"size=4", form).replace(b"POST", b"GET")
    with connect(echoing) as client:
        client.sendall(sent + sent)
        assert answers(client, 2) == [(200, b"|3"), (200, b"|3")]


@pytest.mark.parametrize("size", [2**15, 2**15 + 1, 2**17, 2**20, 2**20 + 1])
def test_sizes_of_bodies(echoing, size):
    """A body is taken up to its limit, in one piece or in many, and the next request after it."""
    sent = request(b"/size", b"x" * size)
    chunk = b"%x\r\n%b\r\n" % (size // 64, b"x" * (size // 64))
    rest = b"%x\r\n%b\r\n" % (1, b"x") * (size % 64)
    chunked = CHUNKED + chunk * 64 + rest + b"0\r\n\r\n"
    expected = 413 if size > MAX_BODY_BYTES else 200
    with connect(echoing) as client:
        for each in (sent, chunked):
            client.sendall(each + request(b"/echo"))
            (status, body), after = answers(client, 2)
            assert (status, after) == (expected, (200, b"|"))
            assert status == 413 or int(body) == size


@pytest.mark.parametrize("pieces", [1, 2])
def test_trailers_are_no_headers(run, pieces):
    """What follows a body says nothing of who asks: a proxy looks at the head only."""
    end = b"0\r\nauthorization: Bearer planted\r\n\r\n"
    with run(ROUTES, tokens=[{"name": "one", "token": "planted"}]) as api, connect(api) as client:
        for sent in [CHUNKED + end] if pieces == 1 else [CHUNKED, end]:
            client.sendall(sent)
        assert [status for status, _ in answers(client, 1)] == [401]


@pytest.mark.parametrize("part", [b"x-a: b\r\n", b"x"])
def test_endless_trailers(echoing, part):
    """Trailers that do not end are refused before they fill the memory."""
    with connect(echoing) as client:
        _send_in_vain(client, CHUNKED + b"0\r\n" + part * 2**22)


@pytest.mark.parametrize("target", [b"http://[:::", b"http://localhost"])
def test_no_target(run, caplog, target):
    """A target that is none is refused, and is no failure of ours."""
    with run() as api, connect(api) as client:
        client.sendall(b"GET %b HTTP/1.1\r\nhost: localhost\r\n\r\n" % target)
        assert until_closed(client).startswith(b"HTTP/1.1 400 ")
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_patience_between_requests(run, monkeypatch):
    """Who was answered at once may take its time for the next request."""
    monkeypatch.setattr(BoundedProtocol, "patience_seconds", 0.2)
    with run(ROUTES) as api, connect(api) as client:
        client.sendall(request(b"/echo"))
        assert answers(client, 1) == [(200, b"|")]
        client.settimeout(0.6)
        with pytest.raises(TimeoutError):
            client.recv(1)
