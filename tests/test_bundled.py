"""Dashboards and rules are found in a checkout and in an installed wheel."""

from pathlib import Path

import pytest

from aggregator.bundled import bundled_files
from aggregator.errors import ConfigError


def test_a_wheels_own_files_come_first(tmp_path: Path) -> None:
    """Inside the package wins over beside it, and without either the error says what to do."""
    package = tmp_path / "site-packages" / "aggregator"
    package.mkdir(parents=True)
    with pytest.raises(ConfigError, match="install the wheel again"):
        bundled_files("dashboards", "*.json", package)
    beside = package.parent / "dashboards" / "b.json"
    beside.parent.mkdir()
    beside.touch()
    assert bundled_files("dashboards", "*.json", package) == (beside,)
    inside = package / "_bundled" / "dashboards" / "a.json"
    inside.parent.mkdir(parents=True)
    inside.touch()
    assert bundled_files("dashboards", "*.json", package) == (inside,)


def test_this_installation_has_both() -> None:
    """What `aggregator` is run from here carries dashboards and rules."""
    assert [file.name for file in bundled_files("dashboards", "*.json")] == ["fleet-overview.json"]
    assert [file.name for file in bundled_files("alert_rules", "*.yaml")] == ["fleet.yaml"]
