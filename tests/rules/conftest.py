"""Fixtures for tests of rules."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.state.database import open_database
from tests.rules.stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Open a fleet without data."""
    database = open_database(tmp_path / "state.sqlite")
    yield Stage(database)
    database.close()
