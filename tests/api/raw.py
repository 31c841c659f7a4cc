"""HTTP byte by byte: what a client library would not send, or in pieces of its own."""

import gc
import socket

from aggregator.api.exchange import Lane, Reach, Reply, Route
from aggregator.api.protocol import BoundedProtocol


def connect(api):
    """Return a connection to *api* that waits ten seconds for what it reads."""
    host, port = api.url.removeprefix("http://").rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=10)


def connections():
    """Return how many connections the server remembers."""
    gc.collect()
    return sum(type(each) is BoundedProtocol for each in gc.get_objects())


def until_closed(client):
    """Return everything that comes before the server closes the connection."""
    received = b""
    try:
        while part := client.recv(65_536):
            received += part
    except ConnectionResetError:
        pass
    return received


def request(path, body=b"", *headers, version=b"1.1"):
    """Return a POST to *path*."""
    lines = [b"POST %b HTTP/%b" % (path, version), b"host: localhost", *headers]
    return b"\r\n".join((*lines, b"content-length: %d" % len(body), b"", body))


def answers(client, count):
    """Return status and body of so many answers, one after the other."""
    file, found = client.makefile("rb"), []
    for _ in range(count):
        status = int(file.readline().split()[1])
        headers = {}
        while line := file.readline().strip():
            name, _, value = line.partition(b": ")
            assert name not in headers
            headers[name] = value
        assert {b"date", b"content-type", b"x-content-type-options"} <= headers.keys()
        found.append((status, file.read(int(headers[b"content-length"]))))
    return found


CHUNKED = request(b"/size").replace(b"content-length: 0", b"transfer-encoding: chunked")


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
