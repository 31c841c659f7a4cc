"""No secret of the configuration is said by anything, and each is sent to its own server only.

Every far server is hostile: it refuses, and repeats what it was sent wherever it can.
"""

import base64
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
import yaml

from tests.servers import (
    ROOT,
    RealServer,
    Request,
    Response,
    ScriptedServer,
    free_port,
    running,
    scripted,
    wait_until,
)

pytestmark = pytest.mark.integration

# What each place of the configuration holds. Characters that encodings change are in all of them.
SECRETS = {
    name: f"planted-{name}/+%&=secret"
    for name in (
        "bearer", "bearer-file", "password", "password-file", "header", "header-file", "exec",
        "operator", "viewer", "grafana", "datasource",
    )
} | {"webhook": "planted-webhook-secret"}  # fmt: skip
USER = "fleet"
RULES = """\
groups:
  - name: always
    interval: 1s
    rules: [{alert: Always, expr: vector(1)}]
"""
CLUSTERS = ("unauthorized", "broken", "page", "redirecting", "misled", "chatty", "refusing")
# Enough for every path that the OpenAPI document describes to find what it needs.
PARAMETERS = {"query": "up", "start": "0", "end": "60", "step": "15", "match[]": "up"}


def forms(secret: str) -> set[str]:
    """Return how *secret* could appear: as it is, percent-encoded, in JSON, in base64."""
    pair = f"{USER}:{secret}"
    found = {secret, quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1]}
    for text in (secret, pair, f":{secret}"):
        plain = base64.b64encode(text.encode()).decode()
        found |= {plain, plain.rstrip("="), base64.urlsafe_b64encode(text.encode()).decode()}
    return found


def leaks(text: str) -> list[str]:
    """Return the names of the secrets that *text* contains, in whatever form."""
    return [name for name, secret in SECRETS.items() if any(form in text for form in forms(secret))]


def echo(request: Request) -> str:
    """Return everything that *request* said, as a hostile server would repeat it."""
    return f"{request.path} {dict(request.headers)} {request.body.decode()}"


def problem(request: Request) -> bytes:
    """Return an error in Prometheus's own words that repeats the request."""
    body = {"status": "error", "errorType": "bad_data", "error": echo(request)}
    return json.dumps(body).encode()


def partial(request: Request) -> bytes:
    """Return a success whose warnings repeat the request."""
    data = {"resultType": "vector", "result": []}
    body = {"status": "success", "data": data, "warnings": [echo(request)], "infos": []}
    return json.dumps(body).encode()


@dataclass
class Fleet:
    """The running server, the far servers by name, and where its files are."""

    server: RealServer
    far: dict[str, ScriptedServer]
    directory: Path
    environment: dict[str, str]

    def get(self, path: str, **options: object) -> requests.Response:
        """Ask our API as the operator."""
        headers = {"Authorization": f"Bearer {SECRETS['operator']}"}
        url = self.server.url + path
        return requests.get(
            url, timeout=10, allow_redirects=False, **{"headers": headers} | options
        )

    def states(self) -> dict[str, str]:
        """Return the last error of every cluster."""
        sources = self.get("/api/v1/clusters").json()["sources"]
        return {source["cluster"]: source["error"] for source in sources}

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run a command of ours; return its status and everything it said."""
        done = subprocess.run(
            [sys.executable, "-m", "aggregator", *arguments],
            cwd=ROOT, env={**os.environ, **self.environment}, capture_output=True, timeout=60,
            check=False,
        )  # fmt: skip
        return done.returncode, (done.stdout + done.stderr).decode()


def secret_file(directory: Path, name: str) -> str:
    """Write one secret into a file of its own and return the path."""
    path = directory / f"{name}.txt"
    path.write_text(SECRETS[name] + "\n")
    return str(path)


def auths(directory: Path) -> dict[str, object]:
    """Return how each cluster authenticates: every way there is."""
    command = ["cat", secret_file(directory, "exec")]
    return {
        "unauthorized": {"bearer_token": "${PLANTED_BEARER}"},
        "broken": {"bearer_token_file": secret_file(directory, "bearer-file")},
        "page": {"basic": {"username": USER, "password": "${PLANTED_PASSWORD}"}},
        "redirecting": {"exec": {"command": command}},
        "misled": {"header": {"name": "X-Key", "value": SECRETS["header"]}},
        "chatty": {
            "header": {"name": "X-Key", "value_file": secret_file(directory, "header-file")}
        },
        "refusing": {
            "basic": {"username": USER, "password_file": secret_file(directory, "password-file")}
        },
    }


@contextlib.contextmanager
def hostile() -> Iterator[dict[str, ScriptedServer]]:
    """Run every far server: clusters, a webhook, a Grafana, and where a redirect leads."""
    with contextlib.ExitStack() as stack:
        elsewhere = stack.enter_context(scripted(lambda _request: Response(200, b"{}")))
        away = {"Location": f"{elsewhere.url}/api/v1/query"}

        def grafana(request: Request) -> Response:
            if request.method == "GET":
                return Response(404, b'{"message": "not found"}')
            status = 200 if request.path == "/api/folders" else 403
            return Response(status, json.dumps({"uid": "fleet", "message": echo(request)}).encode())

        answers = {
            "unauthorized": lambda request: Response(401, problem(request)),
            "broken": lambda request: Response(500, echo(request).encode()),
            "page": lambda request: Response(
                200, f"<html>{echo(request)}</html>".encode(), content_type="text/html"
            ),
            "redirecting": lambda request: Response(302, echo(request).encode(), away),
            "misled": lambda request: Response(400, problem(request)),
            "chatty": lambda request: Response(200, partial(request)),
            "webhook": lambda request: Response(500, echo(request).encode()),
            "grafana": grafana,
        }
        far = {name: stack.enter_context(scripted(answer)) for name, answer in answers.items()}
        yield {**far, "elsewhere": elsewhere}


def config(directory: Path, far: dict[str, ScriptedServer], listen: str) -> dict[str, object]:
    """Return a configuration with a secret in every place that takes one."""
    urls = {name: server.url for name, server in far.items()}
    urls["refusing"] = f"http://127.0.0.1:{free_port()}"
    clusters = [
        {"name": name, "region": "test", "prometheus": {"url": urls[name], "auth": auth}}
        for name, auth in auths(directory).items()
    ]
    return {
        "clusters": clusters,
        "collect": {"interval": "1s", "lag": "1s", "profile": [], "raw": [{"match": "up"}]},
        "store": {"path": str(directory / "data"), "backend": "memory"},
        "rules": {"files": ["rules.yaml"]},
        "notify": {
            "route": {"receiver": "pager", "group_wait": "0s"},
            "receivers": [{"name": "pager", "webhook": {"url": "${PLANTED_WEBHOOK}"}}],
        },
        "grafana": {
            "url": urls["grafana"],
            "token": "${PLANTED_GRAFANA}",
            "datasource_token_file": secret_file(directory, "datasource"),
            "every": "10s",
        },
        "api": {
            "listen": listen,
            "tokens": [
                {"name": "operator", "role": "operator", "token": "${PLANTED_OPERATOR}"},
                {"name": "viewer", "token_file": secret_file(directory, "viewer")},
            ],
        },
    }


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Run the server until every far server has been asked and has refused."""
    directory = tmp_path_factory.mktemp("secrets")
    (directory / "rules.yaml").write_text(RULES)
    listen = f"127.0.0.1:{free_port()}"
    with hostile() as far:
        token = SECRETS["webhook"]
        environment = {
            "PLANTED_BEARER": SECRETS["bearer"],
            "PLANTED_PASSWORD": SECRETS["password"],
            "PLANTED_OPERATOR": SECRETS["operator"],
            "PLANTED_GRAFANA": SECRETS["grafana"],
            "PLANTED_WEBHOOK": f"{far['webhook'].url}/hooks/{token}?key={token}",
        }
        file = directory / "fleet.yaml"
        file.write_text(yaml.safe_dump(config(directory, far, listen)))
        command = [sys.executable, "-m", "aggregator", "serve", "-c", str(file)]
        with running(command, f"http://{listen}", "/readyz", directory, environment) as server:
            started = Fleet(server, far, directory, environment)
            wait_until(lambda: settled(started), 60, "every far server has refused")
            yield started


def settled(fleet: Fleet) -> bool:
    """Tell whether everything that can go wrong has gone wrong."""
    log = fleet.server.log.read_text()
    errors = fleet.states()
    failed = all(errors[name] for name in CLUSTERS if name != "chatty")
    asked = all(fleet.far[name].requests for name in ("chatty", "webhook", "grafana"))
    return failed and asked and "notification failed" in log and "grafana" in log.lower()


def test_nothing_the_server_says_contains_a_secret(fleet: Fleet) -> None:
    """Every path of the OpenAPI document, `/metrics`, refusals and the log are free of secrets."""
    document = fleet.get("/openapi.json").json()
    paths = [path for path, methods in document["paths"].items() if "get" in methods]
    assert {"/", "/metrics", "/api/v1/clusters/{name}", "/docs"} <= set(paths)
    said: dict[str, str] = {}
    for path in paths:
        for name in CLUSTERS:
            place = path.replace("{name}", name).replace("{name:path}", name)
            for parameters in ({}, PARAMETERS):
                answer = fleet.get(place, params=parameters)
                said[f"{place} {parameters}"] = f"{answer.headers} {answer.text}"
    viewer = {
        "Authorization": f"Basic {base64.b64encode(b'x:' + SECRETS['viewer'].encode()).decode()}"
    }
    wrong = {"Authorization": f"Bearer {SECRETS['bearer']}"}
    query = "/prometheus/api/v1/query"
    refused = {
        "a viewer's bad query": fleet.get(query, params={"query": "up{"}, headers=viewer),
        "a cluster's token is not ours": fleet.get(query, headers=wrong),
        "no token": fleet.get("/api/v1/clusters", headers={}),
        "no such path": fleet.get("/nowhere"),
        "no such host": fleet.get("/", headers={"Host": "evil.example", **viewer}),
        "no such method": requests.delete(fleet.server.url, headers=wrong, timeout=10),
    }
    assert [answer.status_code for answer in refused.values()][:4] == [400, 401, 401, 404]
    for what, answer in refused.items():
        said[what] = f"{answer.headers} {answer.text}"
    said["log"] = fleet.server.log.read_text()
    assert {what: leaks(text) for what, text in said.items() if leaks(text)} == {}


def test_nothing_the_server_keeps_contains_a_secret(fleet: Fleet) -> None:
    """What it writes down (state, outbox, lock) has no secret either."""
    kept = [file for file in (fleet.directory / "data").rglob("*") if file.is_file()]
    assert "state.db" in {file.name for file in kept}
    found = {file.name: leaks(file.read_bytes().decode("latin-1")) for file in kept}
    assert {name: names for name, names in found.items() if names} == {}


def test_each_secret_went_to_its_own_server(fleet: Fleet) -> None:
    """Every server was shown its credentials and no others; no redirect was followed."""
    expected = {
        "unauthorized": {"bearer"},
        "broken": {"bearer-file"},
        "page": {"password"},
        "redirecting": {"exec"},
        "misled": {"header"},
        "chatty": {"header-file"},
        "webhook": {"webhook"},
        "grafana": {"grafana", "datasource"},
    }
    for name, secrets in expected.items():
        asked = [
            f"{echo(request)} {dict(request.query)}" for request in list(fleet.far[name].requests)
        ]
        assert set(leaks(" ".join(asked))) == secrets, name
        if name not in ("webhook", "grafana"):
            assert all(leaks(text) for text in asked), f"{name} was asked without credentials"
    assert fleet.far["elsewhere"].requests == []


def test_commands_do_not_repeat_secrets(fleet: Fleet) -> None:
    """`config check` and `config schema` show no value, whatever is wrong with it."""
    file = fleet.directory / "fleet.yaml"
    status, text = fleet.run("config", "check", "-c", str(file))
    assert (status, leaks(text)) == (0, [])
    status, text = fleet.run("config", "schema")
    assert (status, leaks(text)) == (0, [])


@pytest.mark.parametrize(
    "prometheus",
    [
        "{url: 'http://x', auth: {bearer_tokn: '%s'}}",
        "{url: 'http://x', auth: {bearer_token: ['%s']}}",
        "{url: 'http://x', auth: {bearer_token: '%s', bearer_token_file: x}}",
        "{url: 'http://user:%s@x'}",
        "{url: '%s'}",
        "{url: 'http://x', auth: {bearer_token: '%s}}",
        "{url: 'http://x', auth: {bearer_token: '%s'}, tls: {cert_file: x}}",
    ],
    ids=["misspelt", "list", "two ways", "in the URL", "as the URL", "unclosed quote", "beside"],
)
def test_a_broken_configuration_is_not_quoted(
    fleet: Fleet, tmp_path: Path, prometheus: str
) -> None:
    """An error about a secret's own line names the place and not what stands there."""
    file = tmp_path / "broken.yaml"
    place = prometheus % SECRETS["bearer"]
    file.write_text(f"clusters:\n  - name: a\n    region: test\n    prometheus: {place}\n")
    status, text = fleet.run("config", "check", "-c", str(file))
    assert status == 2
    assert "broken.yaml:" in text
    assert leaks(text) == []


@pytest.mark.parametrize("style", ["False", "True"], ids=["text", "json"])
def test_a_traceback_shows_no_values(style: str) -> None:
    """An unexpected exception is logged with its code, without the variables around it."""
    code = (
        "import structlog, sys\n"
        "from aggregator.cli.logging import configure_logging\n"
        "from aggregator.supervise import run\n"
        f"configure_logging(json={style})\n"
        "def job(secret=sys.argv[1]):\n"
        "    raise RuntimeError('unexpected')\n"
        "run('job', job)\n"
    )
    secret = SECRETS["bearer"]
    done = subprocess.run(
        [sys.executable, "-c", code, secret], cwd=ROOT, capture_output=True, timeout=60, check=True
    )
    assert b"RuntimeError: unexpected" in done.stderr
    assert leaks(done.stderr.decode()) == []
