"""How commands print: tables for people, JSON and CSV for programs; colour only on a terminal."""

import csv
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import Enum

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH = 1_000  # what reads a pipe wants whole lines


class Format(Enum):
    """What a command writes."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; control characters in cells are shown, not sent to the terminal."""
    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else _PIPE_WIDTH, soft_wrap=not terminal)
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in rows:
        grid.add_row(*(Text(printable(cell)) for cell in row))
    console.print(grid)


def comma_separated(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print CSV with a header line."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)


def json(document: object) -> None:
    """Print a JSON document on several lines."""
    sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")


def warn(texts: Sequence[str]) -> None:
    """Print warnings where they do not mix with the data."""
    for text in texts:
        print(f"warning: {printable(text)}", file=sys.stderr)


def clock(seconds: float) -> str:
    """Return a time in s since 1970 as RFC 3339, with milliseconds only if there are any."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z").replace(".000", "")


def printable(text: str) -> str:
    """Return *text* with what a terminal would act on written out: a cluster chose it."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
