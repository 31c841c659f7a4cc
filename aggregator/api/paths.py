"""Paths of requests: what is refused before it is routed, and label names inside them."""

import re
from functools import lru_cache

# What different readers of a path understand differently: an encoded slash, backslash, dot or
# percent sign, a control character, an empty or a dot segment.
_AMBIGUOUS = re.compile(rb"%2f|%5c|%2e|%25|%[01][0-9a-f]|%7f|[\x00-\x20\x7f\\]|//", re.IGNORECASE)
_LONGEST = 4096
_DOT_SEGMENT = re.compile(rb"/\.\.?(/|$)")
_BAD_ESCAPE = re.compile(rb"%(?![0-9a-fA-F]{2})")
_LEGACY_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_ESCAPED = re.compile(r"__|_([0-9A-Fa-f]{1,6})_|_")


def is_plain(raw_path: bytes) -> bool:
    """Tell whether a path, as sent, means the same to everybody."""
    return len(raw_path) <= _LONGEST and _is_plain(raw_path)


@lru_cache(maxsize=256)  # mostly the same few are asked for
def _is_plain(raw_path: bytes) -> bool:
    if not raw_path.startswith(b"/"):
        return False
    return not any(bad.search(raw_path) for bad in (_AMBIGUOUS, _DOT_SEGMENT, _BAD_ESCAPE))


def label_name(segment: str) -> str | None:
    """Return the label name that a path segment stands for, or None if it is not one.

    A name outside `[a-zA-Z_][a-zA-Z0-9_]*` comes escaped: `U__` in front, `__` for `_`, and the
    code point of any other character in hexadecimal between underscores.
    """
    if not segment.startswith("U__"):
        return segment if _LEGACY_NAME.fullmatch(segment) else None
    try:
        return _ESCAPED.sub(_unescaped, segment[3:]) or None
    except ValueError:
        return None


def _unescaped(match: re.Match[str]) -> str:
    if match[0] == "__":
        return "_"
    code = int(match[1] or "", 16)  # a lone underscore ends here, with a ValueError
    if 0xD800 <= code <= 0xDFFF:
        raise ValueError("a surrogate is not a character")
    return chr(code)
