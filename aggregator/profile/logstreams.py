"""What a LogQL expression wants of the streams that it reads."""

import re
from functools import lru_cache

_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"|`[^`]*`')
_STREAMS = re.compile(r"\{([^{}]*)\}")
_EQUAL = re.compile(r"([a-zA-Z_][a-zA-Z0-9_]*)\s*=~?\s*\"\"")


@lru_cache(maxsize=10_000)
def stream_labels(expr: str) -> frozenset[str]:
    """Return the labels that streams must have for *expr* to read any of them."""
    bare = _TEXT.sub('""', expr)
    return frozenset(name for streams in _STREAMS.findall(bare) for name in _EQUAL.findall(streams))
