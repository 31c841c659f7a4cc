"""Regexes of queries: RE2 only, anchored at both ends, `.` matches a newline as in Prometheus."""

from functools import lru_cache
from typing import Protocol

import re2

from aggregator.errors import QuerySyntaxError

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.dot_nl = True
_OPTIONS.max_mem = 4 * 2**20  # a cached pattern may grow to this much


class Regex(Protocol):
    """The part of a compiled RE2 pattern that is used here."""

    def fullmatch(self, text: str) -> object | None:
        """Return a match if the whole *text* matches."""
        ...


@lru_cache(maxsize=128)
def compile_regex(pattern: str) -> Regex:
    """Return the compiled *pattern*, or raise `QuerySyntaxError` saying what RE2 dislikes."""
    try:
        compiled: Regex = re2.compile(pattern, _OPTIONS)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise QuerySyntaxError(f"error parsing regexp: {text}: `^(?s:{pattern})$`") from error
    return compiled
