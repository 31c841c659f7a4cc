"""The container's files are valid and name what exists; the image itself is not built here."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.servers import ROOT

DOCKERFILE = ROOT / "Dockerfile"
COMPOSE = ROOT / "docker-compose.yml"


def compose() -> list[str]:
    """Return the Compose command; skip without one, fail without one in CI."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is None:
            continue
        if subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0:
            return command
    message = "neither `docker compose` nor docker-compose works; `make test` as root installs it"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def instructions(keyword: str) -> list[str]:
    """Return the arguments of every *keyword* instruction of the Dockerfile."""
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    return re.findall(rf"^{keyword} +(.+)$", text, re.MULTILINE)


def starts(arguments: list[str], tmp_path: Path) -> bool:
    """Tell whether our command line knows *arguments*, which start a server there."""
    known = [argument for argument in arguments if not argument.startswith("/")]
    known = [argument for argument in known if argument != "-c"]
    done = subprocess.run(
        [sys.executable, "-m", "aggregator", *known, "-c", str(tmp_path / "absent.yaml")],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode == 2 and "absent.yaml" in done.stderr and "Usage" not in done.stderr


def test_compose_accepts_its_file() -> None:
    """`docker compose config` finds nothing wrong."""
    command = [*compose(), "-f", str(COMPOSE), "config", "--quiet"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_image_is_made_of_files_that_exist() -> None:
    """Every source of a COPY is in the project, and so is all that the wheel is built from."""
    copied = [source for line in instructions("COPY") for source in line.split()[:-1]]
    assert {"pyproject.toml", "aggregator", "dashboards", "alert_rules"} <= set(copied)
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_the_image_runs_a_command_that_exists(tmp_path: Path) -> None:
    """ENTRYPOINT is the script of the package, and CMD is something it does."""
    entrypoint, command = (json.loads(instructions(each)[-1]) for each in ("ENTRYPOINT", "CMD"))
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert len(entrypoint) == 1
    assert entrypoint[0] in scripts
    assert starts(command, tmp_path)


def test_compose_runs_a_command_that_exists(tmp_path: Path) -> None:
    """Compose starts what the image offers, and keeps its data where the image writes."""
    service = yaml.safe_load(COMPOSE.read_text())["services"]["aggregator"]
    assert starts(service["command"], tmp_path)
    mounts = [volume.split(":")[1] for volume in service["volumes"]]
    assert instructions("WORKDIR")[-1] in mounts
    assert service["command"][-1] in mounts
