"""Fixtures every test may use."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Return the folder of recordings kept beside the project; skip where it is absent."""
    path = ROOT.parent / "shared"
    if not (path / "contracts").is_dir():
        pytest.skip(f"no recorded exchanges: {path} is absent")
    return path
