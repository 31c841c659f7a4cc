"""A server that cannot start says why, ends cleanly, and leaves nothing for others to read."""

import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.fleet.health import HealthBoard, Outcome
from aggregator.fleet.registry import Registry
from aggregator.fleet.settings import ClusterSettings, CollectSettings
from aggregator.runtime import untried
from tests.servers import free_port


@pytest.fixture
def taken() -> Iterator[int]:
    """Return a port on which somebody else listens."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def serve(directory: Path, port: int, more: str = "") -> subprocess.CompletedProcess[str]:
    """Run a server on *port* with its data in *directory*, until it ends by itself."""
    (directory / "fleet.yaml").write_text(
        f"api: {{listen: '127.0.0.1:{port}'}}\nstore: {{path: {directory / 'data'}}}\n{more}"
    )
    command = Path(sys.executable).with_name("aggregator")
    return subprocess.run(
        [command, "serve", "-c", "fleet.yaml"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_taken_port(tmp_path: Path, taken: int) -> None:
    """A port that is taken ends the server with the status of a wrong configuration."""
    done = serve(tmp_path, taken)
    assert done.stderr.startswith(f"error: api.listen: cannot listen on 127.0.0.1:{taken}: ")
    assert done.returncode == 2


def test_private_files(tmp_path: Path, taken: int) -> None:
    """What the server writes can be read by its own user only."""
    serve(tmp_path, taken)
    data = tmp_path / "data"
    assert (data / "state.db").is_file()
    open_to_others = [
        path
        for path in (data, *data.rglob("*"))
        if path.lstat().st_mode & (stat.S_IRWXG | stat.S_IRWXO) and not path.is_symlink()
    ]
    assert open_to_others == []


def test_unusable_ca_file(tmp_path: Path) -> None:
    """A receiver's CA file that cannot be read is a wrong configuration, named with its path."""
    receiver = "{name: pager, webhook: {url: 'http://x', ca_file: missing.pem}}"
    notify = f"notify: {{route: {{receiver: pager}}, receivers: [{receiver}]}}\n"
    done = serve(tmp_path, free_port(), notify)
    assert done.stderr == (
        "error: notify.receivers: pager: missing.pem cannot be used (No such file or directory)\n"
    )
    assert done.returncode == 2


def test_foreign_directory(tmp_path: Path, taken: int) -> None:
    """Nothing in the directory where the server is started is imported."""
    (tmp_path / "yaml.py").write_text("raise SystemExit('imported')\n")
    assert serve(tmp_path, taken).returncode == 2


def registered(name: str, collect: dict[str, object]) -> ClusterSettings:
    """Return a cluster with its own way of being collected."""
    return ClusterSettings.model_validate(
        {"name": name, "region": "r", "prometheus": {"url": "http://x"}, "collect": collect}
    )


def test_each_cluster_has_its_own_first_deadline() -> None:
    """Readiness waits for a cluster as long as its first request may take and queue, no longer."""
    registry = Registry(
        [
            registered("quick", {"limits": {"timeout": "2s"}}),
            registered("frequent", {"interval": "6s"}),
            registered("usual", {}),
            registered("patient", {"interval": "1m", "limits": {"timeout": "60s"}}),
        ],
        CollectSettings(),
    )
    board = HealthBoard()
    waited = {second: untried(registry, board, second) for second in (6.9, 7, 9, 15, 44.9, 45)}
    assert waited == {
        6.9: ["quick", "frequent", "usual", "patient"],
        7: ["frequent", "usual", "patient"],
        9: ["usual", "patient"],
        15: ["patient"],
        44.9: ["patient"],
        45: [],
    }


def test_a_cluster_that_was_tried_is_not_waited_for() -> None:
    """Readiness asks for a try of each cluster, not for its success."""
    registry = Registry([registered("down", {}), registered("up", {})], CollectSettings())
    board = HealthBoard()
    board.ended("down", Outcome(1, answered=False, error="refused", kind="refused"), None)
    assert untried(registry, board, 0) == ["up"]
    board.ended("up", Outcome(1, answered=True), None)
    assert untried(registry, board, 0) == []
