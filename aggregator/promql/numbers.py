"""Numbers and durations as Prometheus reads and writes them."""

import math
import re
from decimal import Decimal

_UNITS = (
    ("y", 365 * 86_400_000, True),
    ("w", 7 * 86_400_000, True),
    ("d", 86_400_000, False),
    ("h", 3_600_000, False),
    ("m", 60_000, False),
    ("s", 1_000, False),
    ("ms", 1, False),
)
_DURATION = re.compile(
    r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?", re.ASCII
)
# Prometheus keeps durations as int64 nanoseconds.
MAX_DURATION_MS = (2**63 - 1) // 1_000_000
# Go prints numbers from here on with an exponent.
_EXPONENT_FROM = 6


def parse_number(text: str) -> float:
    """Return the value of a number literal: decimal, `1_000`, hexadecimal, octal, Inf, NaN."""
    plain = text.replace("_", "").lower()
    if plain.startswith("0x"):
        return float(int(plain, 16))
    if len(plain) > 1 and plain[0] == "0" and re.fullmatch("[0-7]+", plain):
        return float(int(plain, 8))
    return float(plain)


def parse_duration(text: str) -> int:
    """Return the milliseconds of a duration such as `1h30m`, or raise `ValueError`."""
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError(f'not a valid duration string: "{text}"')
    total = sum(
        int(count) * size
        for count, (_, size, _) in zip(match.groups(), _UNITS, strict=True)
        if count is not None
    )
    if total > MAX_DURATION_MS:
        raise ValueError("duration out of range")
    return total


def format_duration(milliseconds: int) -> str:
    """Return a duration as Prometheus prints it, `90000` as `1m30s`."""
    if milliseconds == 0:
        return "0s"
    parts = ["-"] if milliseconds < 0 else []
    rest = abs(milliseconds)
    for unit, size, exact in _UNITS:
        if rest < size or (exact and rest % size):
            continue
        parts.append(f"{rest // size}{unit}")
        rest %= size
    return "".join(parts)


def format_plain(value: float) -> str:
    """Return the shortest decimal that reads back as *value*, never with an exponent."""
    if math.isfinite(value):
        return _plain(_digits(value))
    return _special(value)


def format_float(value: float) -> str:
    """Return *value* as Go prints it by `%v` and `%g`: the shortest digits that read back."""
    if not math.isfinite(value):
        return _special(value)
    decimal = _digits(value)
    exponent = decimal.adjusted()
    if value == 0 or -4 <= exponent < _EXPONENT_FROM:
        return _plain(decimal)
    sign, digits, _ = decimal.as_tuple()
    tail = "".join(map(str, digits[1:]))
    return (
        f"{'-' if sign else ''}{digits[0]}{'.' + tail if tail else ''}"
        f"e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    )


def format_openmetrics(value: float) -> str:
    """Return *value* as OpenMetrics writes a label's number: as `%g`, but whole ones with `.0`."""
    text = format_float(value)
    return f"{text}.0" if text.lstrip("-").isdecimal() else text


def _digits(value: float) -> Decimal:
    decimal = Decimal(repr(value))
    return decimal if value == 0 else decimal.normalize()


def _plain(decimal: Decimal) -> str:
    text = format(decimal, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _special(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "+Inf" if value > 0 else "-Inf"
