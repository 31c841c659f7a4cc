"""Durations in brackets and after `offset`: literals, and arithmetic with them.

`step()` and `range()` are the step and the length of the query in seconds, so the plan of a query
that says them is good for one step and length only.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from aggregator.promql.cursor import Cursor
from aggregator.promql.lex import Kind
from aggregator.promql.numbers import MAX_DURATION_MS

_MAX_NESTING: Final = 20
_BINDING: Final[Mapping[str, int]] = {"+": 1, "-": 1, "*": 2, "/": 2, "%": 2, "^": 3}
_POWER: Final = 3
_OPERATIONS: Final[Mapping[str, Callable[[float, float], float]]] = {
    "+": float.__add__, "-": float.__sub__, "*": float.__mul__, "/": float.__truediv__,
    "%": math.fmod, "^": math.pow,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Duration:
    """A duration in ms; `text` is how it was written if that was not as a literal."""

    milliseconds: int
    text: str = ""


def window_duration(cursor: Cursor, context: str, end: str) -> Duration:
    """Return the duration, more than 0, in brackets up to *end*.

    If the cursor does not know the query's times, one with `step()` or `range()` becomes 1 ms.
    """
    arithmetic = _Arithmetic(cursor, context, f"duration{end}")
    start = cursor.token.start
    found = arithmetic.finished(start, arithmetic.expression(0, 1))
    if arithmetic.unknown:
        return Duration(1, found.text)
    if found.milliseconds <= 0:
        raise cursor.error(start, "duration must be greater than 0")
    return found


def offset_duration(cursor: Cursor) -> Duration:
    """Return the duration, which may be negative, after `offset`: a sign and a single operand."""
    arithmetic = _Arithmetic(cursor, "offset", "duration")
    start = cursor.token.start
    sign = -1.0 if cursor.at("-") else 1.0
    if cursor.at("-", "+"):
        cursor.advance()
    return arithmetic.finished(start, sign * arithmetic.operand(1))


class _Arithmetic:
    def __init__(self, cursor: Cursor, context: str, expected: str) -> None:
        self._cursor = cursor
        self._context = context
        self._expected = expected
        self._literal = True
        self.unknown = False

    def finished(self, start: int, seconds: float) -> Duration:
        """Return the duration of *seconds* that was read from *start* on."""
        if not math.isfinite(seconds) or abs(seconds * 1000) > MAX_DURATION_MS:
            raise self._cursor.error(start, "duration out of range")
        return Duration(round(seconds * 1000), "" if self._literal else self._cursor.since(start))

    def expression(self, minimum: int, depth: int) -> float:
        """Return the seconds of what follows, as far as operators bind at least *minimum*."""
        cursor = self._cursor
        if depth > _MAX_NESTING:
            message = f"duration is nested deeper than {_MAX_NESTING} levels"
            raise cursor.error(cursor.token.start, message)
        if cursor.at("-", "+"):
            self._literal = False
            sign = -1.0 if cursor.advance().text == "-" else 1.0
            left = sign * self.expression(_POWER, depth + 1)
        else:
            left = self.operand(depth)
        while cursor.on(Kind.OPERATOR):
            binding = _BINDING.get(cursor.token.word, -1)
            if binding < minimum:
                break
            operator = cursor.advance()
            self._literal = False
            right = self.expression(binding if binding == _POWER else binding + 1, depth + 1)
            try:
                left = _OPERATIONS[operator.word](left, right)
            except ZeroDivisionError:
                raise cursor.error(operator.start, "division by zero in duration") from None
            except (ValueError, OverflowError):
                raise cursor.error(operator.start, "duration out of range") from None
        return left

    def operand(self, depth: int) -> float:
        """Return the seconds of a number, a duration, a function, or an expression in brackets."""
        cursor = self._cursor
        if cursor.on(Kind.NUMBER, Kind.DURATION):
            return cursor.number()
        self._literal = False
        if cursor.skip("("):
            value = self.expression(0, depth + 1)
            cursor.expect(")", "duration expression", 'an operator or ")"')
            return value
        if cursor.following.text == "(":
            if cursor.at("step", "range"):
                return self._of_the_query()
            if cursor.at("min", "max"):
                return self._extreme(depth)
        raise cursor.unexpected(self._context, self._expected)

    def _of_the_query(self) -> float:
        cursor = self._cursor
        name = cursor.advance().word
        cursor.advance()
        cursor.expect(")", "duration expression")
        times = cursor.times
        if times is None:
            self.unknown = True
            return 0.0
        return (times.step_ms if name == "step" else times.range_ms) / 1000

    def _extreme(self, depth: int) -> float:
        cursor = self._cursor
        pick = min if cursor.advance().word == "min" else max
        cursor.advance()
        left = self.expression(0, depth + 1)
        cursor.expect(",", "duration expression", 'an operator or ","')
        right = self.expression(0, depth + 1)
        cursor.expect(")", "duration expression", 'an operator or ")"')
        return pick(left, right)
