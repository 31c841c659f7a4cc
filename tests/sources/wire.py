"""Servers that misbehave on the wire: each connection is given to a function with its socket."""

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from aggregator.errors import SourceError

DEADLINE_SECONDS = 0.6
GRACE_SECONDS = 0.2
OK_BODY = b'{"status":"success","data":{"resultType":"vector","result":[]}}'


def http(body: bytes = OK_BODY, status: str = "200 OK", headers: str = "") -> bytes:
    """Return a whole HTTP answer."""
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{headers}\r\n"
    ).encode() + body


class Stop:
    """Tells a connection's function when the test is over."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """End every pause."""
        self._event.set()

    def pause(self, seconds: float) -> bool:
        """Wait; return whether the test goes on."""
        return not self._event.wait(seconds)


@dataclass
class WireServer:
    """A listening port and what was received on it."""

    port: int
    received: list[bytes]
    connections: int = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"


Serve = Callable[[socket.socket, Stop], None]


def request_head(connection: socket.socket) -> bytes:
    """Read one request's head (and a body that came along)."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(65_536)
        if not piece:
            return head
        head += piece
    return head


@contextlib.contextmanager
def wire(serve: Serve, *, reads: bool = True) -> Iterator[WireServer]:
    """Give each connection, its first request read if *reads*, to *serve*."""
    stop = Stop()
    threads: list[threading.Thread] = []
    listener = socket.create_server(("127.0.0.1", 0), backlog=16)
    server = WireServer(listener.getsockname()[1], [])

    def handle(connection: socket.socket) -> None:
        connection.settimeout(10)
        with connection, contextlib.suppress(OSError, ssl.SSLError):
            if reads:
                server.received.append(request_head(connection))
            serve(connection, stop)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            server.connections += 1
            thread = threading.Thread(target=handle, args=(connection,), daemon=True)
            threads.append(thread)
            thread.start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield server
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(5)
        for thread in threads:
            thread.join(12)


def fails(call: Callable[[], object]) -> SourceError:
    """Return the error that *call* ends with; anything else fails the test."""
    with pytest.raises(SourceError) as caught:
        call()
    return caught.value


@dataclass(frozen=True)
class Authority:
    """A certificate authority of the test, with a certificate for `localhost` and 127.0.0.1."""

    directory: Path

    @property
    def ca_file(self) -> Path:
        """The certificate to trust."""
        return self.directory / "ca.pem"

    def issue(self, name: str, extension: str) -> tuple[Path, Path]:
        """Return the certificate and the key of *name*."""
        key, request, made = (self.directory / f"{name}.{end}" for end in ("key", "csr", "pem"))
        extensions = self.directory / f"{name}.ext"
        extensions.write_text(extension)
        openssl("req", "-new", "-nodes", "-newkey", "rsa:2048", "-subj", f"/CN={name}",
                "-keyout", str(key), "-out", str(request))  # fmt: skip
        openssl("x509", "-req", "-in", str(request), "-CA", str(self.ca_file),
                "-CAkey", str(self.directory / "ca.key"), "-CAcreateserial", "-days", "2",
                "-extfile", str(extensions), "-out", str(made))  # fmt: skip
        return made, key

    def server_context(self, *, clients: bool = False) -> ssl.SSLContext:
        """Return what a server for localhost uses; with *clients* it wants their certificates."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.directory / "server.pem", self.directory / "server.key")
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.ca_file)
        return context


def openssl(*arguments: str) -> None:
    """Run openssl; fail with what it says."""
    done = subprocess.run(
        ["openssl", *arguments],  # noqa: S607  from the path, as an operator would
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()


def authority(directory: Path, name: str = "test authority") -> Authority:
    """Make an authority in *directory* with a certificate for a server on localhost."""
    directory.mkdir(parents=True, exist_ok=True)
    openssl("req", "-x509", "-new", "-nodes", "-newkey", "rsa:2048", "-subj", f"/CN={name}",
            "-days", "2", "-keyout", str(directory / "ca.key"),
            "-out", str(directory / "ca.pem"))  # fmt: skip
    made = Authority(directory)
    made.issue("server", "subjectAltName=DNS:localhost,DNS:prometheus.example,IP:127.0.0.1")
    return made
