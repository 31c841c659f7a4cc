"""Credentials: how they are sent, when they are read again, where they never appear."""

import base64
import os
import time
import traceback
from pathlib import Path

import pytest
from pydantic import SecretStr

from aggregator.errors import SourceRejectedError
from aggregator.settings import HttpAuth
from aggregator.sources.auth import Credentials
from aggregator.sources.failures import Kind
from aggregator.sources.prometheus import PrometheusSource
from aggregator.sources.settings import PrometheusSettings
from tests.servers import Request, Response, scripted
from tests.sources.wire import GRACE_SECONDS, OK_BODY, fails

T = 1_795_328_222_000
SECRET = "s3cr3t-t0ken"  # noqa: S105  planted, to be looked for


def source_of(url: str, auth: dict[str, object], timeout_seconds: float = 5) -> PrometheusSource:
    """Return a source that authenticates."""
    settings = PrometheusSettings(url=url, auth=auth)
    return PrometheusSource("eu", settings, timeout_seconds=timeout_seconds)


def pair(user: str, password: str) -> str:
    """Return the value of a basic Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def script(path: Path, text: str) -> str:
    """Write an executable shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """Return a file with the secret, and the line end that editors leave."""
    path = tmp_path / "token"
    path.write_text(SECRET + "\n")
    return path


def test_each_way_sends_its_header(tmp_path, token_file):
    """Bearer, basic, a header of its own and a command, from values and from files."""
    plain = script(tmp_path / "plain", f"echo {SECRET}")
    credential = script(
        tmp_path / "credential",
        f"""echo '{{"kind":"ExecCredential","status":{{"token":"{SECRET}"}}}}'""",
    )
    cases = [
        ({"bearer_token": SECRET}, "authorization", f"Bearer {SECRET}"),
        ({"bearer_token_file": token_file}, "authorization", f"Bearer {SECRET}"),
        ({"basic": {"username": "ü", "password": SECRET}}, "authorization", pair("ü", SECRET)),
        ({"basic": {"username": "u", "password_file": token_file}}, "authorization",
         pair("u", SECRET)),
        ({"header": {"name": "X-Key", "value": SECRET}}, "x-key", SECRET),
        ({"header": {"name": "X-Key", "value_file": token_file}}, "x-key", SECRET),
        ({"exec": {"command": [plain]}}, "authorization", f"Bearer {SECRET}"),
        ({"exec": {"command": [credential]}}, "authorization", f"Bearer {SECRET}"),
    ]  # fmt: skip
    with scripted(lambda _: Response(200, OK_BODY)) as server:
        for auth, name, value in cases:
            source = source_of(server.url, auth)
            source.instant("up", T)
            source.close()
            assert server.requests[-1].headers[name] == value


def test_a_changed_file_is_read_again(token_file):
    """The next request after a change carries the new secret, also after a swapped symlink."""
    with scripted(lambda _: Response(200, OK_BODY)) as server:
        source = source_of(server.url, {"bearer_token_file": token_file})
        source.instant("up", T)
        token_file.write_text("another")
        source.instant("up", T)
        new = token_file.with_name("new")
        new.write_text("athird1")
        new.rename(token_file)
        source.instant("up", T)
        source.close()
    sent = [request.headers["authorization"] for request in server.requests]
    assert sent == [f"Bearer {SECRET}", "Bearer another", "Bearer athird1"]


def test_a_401_leads_to_one_forced_read(token_file):
    """After a 401 the file is read even if it looks unchanged, and the request sent once more."""
    same = token_file.stat()

    def answer(request: Request) -> Response:
        good = request.headers["authorization"] == f"Bearer {SECRET.upper()}"
        return Response(200 if good else 401, OK_BODY)

    with scripted(answer) as server:
        source = source_of(server.url, {"bearer_token_file": token_file})
        assert fails(lambda: source.instant("up", T)).kind == Kind.AUTH
        assert len(server.requests) == 1  # the file says what was refused already
        token_file.write_text(SECRET.upper() + "\n")
        os.utime(token_file, ns=(same.st_atime_ns, same.st_mtime_ns))
        assert token_file.stat().st_mtime_ns == same.st_mtime_ns
        source.instant("up", T)
        assert len(server.requests) == 3
        token_file.write_text("wrong, again")
        assert fails(lambda: source.instant("up", T)).kind == Kind.AUTH
        source.close()


def test_a_401_runs_the_command_again_once(tmp_path):
    """A command's token is kept for its time to live, and asked for again after a 401."""
    count = tmp_path / "count"
    command = script(tmp_path / "token", f"echo x >> {count}; wc -l < {count}")

    def answer(request: Request) -> Response:
        return Response(401 if request.headers["authorization"] == "Bearer 1" else 200, OK_BODY)

    with scripted(answer) as server:
        source = source_of(server.url, {"exec": {"command": [command], "ttl": "1h"}})
        for _ in range(3):
            source.instant("up", T)
        source.close()
    sent = [request.headers["authorization"] for request in server.requests]
    assert sent == ["Bearer 1", "Bearer 2", "Bearer 2", "Bearer 2"]


def test_a_refused_answer_is_not_asked_for_for_ever(tmp_path):
    """A new token that is refused as well ends the request: two were sent."""
    command = script(tmp_path / "token", "date +%N")
    with scripted(lambda _: Response(401)) as server:
        source = source_of(server.url, {"exec": {"command": [command]}})
        assert fails(lambda: source.instant("up", T)).kind == Kind.AUTH
        assert len(server.requests) == 2
        source.close()


def test_the_expiry_of_a_credential_counts(tmp_path):
    """A command that says when its token expires is asked again then, not after the ttl."""
    count = tmp_path / "count"
    text = '{"status":{"token":"t%s","expirationTimestamp":"2001-01-01T00:00:00Z"}}'
    command = script(tmp_path / "token", f"echo x >> {count}; printf '{text}' $(wc -l < {count})")
    credentials = Credentials("eu", HttpAuth(exec={"command": [command], "ttl": "1h"}))
    assert credentials.header(5) == ("Authorization", "Bearer t1")
    assert credentials.header(5) == ("Authorization", "Bearer t2")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("exit 3", "status 3"),
        ("sleep 30", "did not end in"),
        ("(sleep 30) & sleep 30", "did not end in"),
        ("true", "no token"),
        ("echo '{}'", "neither a token nor"),
        (f'echo \'{{"status": "{SECRET}"}}\'', "neither a token nor"),
        (f"echo {SECRET} >&2; printf '\\377'", "neither a token nor"),
        (f"printf '{SECRET}\\nInjected: yes'", "no header may carry"),
    ],
)
def test_a_command_that_fails_is_an_error_without_its_output(tmp_path, text, words):
    """A command that fails, hangs or prints nonsense is an authentication error, in time."""
    auth = {"exec": {"command": [script(tmp_path / "token", text)]}}
    with scripted(lambda _: Response(200, OK_BODY)) as server:
        source = source_of(server.url, auth, timeout_seconds=0.5)
        started = time.monotonic()
        error = fails(lambda: source.instant("up", T))
        assert time.monotonic() - started < 0.5 + GRACE_SECONDS
        source.close()
    assert server.requests == []
    assert (error.kind, type(error)) == (Kind.AUTH, SourceRejectedError)
    assert words in str(error)
    assert SECRET not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file"), (b" \n", "is empty"), (b"\xff", "not text"), (b"x" * 70_000, "long")],
)
def test_a_file_that_cannot_be_used_is_an_error(tmp_path, content, words):
    """A missing, empty, binary or huge file is named in the error, its content is not."""
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    credentials = Credentials("eu", HttpAuth(bearer_token_file=path))
    error = fails(lambda: credentials.header(1))
    assert (error.kind, words in str(error), str(path) in str(error)) == (Kind.AUTH, True, True)


def test_a_missing_command_is_an_error():
    """A command that is not there is named."""
    credentials = Credentials("eu", HttpAuth(exec={"command": ["/no/such/command", SECRET]}))
    error = fails(lambda: credentials.header(1))
    assert "/no/such/command" in str(error)
    assert SECRET not in str(error)


def test_credentials_do_not_follow_a_redirect(token_file):
    """A redirect to another host, port or path sends nothing anywhere."""
    for auth in (
        {"bearer_token_file": token_file},
        {"header": {"name": "X-Key", "value": SECRET}},
        {"basic": {"username": "u", "password": SECRET}},
    ):
        with scripted(lambda _: Response(200, OK_BODY)) as thief:
            where = {"Location": f"{thief.url}/api/v1/query?x={SECRET}"}
            with scripted(lambda _, at=where: Response(307, b"", at)) as server:
                source = source_of(server.url, auth)
                error = fails(lambda: source.instant("up", T))  # noqa: B023  called at once
                inherited = fails(source.server.all_metrics)
                source.close()
            assert thief.requests == []
            assert error.kind == inherited.kind == Kind.REDIRECT
            assert SECRET not in str(error)


def test_no_other_address_can_be_asked(token_file):
    """A session sends nothing to an address outside of its URL, not even without credentials."""
    with scripted(lambda _: Response(200, OK_BODY)) as thief:
        with scripted(lambda _: Response(200, OK_BODY)) as server:
            source = source_of(server.url + "/prometheus", {"bearer_token_file": token_file})
            session = source.server._session
            for url in (thief.url + "/", server.url + "/other", server.url + "/prometheus2"):
                assert fails(lambda: session.get(url)).kind == Kind.BAD_REQUEST  # noqa: B023  called at once
            source.close()
        assert thief.requests == server.requests == []


def test_the_environment_is_not_asked(monkeypatch, tmp_path):
    """No proxy and no password comes from the environment or from ~/.netrc."""
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login u password {SECRET}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with scripted(lambda _: Response(200, OK_BODY)) as server:
        source = source_of(server.url, {})
        source.instant("up", T)
        assert "authorization" not in server.requests[0].headers
        source.close()


def test_cookies_are_not_kept():
    """A server cannot mark us: no cookie goes back."""
    marked = Response(200, OK_BODY, {"Set-Cookie": "a=b; Path=/"})
    with scripted(lambda _: marked) as server:
        source = source_of(server.url, {})
        source.instant("up", T)
        source.instant("up", T)
        assert "cookie" not in server.requests[1].headers
        source.close()


def test_a_secret_that_the_server_repeats_is_redacted():
    """A server's error text that contains what we sent arrives without it."""

    def echo(request: Request) -> Response:
        return Response(400, f"bad header {dict(request.headers)}".encode())

    with scripted(echo) as server:
        for auth in (
            {"bearer_token": SECRET},
            {"basic": {"username": "u", "password": SECRET}},
            {"header": {"name": "X-Key", "value": SECRET}},
        ):
            source = source_of(server.url, auth)
            error = fails(lambda: source.instant("up", T))  # noqa: B023  called at once
            source.close()
            text = "".join(traceback.format_exception(error))
            assert "***" in text
            assert SECRET not in text
            assert pair("u", SECRET).removeprefix("Basic ") not in text


def test_secrets_are_in_no_repr(token_file):
    """No object that holds a secret shows it."""
    auth = HttpAuth(basic={"username": "u", "password": SecretStr(SECRET)})
    credentials = Credentials("eu", auth)
    credentials.header(1)
    file = Credentials("eu", HttpAuth(bearer_token_file=token_file))
    file.header(1)
    for one in (auth, credentials, file, credentials._secret, file._secret):
        assert SECRET not in repr(one) + str(one)
