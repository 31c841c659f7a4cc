"""TLS: who is trusted, client certificates, names, files that change, proxies."""

import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from aggregator.sources.failures import Kind
from aggregator.sources.prometheus import PrometheusSource
from aggregator.sources.settings import PrometheusSettings
from tests.servers import free_port
from tests.sources.wire import (
    DEADLINE_SECONDS,
    GRACE_SECONDS,
    Authority,
    Serve,
    Stop,
    WireServer,
    authority,
    fails,
    http,
    openssl,
    request_head,
    wire,
)

T = 1_795_328_222_000


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return an authority with a server's certificate."""
    return authority(tmp_path_factory.mktemp("trusted"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return another authority, nobody's friend."""
    return authority(tmp_path_factory.mktemp("other"), "other authority")


def source_of(url: str, tls: dict[str, object], **settings: object) -> PrometheusSource:
    """Return a source with TLS settings."""
    return PrometheusSource(
        "eu", PrometheusSettings(url=url, tls=tls, **settings), timeout_seconds=5
    )


def answering(context: ssl.SSLContext, peers: list[str]) -> Serve:
    """Return a server that speaks TLS and notes the names of its clients and of itself."""

    def name_asked(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
        peers.append(f"sni {name}")

    context.sni_callback = name_asked

    def serve(connection: socket.socket, stop: Stop) -> None:
        del stop
        with context.wrap_socket(connection, server_side=True) as wrapped:
            certificate = wrapped.getpeercert()
            if certificate:
                peers.append(dict(one[0] for one in certificate["subject"])["commonName"])
            while request_head(wrapped):
                wrapped.sendall(http())

    return serve


@contextmanager
def tls_server(authority_: Authority, *, clients: bool = False) -> Iterator[tuple[str, list[str]]]:
    """Run a server with TLS; yield its URL and the names it notes."""
    peers: list[str] = []
    serve = answering(authority_.server_context(clients=clients), peers)
    with wire(serve, reads=False) as server:
        yield f"https://127.0.0.1:{server.port}", peers


def test_a_known_authority_is_trusted(trusted):
    """A server whose certificate our CA signed for its address is asked, also by name."""
    with tls_server(trusted) as (url, _):
        for address in (url, url.replace("127.0.0.1", "localhost")):
            source = source_of(address, {"ca_file": trusted.ca_file})
            assert source.instant("up", T).series == 0
            assert source.instant("up", T).series == 0
            source.close()


@pytest.mark.parametrize("own", [True, False])
def test_an_unknown_authority_is_not_trusted(own, trusted, other):
    """A certificate of another authority, or of one no public list has, is refused by name."""
    with tls_server(trusted) as (url, _):
        source = source_of(url, {"ca_file": other.ca_file} if own else {})
        error = fails(lambda: source.instant("up", T))
        source.close()
    assert error.kind == Kind.TLS
    assert "ca_file" in str(error)


def test_verification_can_be_switched_off(trusted):
    """With insecure_skip_verify any certificate will do, silently."""
    with tls_server(trusted) as (url, _):
        source = source_of(url, {"insecure_skip_verify": True})
        assert source.instant("up", T).series == 0
        source.close()


def test_the_name_has_to_match(trusted):
    """The certificate's name is that of the URL, or of server_name, which is asked for as well."""
    with tls_server(trusted) as (url, peers):
        for name, good in (("prometheus.example", True), ("someone.else", False)):
            source = source_of(url, {"ca_file": trusted.ca_file, "server_name": name})
            if good:
                assert source.instant("up", T).series == 0
            else:
                assert fails(lambda: source.instant("up", T)).kind == Kind.TLS  # noqa: B023  called at once
            source.close()
            assert f"sni {name}" in peers


def test_client_certificates_identify_us(trusted, tmp_path):
    """A server that wants a certificate gets ours, and another one after the files changed."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    for name in ("first", "second"):
        trusted.issue(name, "extendedKeyUsage=clientAuth")
    with tls_server(trusted, clients=True) as (url, peers):
        refused = source_of(url, {"ca_file": trusted.ca_file})
        assert fails(lambda: refused.instant("up", T)).kind in {Kind.TLS, Kind.RESET}
        refused.close()
        for path, end in ((cert, "pem"), (key, "key")):
            shutil.copy(trusted.directory / f"first.{end}", path)
        tls = {"ca_file": trusted.ca_file, "cert_file": cert, "key_file": key}
        source = source_of(url, tls)
        assert source.instant("up", T).series == 0
        shutil.copy(trusted.directory / "second.pem", cert)
        assert source.instant("up", T).series == 0  # half replaced: the pair in use goes on
        shutil.copy(trusted.directory / "second.key", key)
        assert source.instant("up", T).series == 0
        source.close()
        assert [peer for peer in peers if not peer.startswith("sni")] == ["first", "second"]


def test_a_changed_authority_is_read_again(trusted, other, tmp_path):
    """A CA file that is replaced takes effect with the next request."""
    ca_file = tmp_path / "ca.pem"
    shutil.copy(other.ca_file, ca_file)
    with tls_server(trusted) as (url, _):
        source = source_of(url, {"ca_file": ca_file})
        assert fails(lambda: source.instant("up", T)).kind == Kind.TLS
        shutil.copy(trusted.ca_file, ca_file)
        assert source.instant("up", T).series == 0
        shutil.copy(other.ca_file, ca_file)
        assert fails(lambda: source.instant("up", T)).kind == Kind.TLS
        source.close()


def test_files_that_cannot_be_used_are_an_error(trusted, tmp_path):
    """Missing, broken, mismatched and encrypted files are errors before anything is sent."""
    trusted.issue("another", "extendedKeyUsage=clientAuth")
    locked = tmp_path / "locked.key"
    openssl("rsa", "-aes256", "-passout", "pass:word", "-in",
            str(trusted.directory / "server.key"), "-out", str(locked))  # fmt: skip
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    first, second = trusted.directory / "server.pem", trusted.directory / "another.key"
    cases = (
        {"ca_file": tmp_path / "none.pem"},
        {"ca_file": broken},
        {"cert_file": first, "key_file": second},
        {"cert_file": first, "key_file": locked},
        {"cert_file": first, "key_file": tmp_path / "none.key"},
    )
    for tls in cases:
        source = source_of("https://127.0.0.1:1", tls)
        error = fails(lambda: source.instant("up", T))  # noqa: B023  called at once
        source.close()
        assert error.kind == Kind.TLS
        assert "check tls" in str(error)


def test_plain_text_on_a_tls_port_is_classified():
    """A server without TLS behind an https URL is told apart from one that is down."""
    with wire(lambda connection, _: connection.sendall(http()), reads=False) as server:
        source = source_of(server.url.replace("http:", "https:"), {})
        error = fails(lambda: source.instant("up", T))
        source.close()
    assert error.kind == Kind.TLS
    assert "scheme" in str(error)


def tunnel(connection: socket.socket, target: int) -> None:
    """Answer CONNECT and carry bytes both ways until one side ends."""
    with socket.create_connection(("127.0.0.1", target)) as onward:
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        for sock in (connection, onward):
            sock.settimeout(0.02)
        pairs = ((connection, onward), (onward, connection))
        while True:
            for source, sink in pairs:
                try:
                    data = source.recv(65_536)
                except TimeoutError:
                    continue
                if not data:
                    return
                sink.sendall(data)


def proxied(server: WireServer, url: str, tls: dict[str, object]) -> PrometheusSource:
    """Return a source behind a proxy that wants a password."""
    proxy_url = server.url.replace("//", "//user:pr0xy-pass@")
    return source_of(url, tls, proxy_url=proxy_url)


def test_a_proxy_password_is_not_shown():
    """Settings printed by accident do not show a proxy's password."""
    proxy_url = "http://user:pr0xy-pass@proxy.example"
    settings = PrometheusSettings.model_validate({"url": "http://x", "proxy_url": proxy_url})
    assert "pr0xy-pass" not in f"{settings!r} {settings}"


def test_a_proxy_is_used_for_both_schemes(trusted):
    """Https goes through a CONNECT tunnel and is verified end to end; http is forwarded."""
    with tls_server(trusted) as (url, _):
        port = int(url.rpartition(":")[2])
        with wire(lambda connection, _: tunnel(connection, port)) as proxy:
            name = f"https://localhost:{port}"
            source = proxied(proxy, name, {"ca_file": trusted.ca_file})
            assert source.instant("up", T).series == 0
            source.close()
        assert proxy.received[0].startswith(f"CONNECT localhost:{port} ".encode())
        assert b"Proxy-Authorization: Basic " in proxy.received[0]
    with wire(lambda connection, _: connection.sendall(http())) as proxy:
        source = proxied(proxy, "http://prometheus.example", {})
        assert source.instant("up", T).series == 0
        source.close()
    assert proxy.received[0].startswith(b"GET http://prometheus.example/api/v1/query?")


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 403 Forbidden\r\n\r\n", b"HTTP/1.1 407 Proxy Auth\r\n\r\n"]
)
def test_a_proxy_that_refuses_is_classified(answer):
    """A proxy's refusal names the proxy, and not its password."""
    with wire(lambda connection, _: connection.sendall(answer)) as proxy:
        source = proxied(proxy, "https://prometheus.example", {})
        error = fails(lambda: source.instant("up", T))
        source.close()
    assert error.kind == Kind.PROXY
    assert "proxy_url" in str(error)
    assert "pr0xy-pass" not in repr(error)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_down_is_classified(scheme):
    """It is the proxy that cannot be reached, not the server."""
    proxy_url = f"http://127.0.0.1:{free_port()}"
    source = source_of(f"{scheme}://prometheus.example", {}, proxy_url=proxy_url)
    error = fails(lambda: source.instant("up", T))
    source.close()
    assert (error.kind, "proxy_url" in str(error)) == (Kind.PROXY, True)


def test_a_slow_proxy_ends_at_the_deadline():
    """A proxy that trickles its answer to CONNECT holds nobody longer than the deadline."""

    def serve(connection: socket.socket, stop: Stop) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while stop.pause(0.05):
            connection.sendall(b"X: y\r\n")

    with wire(serve) as proxy:
        settings = PrometheusSettings(url="https://prometheus.example", proxy_url=proxy.url)
        source = PrometheusSource("eu", settings, timeout_seconds=DEADLINE_SECONDS)
        started = time.monotonic()
        assert fails(lambda: source.instant("up", T)).kind == Kind.TIMEOUT
        assert time.monotonic() - started < DEADLINE_SECONDS + GRACE_SECONDS
        source.close()
