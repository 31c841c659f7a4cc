"""How answers of any size leave: to who reads them, to who does not, and those that fail."""

import contextlib
import socket
import ssl
import threading

import pytest

from aggregator.api.exchange import Lane, Reach, Reply, Route
from aggregator.api.protocol import BoundedProtocol
from tests.api.raw import ROUTES, answers, connect, connections, request, until_closed
from tests.servers import wait_until
from tests.sources.wire import authority

SIZES = [2**16 - 1, 2**16, 2**18 - 1, 2**18, 2**18 + 1, 2**20, 2**23]


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    """Return an authority with a certificate for localhost."""
    return authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(params=["http", "https"])
def scheme(request, ca):
    """Return the settings of a server, and what connects to it, without and with TLS."""
    if request.param == "http":
        return {}, _narrow
    trusted = ssl.create_default_context(cafile=str(ca.ca_file))
    files = {"cert_file": "server.pem", "key_file": "server.key"}
    tls = {key: str(ca.directory / name) for key, name in files.items()}
    return {"tls": tls}, lambda api: trusted.wrap_socket(_narrow(api), server_hostname="localhost")


def _narrow(api):
    """Return a connection that takes few bytes before they are read."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(10)
    client.connect(("127.0.0.1", int(api.url.rpartition(":")[2])))
    return client


def test_readers_get_everything(run, scheme):
    """An answer of any size arrives as a whole, and the connection stays."""
    settings, connected = scheme
    with run(ROUTES, **settings) as api, connected(api) as client:
        for size in SIZES:
            client.sendall(request(b"/long?size=%d" % size))
            assert answers(client, 1) == [(200, b"x" * size)]


@pytest.mark.parametrize("size", [2**18, 2**20])
def test_who_does_not_read_is_cut_off(run, scheme, monkeypatch, size):
    """Who asks without reading is answered a few times, and then disconnected."""
    monkeypatch.setattr(BoundedProtocol, "patience_seconds", 1.0)
    settings, connected = scheme
    asked, count = threading.Event(), 0

    def answer(_request):
        asked.set()
        return Reply(b"x" * size)

    route = Route("/asked", answer, "", methods=("POST",), reach=Reach.SAME, lane=Lane.EVENT_LOOP)
    with run([route], **settings) as api, connected(api) as client:
        client.sendall(request(b"/asked"))
        while asked.wait(0.3):
            asked.clear()
            count += 1
            assert count * size < 2**26  # more than the kernel would take
            with contextlib.suppress(ConnectionError):
                client.sendall(request(b"/asked"))
        wait_until(lambda: connections() == 0, 10, "the end of the connection")
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            until_closed(client)


def test_an_answer_that_cannot_be_sent(run, caplog):
    """It ends its connection, is logged and counted, and takes no room from others."""
    torn, whole = (
        Route(
            f"/{name}",
            lambda _request, headers=headers: Reply(b"x" * 200_000, headers=headers),
            "",
            reach=Reach.SAME,
        )
        for name, headers in (("unsendable", {"x-name": "a\nx-other: b"}), ("whole", {}))
    )
    with run([torn, whole], query={"bytes": "1MiB"}) as api:
        for _ in range(8):
            with connect(api) as client:
                client.sendall(b"GET /unsendable HTTP/1.1\r\nhost: localhost\r\n\r\n")
                assert b"x-other" not in until_closed(client)
        assert api.get("/whole").content == b"x" * 200_000
        metrics = api.get("/metrics").text
    logged = {record.name: record.exc_info[0] for record in caplog.records if record.exc_info}
    assert logged == {"uvicorn.error": RuntimeError, "asyncio": RuntimeError}
    assert 'aggregator_http_requests_total{route="/unsendable",status="500"} 8.0' in metrics
