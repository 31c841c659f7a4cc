"""Durations as PromQL writes them."""

import re
from typing import Final

_DURATION: Final = re.compile(r"(?:[0-9]+(?:ms|[smhdwy]))+")
_PART: Final = re.compile(r"([0-9]+)(ms|[smhdwy])")
_SECONDS: Final = {
    "ms": 0.001,
    "s": 1,
    "m": 60,
    "h": 3_600,
    "d": 86_400,
    "w": 604_800,
    "y": 31_536_000,
}


def duration_seconds(text: str) -> float:
    """Return the seconds of a duration such as `1h30m`. Raises ValueError if *text* is none."""
    if _DURATION.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a duration; write for example 30s, 5m or 1h30m")
    return sum(int(count) * _SECONDS[unit] for count, unit in _PART.findall(text))
