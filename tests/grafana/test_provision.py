"""Grafana gets what we want once, keeps what others own, and every failure says what to do."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from aggregator.errors import ConfigError, GrafanaError
from aggregator.grafana.keeper import GrafanaKeeper
from aggregator.grafana.objects import Action, load_dashboards
from aggregator.grafana.provision import apply, bundled_dashboards, plan, wanted
from aggregator.grafana.settings import GrafanaSettings
from tests.grafana.fake import TOKEN, Grafana
from tests.servers import Response, free_port, scripted, wait_until

DASHBOARDS = bundled_dashboards()
US = "http://aggregator.example:9494"
FIRST_WRITES = ["POST /folders", "POST /datasources", *["POST /dashboards/db"] * len(DASHBOARDS)]


@pytest.fixture
def grafana(shared_dir: Path) -> Grafana:
    """Return an empty Grafana that follows the recorded contract."""
    return Grafana.load(shared_dir)


def _settings(url: str, **changes: object) -> GrafanaSettings:
    return GrafanaSettings.model_validate({"url": url, "token": TOKEN} | changes)


@contextmanager
def _serving(grafana: Grafana, **changes: object) -> Iterator[GrafanaSettings]:
    with scripted(grafana.answer) as server:
        yield _settings(server.url, **changes)


def _apply(settings: GrafanaSettings) -> list[Action]:
    return [change.action for change in apply(settings, wanted(settings, US, DASHBOARDS))]


def _error(settings: GrafanaSettings) -> GrafanaError:
    with pytest.raises(GrafanaError) as caught:
        _apply(settings)
    assert "s3cret" not in str(caught.value)
    return caught.value


def test_a_second_run_writes_nothing(grafana: Grafana) -> None:
    """The first run creates folder, data source and dashboards, in this order; then all is well."""
    with _serving(grafana) as settings:
        objects = wanted(settings, US, DASHBOARDS)
        planned = plan(settings, objects)
        assert grafana.writes == []
        assert apply(settings, objects) == planned
        assert {change.action for change in planned} == {Action.CREATE}
        assert grafana.writes == FIRST_WRITES
        assert set(_apply(settings)) == {Action.KEEP}
    assert grafana.writes == FIRST_WRITES
    source = grafana.datasources["fleet-metrics"]
    assert (source["url"], source["access"]) == (f"{US}/prometheus", "proxy")
    assert source["jsonData"]["httpMethod"] == "POST"
    saved = grafana.dashboards["fleet-overview"]
    assert saved["meta"]["folderUid"] == "fleet"
    assert any(tag.startswith("rev:") for tag in saved["dashboard"]["tags"])


@pytest.mark.parametrize("suffix", ["", "/", "/grafana", "/grafana/"])
def test_the_url_may_end_in_a_slash(grafana: Grafana, suffix: str) -> None:
    """A URL with and without a path, with and without a slash, leads to the same API."""
    prefix = suffix.rstrip("/")

    def answer(request):
        assert request.path.startswith(f"{prefix}/api/")
        return grafana.answer(type(request)(
            request.method, request.path.removeprefix(prefix), request.query, request.headers,
            request.body,
        ))  # fmt: skip

    with scripted(answer) as server:
        assert set(_apply(_settings(server.url + suffix))) == {Action.CREATE}


def test_changes_are_put_right(grafana: Grafana) -> None:
    """Another title, URL, option or revision is one write each, and nothing else changes."""
    with _serving(grafana) as settings:
        _apply(settings)
        grafana.writes.clear()
        grafana.folders["fleet"]["title"] = "Old"
        source = grafana.datasources["fleet-metrics"]
        source |= {"url": "http://old", "name": "Mine", "isDefault": True, "basicAuth": True}
        source["jsonData"] |= {"httpMethod": "GET", "customQueryParameters": "a=b"}
        board = grafana.dashboards["fleet-overview"]
        board["dashboard"]["tags"] = ["fleet", "rev:000000000000"]
        grafana.folders["other"] = {"uid": "other", "title": "Other"}
        board["meta"]["folderUid"] = "other"
        assert set(_apply(settings)) == {Action.UPDATE}
        assert set(_apply(settings)) == {Action.KEEP}
    assert grafana.writes == [
        "PUT /folders/fleet",
        "PUT /datasources/uid/fleet-metrics",
        "POST /dashboards/db",
    ]
    source = grafana.datasources["fleet-metrics"]
    assert (source["name"], source["isDefault"], source["basicAuth"]) == ("Mine", True, True)
    assert source["jsonData"]["customQueryParameters"] == "a=b"
    assert grafana.dashboards["fleet-overview"]["meta"]["folderUid"] == "other"


def test_what_others_own_is_left_alone(grafana: Grafana) -> None:
    """Provisioned objects, and objects that only have our uid, are reported and not touched."""
    grafana.folders["fleet"] = {"uid": "fleet", "title": "Old", "managedBy": "repo"}
    grafana.datasources["fleet-metrics"] = {"uid": "fleet-metrics", "readOnly": True}
    grafana.dashboards["fleet-overview"] = {
        "dashboard": {"tags": ["mine"], "version": 3},
        "meta": {"provisioned": False},
    }
    with _serving(grafana) as settings:
        changes = apply(settings, wanted(settings, US, DASHBOARDS))
        assert [change.action for change in changes] == [Action.LEAVE] * 3
        assert [change.reason for change in changes] == [
            "repo manages it",
            "it is provisioned from a file",
            "it lacks the tag fleet: not ours",
        ]
        grafana.datasources["fleet-metrics"] = {"uid": "fleet-metrics", "type": "loki"}
        grafana.dashboards["fleet-overview"]["meta"]["provisioned"] = True
        changes = apply(settings, wanted(settings, US, DASHBOARDS))
        assert [change.reason for change in changes][1:] == [
            "it is of type loki",
            "it is provisioned from a file",
        ]
    assert grafana.writes == []


def test_a_secret_is_sent_when_it_changes(grafana: Grafana, tmp_path: Path) -> None:
    """Grafana gets our API's token once, again after a change, and it is in no repr."""
    file = tmp_path / "token"
    file.write_text("first\n")
    with _serving(grafana, datasource_token_file=str(file)) as settings:
        assert "first" not in repr(wanted(settings, US, ()))
        _apply(settings)
        source = grafana.datasources["fleet-metrics"]
        assert source["secureJsonData"] == {"httpHeaderValue1": "Bearer first"}
        assert source["jsonData"]["httpHeaderName1"] == "Authorization"
        assert "first" not in str(source["jsonData"])
        assert set(_apply(settings)) == {Action.KEEP}
        file.write_text("second")
        assert Action.UPDATE in _apply(settings)
        source = grafana.datasources["fleet-metrics"]
        assert source["secureJsonData"] == {"httpHeaderValue1": "Bearer second"}


def test_a_lost_race_is_run_again_once(grafana: Grafana) -> None:
    """After a conflict we look again; if somebody did our work there is nothing to write."""
    with _serving(grafana) as settings:
        _apply(settings)
        for status, call in ((412, "POST /dashboards/db"), (409, "PUT /datasources/uid/.*")):
            grafana.datasources["fleet-metrics"]["url"] = "http://old"
            grafana.dashboards["fleet-overview"]["dashboard"]["tags"] = ["fleet"]
            body = b'{"status": "version-mismatch", "message": "changed"}'
            grafana.play = [(call, lambda status=status, body=body: Response(status, body))]
            grafana.writes.clear()
            _apply(settings)
            assert len(grafana.writes) == 2
            assert set(_apply(settings)) == {Action.KEEP}
        grafana.dashboards["fleet-overview"]["dashboard"]["tags"] = ["fleet"]
        conflict = lambda: Response(412, b'{"status": "name-exists", "message": "taken"}')  # noqa: E731
        grafana.play = [("POST /dashboards/db", conflict)] * 2
        assert _error(settings).kind == "conflict"


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (400, "bad_request", "it is bad"),
        (401, "auth", "grafana.token_file"),
        (403, "forbidden", "role Admin"),
        (429, "rate_limited", "tried again"),
        (500, "server_error", "tried again"),
        (503, "server_error", "HTTP 503"),
    ],
)
def test_refusals_say_what_to_do(grafana: Grafana, status: int, kind: str, says: str) -> None:
    """Each status is an error of its own kind that names the object and the next step."""
    body = b'{"message": "it is bad"}'
    grafana.play = [("POST /datasources", lambda: Response(status, body))]
    with _serving(grafana) as settings:
        error = _error(settings)
    assert error.kind == kind
    assert "data source fleet-metrics" in str(error)
    assert says in str(error)


@pytest.mark.parametrize(
    "response",
    [
        Response(302, headers={"Location": "http://127.0.0.1:9/login"}, content_type="text/html"),
        Response(302, headers={"Location": "http://127.0.0.1:9/login"}),
        Response(200, b"<html>Log in</html>", content_type="text/html"),
        Response(200, b"<html>Log in</html>"),
        Response(200, b"[]"),
    ],
)
def test_a_login_page_is_not_an_answer(grafana: Grafana, response: Response) -> None:
    """A redirect or a page instead of JSON is said to be a login proxy, and never followed."""
    grafana.play = [("GET /folders/fleet", lambda: response)]
    with _serving(grafana) as settings:
        error = _error(settings)
    assert error.kind == "login_page"
    assert "login proxy" in str(error)
    assert grafana.writes == []


def test_a_refused_connection_is_said() -> None:
    """Without a server the error says so."""
    assert _error(_settings(f"http://127.0.0.1:{free_port()}")).kind == "refused"


def test_a_slow_grafana_ends_at_the_deadline() -> None:
    """A server that says nothing holds us for the timeout and no longer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        began = time.monotonic()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert _error(_settings(url, timeout="300ms")).kind == "timeout"
        assert time.monotonic() - began < 2.0


def test_a_huge_answer_is_not_read(grafana: Grafana) -> None:
    """An answer above the cap is an error."""
    huge = b'"' + b"x" * (17 * 2**20) + b'"'
    grafana.play = [("GET /folders/fleet", lambda: Response(200, huge))]
    with _serving(grafana) as settings:
        assert _error(settings).kind == "too_large"


def test_tokens_come_from_files(grafana: Grafana, tmp_path: Path) -> None:
    """The token file is read for each run; a missing or empty one is an error with its path."""
    file = tmp_path / "token"
    with scripted(grafana.answer) as server:
        settings = GrafanaSettings.model_validate({"url": server.url, "token_file": str(file)})
        assert str(file) in str(_error(settings))
        file.write_text("\n")
        assert "holds no token" in str(_error(settings))
        file.write_text(TOKEN + "\n")
        assert set(_apply(settings)) == {Action.CREATE}


def test_settings_refuse_what_cannot_work() -> None:
    """No token, two tokens, credentials or parameters in the URL are errors without secrets."""
    for changes in (
        {"token": None},
        {"token_file": "x"},
        {"url": "http://admin:s3cret@grafana"},
        {"url": "http://grafana/?orgId=1"},
    ):
        with pytest.raises(ValidationError) as caught:
            GrafanaSettings.model_validate({"url": "http://grafana", "token": TOKEN} | changes)
        assert "s3cret" not in str(caught.value)
    assert TOKEN not in repr(_settings("http://grafana"))
    assert isinstance(_settings("http://grafana").token, SecretStr)


def test_only_our_dashboards_load(tmp_path: Path) -> None:
    """A file that is no dashboard, or lacks the family's tag, is an error with its name."""
    file = tmp_path / "x.json"
    for text in ("{", "[]", '{"uid": "x"}', '{"uid": "x", "title": "y", "tags": []}'):
        file.write_text(text)
        with pytest.raises(ConfigError, match=r"x\.json"):
            load_dashboards([file])


def test_the_keeper_tries_again(grafana: Grafana) -> None:
    """A keeper applies at its start, and again after a failure, until it is stopped."""
    failed = threading.Event()

    def unavailable() -> Response:
        failed.set()
        return Response(503, b"{}")

    grafana.play = [("GET /folders/fleet", unavailable)]
    with _serving(grafana) as settings:
        keeper = GrafanaKeeper(settings.model_copy(update={"every": 100}), US)
        keeper.start()
        try:
            wait_until(lambda: grafana.writes == FIRST_WRITES, 15, "everything written")
        finally:
            assert keeper.stop()
    assert failed.is_set()
