"""What a client may owe us of a request, for how long, and what is answered at once."""

import contextlib
import socket

import pytest

from aggregator.api.edge import MAX_BODY_BYTES
from aggregator.api.exchange import Lane, Reach, Reply, Route
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


def _send_in_vain(client, data):
    """Send *data*; the server closes the connection meanwhile, or when it has seen enough."""
    client.settimeout(BoundedProtocol.patience_seconds / 2)  # that would close it, too
    with contextlib.suppress(ConnectionError):
        client.sendall(data)
    _until_closed(client)


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


@pytest.mark.parametrize("sent", [b"GET /hea", b"\r\n"])
def test_slow_second_head(impatient, sent):
    """The patience is the same for a later request, and for lines that begin none."""
    with _connect(impatient) as client:
        client.sendall(HEAD + b"\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
        client.sendall(sent)
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
    with run() as api, _connect(api) as client:
        _send_in_vain(client, HEAD + b"X-Long: " + b"x" * 2**24)


def test_long_head(run):
    """A head below the limit is taken, in however many pieces it comes."""
    with run() as api, _connect(api) as client:
        client.sendall(HEAD)
        for _ in range(16):
            client.sendall(b"X-Long: " + b"x" * (MAX_HEAD_BYTES // 20) + b"\r\n")
        client.sendall(b"\r\n")
        assert client.recv(65_536).startswith(b"HTTP/1.1 200")


def _echo(request):
    return Reply(request.body + b"|" + request.first("size").encode())


def _long(request):
    return Reply(b"x" * int(request.first("size")))


def _torn(request):
    return Reply(b"", headers={"x-name": f"a{request.first('end')}x-other: b"})


def _sized(request):
    return Reply(b"%d" % len(request.body))


ROUTES = [
    Route(path, handler, "", methods=("GET", "POST"), reach=Reach.SAME, lane=Lane.EVENT_LOOP)
    for path, handler in (("/echo", _echo), ("/long", _long), ("/torn", _torn), ("/size", _sized))
]


@pytest.fixture
def echoing(run):
    """Return a server with routes that are answered at once."""
    with run(ROUTES) as api:
        yield api


def _request(path, body=b"", *headers, version=b"1.1"):
    lines = [b"POST %b HTTP/%b" % (path, version), b"host: localhost", *headers]
    return b"\r\n".join((*lines, b"content-length: %d" % len(body), b"", body))


CHUNKED = _request(b"/size").replace(b"content-length: 0", b"transfer-encoding: chunked")


def _answers(client, count):
    """Return status and body of so many answers, one after the other."""
    file, found = client.makefile("rb"), []
    for _ in range(count):
        status = int(file.readline().split()[1])
        headers = {}
        while line := file.readline().strip():
            name, _, value = line.partition(b": ")
            assert name not in headers
            headers[name] = value
        assert {b"date", b"content-type", b"content-security-policy"} <= headers.keys()
        found.append((status, file.read(int(headers[b"content-length"]))))
    return found


def test_a_body_in_pieces(echoing):
    """What comes in pieces is answered as what comes as a whole is."""
    sent = _request(b"/echo?size=3", b"hello")
    with _connect(echoing) as client:
        for end in (len(sent) - 1, len(sent) - 5, 10, len(sent)):
            client.sendall(sent[:end])
            client.sendall(sent[end:])
            assert _answers(client, 1) == [(200, b"hello|3")]


def test_a_slow_body(echoing):
    """A body that takes its time is waited for."""
    sent = _request(b"/echo", b"hello")
    with _connect(echoing) as client:
        client.sendall(sent[:-2])
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(10)
        client.sendall(sent[-2:])
        assert _answers(client, 1) == [(200, b"hello|")]


def test_pipelined_requests(echoing):
    """Answers come in the order of the requests, whichever of them are made at once."""
    paths = [b"/echo?size=%d" % number for number in range(6)]
    paths[2] = b"/prometheus/api/v1/query?query=1"
    paths[4] = b"/nowhere"
    with _connect(echoing) as client:
        client.sendall(b"".join(_request(path, b"body") for path in paths))
        answers = _answers(client, 6)
    assert [status for status, _ in answers] == [200, 200, 200, 200, 404, 200]
    assert [answers[place][1] for place in (0, 1, 3, 5)] == [
        b"body|%d" % size for size in (0, 1, 3, 5)
    ]


def test_too_many_pipelined_requests(echoing):
    """Who sends requests without end, whatever becomes of them, does not fill the memory."""
    with _connect(echoing) as client:
        client.sendall(_request(b"/echo") * 2_000)
        assert _until_closed(client).count(b"HTTP/1.1") < 2_000


def test_long_answers(echoing):
    """An answer of any length comes as a whole, and the connection stays."""
    with _connect(echoing) as client:
        for size in (0, 10, 2**18, 2**18 + 1, 2**22):
            client.sendall(_request(b"/long?size=%d" % size))
            assert _answers(client, 1) == [(200, b"x" * size)]


@pytest.mark.parametrize(
    "sent",
    [
        _request(b"/echo", b"", b"connection: close"),
        _request(b"/echo", b"", version=b"1.0"),
    ],
)
def test_last_request(echoing, sent):
    """The connection is closed after the answer to who asks for that."""
    with _connect(echoing) as client:
        client.sendall(sent)
        head, _, body = _until_closed(client).partition(b"\r\n\r\n")
    assert (body, b"\r\nconnection: close" in head) == (b"|", True)


def test_expect_continue(echoing):
    """A client that waits to be told to send its body is told."""
    head, _, body = _request(b"/echo", b"hello", b"expect: 100-continue").rpartition(b"\r\n")
    with _connect(echoing) as client:
        client.sendall(head + b"\r\n")
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert _answers(client, 1) == [(200, b"hello|")]


def test_rubbish_after_a_request(echoing):
    """What is no HTTP is refused, and nothing follows the refusal."""
    with _connect(echoing) as client:
        client.sendall(_request(b"/echo") + b"rubbish\r\n\r\n")
        assert _until_closed(client).count(b"HTTP/1.1") == 1


def test_a_head_only(echoing):
    """HEAD is answered without a body, and GET then with one."""
    with _connect(echoing) as client:
        last = HEAD + b"connection: close\r\n\r\n"
        client.sendall(HEAD.replace(b"GET", b"HEAD") + b"\r\n" + last)
        assert _until_closed(client).count(b"ok\n") == 1


@pytest.mark.parametrize("end", [b"%0D%0A", b"%0A", b"%0D"])
def test_torn_header(echoing, end):
    """A header with a line break is never sent."""
    with _connect(echoing) as client:
        client.sendall(_request(b"/torn?end=" + end))
        assert b"x-other" not in _until_closed(client)


def test_the_body_of_a_get(echoing):
    """What comes with GET asks for nothing, whether it is answered at once or not."""
    form = b"content-type: application/x-www-form-urlencoded"
    sent = _request(b"/echo?size=3", b"size=4", form).replace(b"POST", b"GET")
    with _connect(echoing) as client:
        client.sendall(sent + sent)
        assert _answers(client, 2) == [(200, b"|3"), (200, b"|3")]


@pytest.mark.parametrize("size", [2**15, 2**15 + 1, 2**17, 2**20, 2**20 + 1])
def test_sizes_of_bodies(echoing, size):
    """A body is taken up to its limit, in one piece or in many, and the next request after it."""
    sent = _request(b"/size", b"x" * size)
    chunk = b"%x\r\n%b\r\n" % (size // 64, b"x" * (size // 64))
    rest = b"%x\r\n%b\r\n" % (1, b"x") * (size % 64)
    chunked = CHUNKED + chunk * 64 + rest + b"0\r\n\r\n"
    expected = 413 if size > MAX_BODY_BYTES else 200
    with _connect(echoing) as client:
        for each in (sent, chunked):
            client.sendall(each + _request(b"/echo"))
            (status, body), after = _answers(client, 2)
            assert (status, after) == (expected, (200, b"|"))
            assert status == 413 or int(body) == size


@pytest.mark.parametrize("pieces", [1, 2])
def test_trailers_are_no_headers(run, pieces):
    """What follows a body says nothing of who asks: a proxy looks at the head only."""
    end = b"0\r\nauthorization: Bearer planted\r\n\r\n"
    with run(ROUTES, tokens=[{"name": "one", "token": "planted"}]) as api, _connect(api) as client:
        for sent in [CHUNKED + end] if pieces == 1 else [CHUNKED, end]:
            client.sendall(sent)
        assert [status for status, _ in _answers(client, 1)] == [401]


@pytest.mark.parametrize("part", [b"x-a: b\r\n", b"x"])
def test_endless_trailers(echoing, part):
    """Trailers that do not end are refused before they fill the memory."""
    with _connect(echoing) as client:
        _send_in_vain(client, CHUNKED + b"0\r\n" + part * 2**22)


@pytest.mark.parametrize("target", [b"http://[:::", b"http://localhost"])
def test_no_target(run, caplog, target):
    """A target that is none is refused, and is no failure of ours."""
    with run() as api, _connect(api) as client:
        client.sendall(b"GET %b HTTP/1.1\r\nhost: localhost\r\n\r\n" % target)
        assert _until_closed(client).startswith(b"HTTP/1.1 400 ")
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_patience_between_requests(run, monkeypatch):
    """Who was answered at once may take its time for the next request."""
    monkeypatch.setattr(BoundedProtocol, "patience_seconds", 0.2)
    with run(ROUTES) as api, _connect(api) as client:
        client.sendall(_request(b"/echo"))
        assert _answers(client, 1) == [(200, b"|")]
        client.settimeout(0.6)
        with pytest.raises(TimeoutError):
            client.recv(1)
