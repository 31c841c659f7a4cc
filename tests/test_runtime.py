"""A server that cannot start says why, ends cleanly, and leaves nothing for others to read."""

import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

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
