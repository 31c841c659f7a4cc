"""A stage for every collector test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.collect.stage import Stage
from tests.collect.stage import stage as set_stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Return an empty stage."""
    with set_stage(tmp_path) as made:
        yield made
