"""The listening socket, TLS and the certificate's renewal."""

import ssl
import threading

import pytest
import requests

from aggregator.api.certificate import CertificateWatch
from aggregator.api.server import Server
from aggregator.api.settings import ServerTls
from aggregator.errors import ConfigError
from tests.api.conftest import Running
from tests.servers import wait_until
from tests.sources.wire import authority


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    """Return an authority with a certificate for localhost."""
    return authority(tmp_path_factory.mktemp("ca"))


def _tls(ca):
    return {
        "cert_file": str(ca.directory / "server.pem"),
        "key_file": str(ca.directory / "server.key"),
    }


def test_tls(run, ca):
    """With a certificate we speak TLS only, and say so to browsers."""
    with run(tls=_tls(ca)) as api:
        address = api.url.removeprefix("http://")
        api.session.headers["Connection"] = "close"
        answer = api.session.get(f"https://{address}/healthz", verify=ca.ca_file, timeout=10)
        assert answer.status_code == 200
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        with pytest.raises(requests.ConnectionError):
            api.session.get(f"http://{address}/healthz", timeout=10)


def test_renewed_certificate(ca, tmp_path):
    """A certificate that changes is used for new connections, a broken one changes nothing."""
    old, new = ca.issue("old", "subjectAltName=DNS:old"), ca.issue("new", "subjectAltName=DNS:new")
    files = tmp_path / "cert", tmp_path / "key"
    for source, file in zip(old, files, strict=True):
        file.write_bytes(source.read_bytes())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    watch = CertificateWatch(
        context, ServerTls(cert_file=files[0], key_file=files[1]), look_seconds=0.01
    )
    watch.start()
    try:
        assert _name(context, ca) == "old"
        files[0].write_bytes(new[0].read_bytes())  # the key does not fit yet
        files[1].unlink()
        assert _name(context, ca) == "old"
        files[1].write_bytes(new[1].read_bytes())
        wait_until(lambda: _name(context, ca) == "new", 10, "the new certificate")
    finally:
        watch.stop()


def _name(context, ca):
    """Return the name in the certificate that *context* serves."""
    client = ssl.create_default_context(cafile=str(ca.ca_file))
    client.check_hostname = False
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    serving = context.wrap_bio(to_server, to_client, server_side=True)
    asking = client.wrap_bio(to_client, to_server)
    for side in (asking, serving, asking, serving):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    certificate = asking.getpeercert()
    assert certificate is not None
    return certificate["subjectAltName"][0][1]


def test_port_taken(run):
    """A taken port is a configuration error that says what to do."""
    with run() as api:
        listen = api.url.removeprefix("http://")
        with pytest.raises(ConfigError, match=r"api.listen: cannot listen .* another process"):
            run(listen=listen)


def test_bad_certificate(run, tmp_path):
    """A certificate that cannot be used is a configuration error."""
    for name in ("cert", "key"):
        (tmp_path / name).write_text("nothing")
    tls = {"cert_file": str(tmp_path / "cert"), "key_file": str(tmp_path / "key")}
    with pytest.raises(ConfigError, match=r"api.tls: cannot use the certificate"):
        run(tls=tls)


def test_stop_without_start(run):
    """A server that never started can be stopped."""
    running = run()
    assert isinstance(running, Running)
    assert isinstance(running.server, Server)
    running.api.session.close()
    running.server.stop()


def test_stop_leaves_no_thread(run):
    """After the end there is no thread of ours."""
    before = set(threading.enumerate())
    with run() as api:
        assert api.get("/metrics").status_code == 200
    wait_until(lambda: set(threading.enumerate()) <= before, 10, "the end of the threads")
