"""Finds mistakes in LogQL expressions of a profile, without a full parser of that language."""

import re
from collections.abc import Iterator

_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"|`[^`]*`')
_BY = re.compile(r"\s*(?:sum|max|min|count)\s*(?:by\s*\(([^()]*)\)\s*)?\(")
_RANGE = re.compile(r"\[([^\[\]]*)\]")
_STREAMS = re.compile(r"\{([^{}]*)\}")
_PAIRS = {")": "(", "]": "[", "}": "{"}


def log_problems(expr: str) -> Iterator[str]:
    """Report unbalanced text, streams that forget `$sel`, and ranges that are not `$window`."""
    bare = _TEXT.sub('""', expr)
    if not _balanced(bare):
        yield "does not parse: quotes or brackets do not match"
        return
    if not _BY.match(bare):
        yield "must begin with an aggregation, for example sum by (namespace) (…)"
    streams: list[str] = _STREAMS.findall(bare)
    if not streams:
        yield "selects no streams"
    for stream in streams:
        if not stream.rstrip().endswith("$sel"):
            yield f"the selector {{{stream}}} does not end with $sel"
        elif not stream.replace("$sel", "").strip(" ,"):
            yield "selects every stream; Loki refuses a selector without a matcher"
    for window in _RANGE.findall(bare):
        if window.strip() != "$window":
            yield f"reads [{window}]; write [$window] and set window"


def log_labels(expr: str) -> frozenset[str]:
    """Return the labels that the outermost aggregation keeps."""
    match = _BY.match(expr)
    named = match[1] if match is not None else None
    return frozenset(name.strip() for name in (named or "").split(",")) - {""}


def _balanced(bare: str) -> bool:
    """Tell whether brackets match in a text whose strings are empty."""
    open_: list[str] = []
    for character in bare.replace('""', ""):
        if character in "([{":
            open_.append(character)
        elif character in '"`' or (
            character in _PAIRS and (not open_ or open_.pop() != _PAIRS[character])
        ):
            return False
    return not open_
