"""The ASGI side: access, bodies, disconnects, errors and our own metrics."""

import socket
import threading
from itertools import chain
from urllib.parse import parse_qsl

from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from aggregator.api.edge import parameter_pairs
from aggregator.api.exchange import HTML, JSON, TEXT, Access, Reply, Route
from aggregator.errors import StoreError
from aggregator.telemetry import render
from tests.servers import wait_until

VIEWER = {"Authorization": "Bearer view"}
OPERATOR = {"Authorization": "Bearer change"}
TOKENS = [
    {"name": "grafana", "token": "view", "role": "viewer"},
    {"name": "pager", "token": "change", "role": "operator"},
]


def _echo(request):
    return Reply(b"%d " % len(request.body) + repr(request.pairs).encode())


CHANGE = Route("/api/v1/change", _echo, "Change", methods=("POST",), access=Access.OPERATOR)


def test_pages_of_other_sites(run):
    """What a page of another site has a browser send is refused before any work."""
    with run() as api:
        foreign = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
        url = f"{api.url}/prometheus/api/v1/query?query=up"
        refused = api.session.get(url, headers=foreign, timeout=10)
        assert (refused.status_code, refused.json()["errorType"]) == (403, "forbidden")
        assert not api.reads


def test_a_token_is_needed(run):
    """With tokens, everything but health asks for one; the browser is asked for a password."""
    with run(tokens=TOKENS) as api:
        for path in ("/api/v1/clusters", "/metrics", "/docs", "/openapi.json", "/nope"):
            refused = api.get(path)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"].startswith("Basic")
            assert refused.json()["errorType"] == "unauthorized"
        for path in ("/healthz", "/readyz"):
            assert api.get(path).status_code == 200
        url = f"{api.url}/api/v1/clusters"
        assert api.session.get(url, headers=VIEWER, timeout=10).status_code == 200


def test_readiness_keeps_names(run):
    """Who shows no token learns how much readiness waits for, not which clusters there are."""
    with run(tokens=TOKENS) as api:
        api.waiting.append("cluster planted-name")
        assert api.get("/readyz").text == "waiting for 1\n"
        url = f"{api.url}/readyz"
        assert "planted-name" in api.session.get(url, headers=VIEWER, timeout=10).text


def test_changes_need_an_operator(run):
    """A change needs the role operator, and an origin that is ours if a browser sends it."""
    with run((CHANGE,), tokens=TOKENS) as api:
        url = f"{api.url}/api/v1/change"

        def status(**headers):
            return api.session.post(url, headers=headers, timeout=10).status_code

        assert status(**VIEWER) == 403
        assert status(**OPERATOR) == 200
        assert status(**OPERATOR, Origin=api.url) == 200
        assert status(**OPERATOR, Origin="https://evil.example") == 403
        assert status(**OPERATOR, Origin="null") == 403
        assert status(**OPERATOR, Host="evil.example", Origin="http://evil.example") == 403


def test_host(api):
    """A request whose Host is not ours is refused, but health answers whoever asks."""
    headers = {"Host": "rebound.example"}
    refused = api.session.get(f"{api.url}/api/v1/clusters", headers=headers, timeout=10)
    assert (refused.status_code, refused.json()["errorType"]) == (403, "forbidden")
    assert api.session.get(f"{api.url}/healthz", headers=headers, timeout=10).status_code == 200


def test_security_headers(api):
    """No type is guessed, no other site loads an answer, and what GET asks for is not kept."""
    data = "/healthz", "/nope", "/prometheus/api/v1/query", "/prometheus/api/v1/nope", "//"
    for path in ("/docs", *data):
        headers = api.session.get(api.url + path, timeout=10).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
        assert headers["x-frame-options"] == "DENY"
        assert "server" not in headers
        if path in data:  # nothing that a browser runs
            assert headers["content-type"] in (JSON, TEXT)
    posted = api.session.post(f"{api.url}/prometheus/api/v1/labels", timeout=10).headers
    assert posted["x-content-type-options"] == "nosniff"
    assert not {"cache-control", "expires", "last-modified", "etag"} & posted.keys()


def test_security_headers_of_pages(run):
    """What is not surely data forbids foreign content and framing as well."""
    types = HTML, "text/html", "image/svg+xml", "text/css", "application/xhtml+xml", "text/plain"
    own = [
        Route(f"/{number}", lambda _, kind=kind: Reply(b"<p>", content_type=kind), "Show")
        for number, kind in enumerate(types)
    ]
    with run(own) as api:
        for path in ("/docs", *(route.path for route in own)):
            headers = api.get(path).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"


def test_ambiguous_paths(api):
    """A path that is not plain is refused before it is routed."""
    port = int(api.url.rpartition(":")[2])
    for path in ("//metrics", "/api/v1/../../metrics", "/api%2Fv1/clusters", "/%2e%2e/metrics"):
        answer = _raw(port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")


def test_unknown_paths(api):
    """What is not there is said in text under /prometheus, in JSON elsewhere."""
    assert api.get("/prometheus/api/v1/nope").text == "404 page not found\n"
    assert api.get("/api/v1/nope").json()["errorType"] == "not_found"
    wrong = api.session.delete(f"{api.url}/prometheus/api/v1/query", timeout=10)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, POST")
    assert api.session.head(f"{api.url}/healthz", timeout=10).status_code == 200


def test_bodies(run):
    """A body is taken up to its cap, parameters up to their number."""
    with run((CHANGE,)) as api:
        url = f"{api.url}/api/v1/change"
        assert api.session.post(url, data=b"x" * 2**20, timeout=10).text == "1048576 []"
        assert api.session.post(url, data=b"x" * (2**20 + 1), timeout=10).status_code == 413
        form = [("a", str(number)) for number in range(1_001)]
        assert api.session.post(url, data=form, timeout=10).status_code == 400
        many = api.session.get(
            f"{api.url}/api/v1/clusters?" + "&".join(["a=b"] * 1_001), timeout=10
        )
        assert many.status_code == 400


FIELD = st.binary(max_size=5) | st.sampled_from([b"+", b"%", b"%41", b"%c3%a4", b"%c3", b"%zz"])
BETWEEN = st.sampled_from([b"&", b"=", b";", b"&&", b""])


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.tuples(FIELD, BETWEEN), max_size=20))
def test_parameters(parts):
    """Whatever is sent means what it means to the standard library."""
    sent = b"".join(chain(*parts))
    expected = parse_qsl(sent.decode("utf-8", "replace"), keep_blank_values=True)
    assert parameter_pairs(sent) == expected


def test_disconnect_cancels(run):
    """When the client goes away its query is told to stop."""
    started, cancelled = threading.Event(), threading.Event()

    def wait(request):
        request.budget.on_cancel(cancelled.set)
        started.set()
        cancelled.wait(30)
        return Reply(b"{}")

    with run((Route("/api/v1/slow", wait, "Slow"),)) as api:
        port = int(api.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(b"GET /api/v1/slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert started.wait(10)
            assert api.get("/healthz").status_code == 200
            assert not cancelled.is_set()
        assert cancelled.wait(10)


def test_health_does_not_wait_for_queries(run):
    """While every thread is held by queries, health and metrics answer."""
    release, running = threading.Event(), threading.Semaphore(0)

    def wait(_request):
        running.release()
        release.wait(30)
        return Reply(b"{}")

    with run((Route("/api/v1/slow", wait, "Slow"),), query={"concurrency": 1}) as api:
        port = int(api.url.rpartition(":")[2])
        clients = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(4)]
        try:
            for client in clients:
                client.sendall(b"GET /api/v1/slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert running.acquire(timeout=10)
            for path in ("/healthz", "/readyz", "/metrics", "/docs"):
                assert api.get(path).status_code == 200
        finally:
            release.set()
            for client in clients:
                client.close()


def test_the_last_handler(run):
    """What nobody expected is answered as internal, without its text."""

    def broken(_request):
        raise ZeroDivisionError("planted-secret")

    def stored(_request):
        raise StoreError("no space left in /var/planted-path")

    routes = (Route("/api/v1/broken", broken, "x"), Route("/api/v1/stored", stored, "x"))
    with run(routes) as api:
        answer = api.get("/api/v1/broken")
        assert (answer.status_code, answer.json()["errorType"]) == (500, "internal")
        assert "planted-secret" not in answer.text
        with capture_logs() as logs:
            answer = api.get("/api/v1/stored")
        assert (answer.status_code, answer.json()["errorType"]) == (500, "internal")
        assert "planted-path" not in answer.text
        assert [log["error"] for log in logs] == ["no space left in /var/planted-path"]


def test_requests_are_counted(api):
    """Requests are counted by the template of their route, so that there are few of them."""
    api.get("/prometheus/api/v1/label/some_label/values")
    api.get("/some/unknown/path")

    def counted():
        text = render().decode()
        return 'route="/prometheus/api/v1/label/{name}/values",status="200"' in text and (
            'route="unknown",status="404"' in text
        )

    wait_until(counted, 10, "requests in our metrics")
    assert "some_label" not in render().decode()


def _raw(port: int, request: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(request.encode())
        received = b""
        while chunk := client.recv(65_536):
            received += chunk
    return received
