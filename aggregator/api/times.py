"""Times and durations as Prometheus's HTTP API takes them.

Inside, both are int milliseconds. Times are kept within what every step of a query can add to
without leaving int64; a client that sends milliseconds where seconds are meant stays within it.
"""

import math
import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

from aggregator.settings import parse_duration_ms

MIN_MS = -(1 << 53)
MAX_MS = 1 << 53
_LONGEST = 64  # characters of a time; what is kept must not fill the memory
# How Prometheus's own client writes the earliest and the latest time there is.
_EDGES = {
    "-292273086-05-16T16:47:06Z": MIN_MS,
    "292277025-08-18T07:12:54.999999999Z": MAX_MS,
}
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,18})?"
    r"(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=1_024)  # the panels of a dashboard have the same
def parse_time_ms(text: str) -> int:
    """Return the time *text* in ms: seconds since 1970, or RFC 3339 with up to nanoseconds.

    Raises ValueError if it is neither.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"cannot parse {len(text)} characters to a valid timestamp")
    if text in _EDGES:
        return _EDGES[text]
    if _NUMBER.fullmatch(text):
        milliseconds = float(text) * 1000
        if MIN_MS <= milliseconds <= MAX_MS:
            return math.floor(milliseconds + 0.5)
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f'cannot parse "{text}" to a valid timestamp')
    whole, fraction, sign, hours, minutes = match.groups()
    try:
        moment = datetime.fromisoformat(whole).replace(tzinfo=_zone(sign, hours, minutes))
    except ValueError as error:
        raise ValueError(f'cannot parse "{text}" to a valid timestamp') from error
    return (moment - _EPOCH) // timedelta(milliseconds=1) + int(
        (fraction or ".")[1:4].ljust(3, "0")
    )


def parse_step_ms(text: str) -> int:
    """Return the duration *text* in ms: seconds as a number, or `1m30s`; negative ones too.

    Raises ValueError if it is neither.
    """
    try:
        milliseconds = float(text) * 1000 if _NUMBER.fullmatch(text) else parse_duration_ms(text)
    except ValueError as error:
        raise ValueError(f'cannot parse "{text}" to a valid duration') from error
    if not MIN_MS <= milliseconds <= MAX_MS:
        raise ValueError(f'cannot parse "{text}" to a valid duration. It overflows int64')
    return math.trunc(milliseconds)


def _zone(sign: str | None, hours: str | None, minutes: str | None) -> timezone:
    if sign is None or hours is None or minutes is None:
        return UTC
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    return timezone(-offset if sign == "-" else offset)
