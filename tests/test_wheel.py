"""The wheel carries all that the program reads; its base works without the server's packages."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.servers import ROOT, Response, scripted

CARRIED = (
    "aggregator/_bundled/alert_rules/fleet.yaml",
    "aggregator/_bundled/dashboards/fleet-overview.json",
    "aggregator/profile/kubernetes/cpu.yaml",
)
# Everything that is no code but is read by the code.
READ = ("templates/*", "static/**/*", "*.yaml", "kubernetes/*.yaml")
BLOCKER = """\
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
"""


@dataclass(frozen=True)
class Installed:
    """The wheel, unpacked into a folder of its own; commands run far from the sources."""

    wheel: Path
    target: Path
    elsewhere: Path

    def run(self, *arguments: str, without: Path | None = None) -> tuple[int, str, str]:
        """Run Python there; return status, output and errors. *without*: see `no_server`."""
        path = [str(folder) for folder in (without, self.target) if folder is not None]
        done = subprocess.run(
            [sys.executable, *arguments], cwd=self.elsewhere, text=True, capture_output=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path)}, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr


def pip(*arguments: str) -> None:
    """Run pip without the network."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build the wheel and install it into a folder."""
    directory = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={directory}", str(ROOT))
    [wheel] = directory.glob("*.whl")
    target, elsewhere = directory / "target", directory / "elsewhere"
    pip("install", "--no-deps", "--no-index", f"--target={target}", str(wheel))
    elsewhere.mkdir()
    return Installed(wheel, target, elsewhere)


def required(requirements: Iterable[str]) -> set[str]:
    """Return the distributions that *requirements* bring, and those that these bring."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and name not in found:
            found.add(name)
            waiting += map(Requirement, distribution(name).requires or ())
    return found


@pytest.fixture(scope="module")
def no_server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that, on PYTHONPATH, hides what only the extra `server` brings."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base = required(project["dependencies"])
    hidden = required(project["optional-dependencies"]["server"]) - base
    modules = {
        module
        for module, owners in packages_distributions().items()
        if {canonicalize_name(owner) for owner in owners} <= hidden
    }
    assert {"apscheduler", "chdb", "fastapi", "pyarrow", "sqlalchemy", "structlog"} <= modules
    directory = tmp_path_factory.mktemp("blocker")
    (directory / "sitecustomize.py").write_text(BLOCKER.format(hidden=sorted(modules)))
    return directory


def test_the_wheel_carries_everything_that_is_read(installed: Installed) -> None:
    """Dashboards, rules, profile, templates and static files are in it, tests and data are not."""
    carried = set(zipfile.ZipFile(installed.wheel).namelist())
    package = ROOT / "aggregator"
    read = {
        str(file.relative_to(ROOT))
        for pattern in READ
        for file in package.glob(f"*/{pattern}")
        if file.is_file()
    }
    assert len(read) > 10
    assert read | set(CARRIED) <= carried
    tops = {name.partition("/")[0] for name in carried}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"aggregator"}


def test_an_installed_program_finds_its_files(installed: Installed) -> None:
    """Far from the sources, an empty configuration has the bundled profile, rules, dashboards."""
    (installed.elsewhere / "fleet.yaml").write_text("")
    status, said, errors = installed.run("-m", "aggregator", "config", "check")
    assert (status, errors) == (0, "")
    found = re.search(r"0 clusters in 0 regions, (\d+) fleet metrics, (\d+) rules", said)
    assert found is not None, said
    assert min(map(int, found.groups())) > 5
    code = (
        "from aggregator.bundled import bundled_files as b; from aggregator.web.pages import Pages;"
        "print(*b('dashboards', '*.json'), *b('alert_rules', '*.yaml'), sep='\\n');"
        "assert Pages().static('style.css')"
    )
    status, said, errors = installed.run("-c", code)
    assert (status, errors) == (0, "")
    bundled = installed.target / "aggregator" / "_bundled"
    files = [Path(line) for line in said.splitlines()]
    assert files == [
        bundled / "dashboards" / "fleet-overview.json",
        bundled / "alert_rules" / "fleet.yaml",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("-m", "aggregator", "--help"),
        ("-m", "aggregator", "--version"),
        ("-m", "aggregator", "query", "--help"),
        ("-m", "aggregator", "clusters", "--help"),
        ("-c", "import aggregator.client"),
    ],
    ids=lambda arguments: " ".join(arguments[1:]),
)
def test_the_base_needs_no_server_package(
    installed: Installed, no_server: Path, arguments: tuple[str, ...]
) -> None:
    """The client and its commands load without the packages of the extra `server`."""
    status, _, errors = installed.run(*arguments, without=no_server)
    assert (status, errors) == (0, "")


def test_the_base_asks_a_server(installed: Installed, no_server: Path) -> None:
    """`aggregator query` of a base installation prints what a server answers."""
    row = b'{"metric": {"cluster": "eu-1"}, "value": [1795328222, "42"]}'
    body = b'{"status": "success", "data": {"resultType": "vector", "result": [%s]}}' % row
    with scripted(lambda _request: Response(200, body)) as server:
        arguments = ("query", "up", "--server", server.url, "-o", "csv")
        status, said, errors = installed.run("-m", "aggregator", *arguments, without=no_server)
    assert (status, errors) == (0, "")
    assert "eu-1" in said
    assert "42" in said


def test_the_base_answers_with_frames(installed: Installed, no_server: Path) -> None:
    """The Python client of a base installation makes frames of what a server answers."""
    row = b'{"metric": {"cluster": "eu-1"}, "values": [[1795328222, "42"]]}'
    body = b'{"status": "success", "data": {"resultType": "matrix", "result": [%s]}}' % row
    code = (
        "import sys; from aggregator.client import FleetClient; "
        "fleet = FleetClient(sys.argv[1]); "
        "print(*fleet.query('up[5m]').iloc[0], fleet.query_range('up')['eu-1'].tolist())"
    )
    with scripted(lambda _request: Response(200, body)) as server:
        status, said, errors = installed.run("-c", code, server.url, without=no_server)
    assert (status, errors, said) == (0, "", "eu-1 42.0 [42.0]\n")


@pytest.mark.parametrize("command", [("serve",), ("demo",), ("config", "schema")], ids=" ".join)
def test_the_server_says_what_to_install(
    installed: Installed, no_server: Path, command: tuple[str, ...]
) -> None:
    """Commands that need the extra `server` say how to install it, with exit status 2."""
    (installed.elsewhere / "fleet.yaml").write_text("")
    status, _, errors = installed.run("-m", "aggregator", *command, without=no_server)
    assert status == 2
    assert "pip install 'fleet-aggregator[server]'" in errors
    assert "Traceback" not in errors
