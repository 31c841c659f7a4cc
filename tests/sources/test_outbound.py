"""Sessions to pagers and Grafana follow nothing and take nothing from outside."""

import pytest

from aggregator.sources.outbound import BoundedSession
from tests.servers import Response, scripted


def test_nothing_leaves_but_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No redirect is followed, no cookie is kept, no proxy of the environment is used."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    headers = {"Location": "/elsewhere", "Set-Cookie": "a=b"}
    with (
        scripted(lambda _: Response(302, b'{"a": 1}', headers)) as server,
        BoundedSession(timeout_seconds=5, max_bytes=100) as session,
    ):
        for _ in range(2):
            answer = session.get(server.url + "/here")
            assert (answer.status_code, answer.json()) == (302, {"a": 1})
        assert [request.path for request in server.requests] == ["/here", "/here"]
        assert all("cookie" not in request.headers for request in server.requests)
