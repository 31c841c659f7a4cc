"""Starts a long-lived command once more with what the interpreter reads only at its start."""

import os
import sys
from pathlib import Path

# Python's own allocator gives memory back by the megabyte, and one living string keeps a megabyte
# of dead ones: after 2 M series had come and gone, memory stayed at 1.7 times what it was before;
# with malloc, and two of its arenas, it returns.
ENVIRONMENT = {"PYTHONMALLOC": "malloc", "MALLOC_ARENA_MAX": "2"}
_LONG_LIVED = frozenset({"serve", "demo"})


def restart_tuned(module: str, arguments: list[str]) -> None:
    """Replace this process by `python -m MODULE ARGUMENTS` unless it is tuned already.

    The working directory lends it no modules that it did not lend us.
    """
    missing = {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}
    if missing:
        safe_path = [] if str(Path.cwd()) in sys.path[:1] else ["-P"]
        command = [sys.executable, *safe_path, "-m", module, *arguments]
        os.execve(sys.executable, command, os.environ | missing)  # noqa: S606  our own program


def is_long_lived(arguments: list[str]) -> bool:
    """Tell whether a command line runs until it is stopped."""
    return bool(arguments) and arguments[0] in _LONG_LIVED
