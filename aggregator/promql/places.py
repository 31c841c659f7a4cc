"""Places in a query, for messages."""

from aggregator.errors import QuerySyntaxError


def line_and_column(query: str, position: int) -> tuple[int, int]:
    """Return the line and column of *position*, both counted from 1."""
    before = query[:position]
    return before.count("\n") + 1, position - before.rfind("\n")


def syntax_error(query: str, position: int, message: str) -> QuerySyntaxError:
    """Return the error that says *message* of the place *position* of *query*."""
    line, column = line_and_column(query, position)
    return QuerySyntaxError(f"{line}:{column}: parse error: {message}")
