"""How the server's log looks to those who read it line by line."""

import pytest
import structlog

from aggregator.cli.logging import configure_logging


@pytest.fixture
def unconfigured():
    """Forget the configuration of the log afterwards."""
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("unconfigured")
@pytest.mark.parametrize("json", [False, True])
def test_hostile_values(json, capsys):
    """What a cluster wrote neither starts a line of its own nor acts on a terminal."""
    configure_logging(json=json)
    structlog.get_logger("test").warning("odd", group='{a="\r\n\x1b[2J\u2028x"}')
    logged = capsys.readouterr().err
    assert logged.endswith("\n")
    assert logged[:-1].isprintable()
    assert r"\x1b[2J" in logged
