"""The `aggregator` command: one file a command.

Commands that ask a running server need the client only; those that are the server load its
packages when they run, and say what to install when they are missing.
"""

from aggregator.cli.main import app, main

__all__ = ["app", "main"]
