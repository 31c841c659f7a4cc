"""Options that several commands share, and the guard around the server's packages."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from aggregator.client.connection import DEFAULT_URL
from aggregator.errors import ConfigError

ServerUrl: TypeAlias = Annotated[
    str, typer.Option("--server", metavar="URL", help="A running aggregator.")
]
TokenFile: TypeAlias = Annotated[
    Path | None, typer.Option("--token-file", metavar="FILE", help="File that holds the token.")
]
SERVER: str = DEFAULT_URL


@contextlib.contextmanager
def server_packages() -> Iterator[None]:
    """Turn a missing package of the server, imported inside, into advice."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("aggregator"):
            raise
        raise ConfigError(
            f"this command needs the server's packages ({error.name} is missing); "
            "install them with: pip install 'fleet-aggregator[server]'"
        ) from error
