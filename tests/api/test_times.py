"""Times and durations of requests."""

import pytest

from aggregator.api.times import MAX_MS, MIN_MS, parse_step_ms, parse_time_ms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("1795328222", 1_795_328_222_000),
        ("1795328222.123", 1_795_328_222_123),
        ("1795328222.1234567", 1_795_328_222_123),
        ("-1.5", -1_500),
        ("1.7e9", 1_700_000_000_000),
        ("1795328222000", 1_795_328_222_000_000),
        ("2026-11-22T10:57:02Z", 1_795_345_022_000),
        ("2026-11-22T10:57:02.5Z", 1_795_345_022_500),
        ("2026-11-22T10:57:02.123456789Z", 1_795_345_022_123),
        ("2026-11-22T11:57:02+01:00", 1_795_345_022_000),
        ("-292273086-05-16T16:47:06Z", MIN_MS),
        ("292277025-08-18T07:12:54.999999999Z", MAX_MS),
    ],
)
def test_time(text, expected):
    """A time is seconds since 1970 or RFC 3339; milliseconds by mistake do not overflow."""
    assert parse_time_ms(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "NaN", "Inf", "1e400", "1_000", " 1", "2026-11-22", "2026-13-40T00:00:00Z",
     "2026-11-22T10:57:02", "2026-11-22T10:57:02+99:00", "1e20", "٣", f"1.{'0' * 63}"],
)  # fmt: skip
def test_no_time(text):
    """Anything else is refused in Prometheus's words."""
    with pytest.raises(ValueError, match="to a valid timestamp"):
        parse_time_ms(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("15", 15_000), ("0.25", 250), ("0", 0), ("-5", -5_000), ("30s", 30_000), ("1m30s", 90_000),
     ("1h0m0s", 3_600_000), ("250ms", 250), ("1d", 86_400_000)],
)  # fmt: skip
def test_duration(text, expected):
    """A duration is a number of seconds or as Prometheus writes it, compound forms included."""
    assert parse_step_ms(text) == expected


@pytest.mark.parametrize("text", ["", "soon", "1.5s", "5x", "NaN", "1e30", "1" * 20 + "y"])
def test_no_duration(text):
    """Anything else is refused in Prometheus's words."""
    with pytest.raises(ValueError, match="to a valid duration"):
        parse_step_ms(text)
