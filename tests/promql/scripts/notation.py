"""Reads scripts in the notation of Prometheus's promqltest."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

from aggregator.errors import QueryError
from aggregator.model.labels import METRIC_NAME, MatchOp
from aggregator.model.samples import STALE
from aggregator.promql.cursor import Cursor
from aggregator.promql.lex import Kind
from aggregator.promql.numbers import parse_duration
from aggregator.promql.selectors import selector

_NUMBER = r"[+-]?(?:(?i:inf|nan)|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)"
_ITEM = re.compile(rf"(?P<base>{_NUMBER}|stale)(?P<delta>[+-]{_NUMBER[5:]})?(?:x(?P<times>\d+))?")
_HISTOGRAM = re.compile(r"\{\{.*?\}\}(?:[+-]\{\{.*?\}\})?(?:x(\d+))?")
_BLANKS = re.compile(r"_(?:x(\d+))?")
_INSTANT = re.compile(
    r"eval(?:_(fail|warn|ordered|info))?\s+instant\s+at\s+(\S+)\s+(.+)", re.IGNORECASE
)
_RANGE = re.compile(
    r"eval(?:_(fail|warn|info))?\s+range\s+from\s+(\S+)\s+to\s+(\S+)\s+step\s+(\S+)\s+(.+)",
    re.IGNORECASE,
)
_EXPECT = re.compile(r"expect\s+(ordered|fail|warn|no_warn|info|no_info)(?:\s+(regex|msg):(.+))?")
_WINDOW = re.compile(r"expect range vector\s+from\s+(\S+)\s+to\s+(\S+)\s+step\s+(\S+)")

Labels = frozenset[tuple[str, str]]
Values = list[float | None]


class NotationError(Exception):
    """A line that is not in the notation."""


@dataclass(frozen=True, slots=True)
class Series:
    """A label set and its values one after the other; None is no sample.

    `native` tells that native histograms or start timestamps were given, which are left out.
    """

    labels: Labels
    values: Values
    native: bool = False


@dataclass(slots=True)
class Load:
    """Samples every `step_ms` from time 0."""

    line: int
    step_ms: int
    series: list[Series] = field(default_factory=list)

    def add(self, series: Series) -> None:
        """Add *series*; of two with the same labels the values of the later count."""
        if series.values:
            self.series = [one for one in self.series if one.labels != series.labels or one.native]
        self.series.append(series)


@dataclass(slots=True)
class Unreadable:
    """An eval whose expectations are not in the notation; `reason` says why."""

    line: int
    query: str
    reason: str


@dataclass(slots=True)
class Clear:
    """Forget everything loaded."""

    line: int


@dataclass(slots=True)
class Eval:
    """A query and what is expected of it."""

    line: int
    query: str
    start_ms: int
    end_ms: int
    step_ms: int = 0  # 0: an instant query
    ordered: bool = False
    fail: bool = False
    fail_checks: list[Callable[[str], bool]] = field(default_factory=list)
    warn: list[Callable[[str], bool]] = field(default_factory=list)
    info: list[Callable[[str], bool]] = field(default_factory=list)
    no_warn: bool = False
    no_info: bool = False
    scalar: float | None = None
    text: str | None = None
    window: tuple[int, int, int] | None = None  # of an expected range vector
    series: list[Series] = field(default_factory=list)


Command = Load | Clear | Eval | Unreadable


def read_script(text: str) -> Iterator[Command]:
    """Yield the commands of a script; raises `NotationError` with the line number."""
    lines = [line.strip() for line in text.split("\n")]
    lines = ["" if line.startswith("#") else line for line in lines]
    position = 0
    while position < len(lines):
        line, number = lines[position], position + 1
        position += 1
        if not line:
            continue
        word = line.split()[0].lower()
        if word == "clear":
            yield Clear(number)
            continue
        body = []
        while position < len(lines) and lines[position]:
            body.append(lines[position])
            position += 1
        try:
            command, used = _command(number, line, body)
        except (NotationError, QueryError, ValueError, IndexError) as error:
            if word.startswith("eval"):  # the others of the file can still be run
                command, used = Unreadable(number, line, str(error)), len(body)
            else:
                raise NotationError(f"line {number}: {error}") from error
        position -= len(body) - used
        yield command


def _command(number: int, line: str, body: list[str]) -> tuple[Command, int]:
    """Return a command and how many lines of *body*, the lines up to an empty one, it has."""
    word = line.split(maxsplit=1)[0].lower()
    if word in {"load", "load_with_nhcb"}:
        return _load(number, line, body)
    if word.startswith("eval"):
        return _eval(number, line, body)
    raise NotationError(f"invalid command {line!r}")


def time_ms(text: str) -> int:
    """Return a duration of the notation in ms; a bare 0 has no unit."""
    return 0 if text == "0" else parse_duration(text)


def read_series(line: str) -> Series:
    """Read `name{labels} values`."""
    if line.startswith("{{"):
        return Series(frozenset(), [], native=True)
    cursor = Cursor(line.split("{{", maxsplit=1)[0])
    first = cursor.token
    named = first.is_metric
    if not named and not cursor.at("{"):
        raise NotationError(f"expected a series: {line!r}")
    name = cursor.advance().text if named else ""
    chosen = selector(cursor, first, name)
    if any(matcher.op is not MatchOp.EQUAL for matcher in chosen.matchers):
        raise NotationError(f"expected label=value: {line!r}")
    labels = frozenset((m.name, m.value) for m in chosen.matchers if m.value)
    rest = line[chosen.end :]
    if rest.startswith("@st"):
        return Series(labels, [], native=True)
    values, native = _values(rest)
    return Series(labels, values, native)


def _values(text: str) -> tuple[Values, bool]:
    native = "{{" in text
    text = _HISTOGRAM.sub(lambda match: f"_x{int(match[1] or 0) + 1}", text)
    values: Values = []
    for item in text.split():
        blanks = _BLANKS.fullmatch(item)
        if blanks is not None:
            values += [None] * int(blanks[1] or 1)
            continue
        match = _ITEM.fullmatch(item)
        if match is None:
            raise NotationError(f"expected a value: {item!r}")
        base = STALE if match["base"] == "stale" else float(match["base"])
        count = int(match["times"]) + 1 if match["times"] else 1
        delta = float(match["delta"]) if match["delta"] else 0.0
        value = base
        for _ in range(count):
            values.append(value)
            value = value + delta if delta else value
    return values, native


def _load(number: int, line: str, body: list[str]) -> tuple[Load, int]:
    native = line.lower().startswith("load_with_nhcb")
    load = Load(number, time_ms(line.split()[1]))
    all_started = False
    for text in body:
        if text.startswith("@st"):  # start timestamps of all series that follow
            all_started = True
            continue
        series = read_series(text)
        load.add(replace(series, native=True) if all_started else series)
        if native:
            load.add(Series(_base_name(series.labels), [], native=True))
    return load, len(body)


def _base_name(labels: Labels) -> Labels:
    """Return the labels of the native histogram that a classic series belongs to."""
    named = dict(labels)
    name = named.get(METRIC_NAME, "")
    named[METRIC_NAME] = re.sub(r"_(?:bucket|count|sum)$", "", name)
    named.pop("le", None)
    return frozenset(named.items())


def _eval(number: int, line: str, body: list[str]) -> tuple[Eval, int]:
    instant, ranged = _INSTANT.fullmatch(line), _RANGE.fullmatch(line)
    if instant is not None:
        mode, at, query = instant.groups()
        command = Eval(number, query, time_ms(at), time_ms(at))
    elif ranged is not None:
        mode, start, end, step, query = ranged.groups()
        command = Eval(number, query, time_ms(start), time_ms(end), time_ms(step))
    else:
        raise NotationError(f"invalid evaluation command {line!r}")
    command.ordered, command.fail = mode == "ordered", mode == "fail"
    if mode in {"warn", "info"}:
        getattr(command, mode).append(_anything)
    for used, text in enumerate(body, start=1):
        if _expectation(command, text):
            continue
        command.scalar = _number(text)
        if command.scalar is not None:
            return command, used
        command.series.append(read_series(text))
    return command, len(body)


def _number(text: str) -> float | None:
    """Return the number that is all of *text*: as Go reads it, in any base, or None."""
    with suppress(ValueError):
        return float(int(text, 0))
    return float(text) if re.fullmatch(_NUMBER, text) else None


def _anything(_: str) -> bool:
    return True


def _expectation(command: Eval, text: str) -> bool:
    """Apply a line that is no series to *command* and tell whether it was one."""
    if text.startswith("expected_fail_message"):
        wanted = text.removeprefix("expected_fail_message").strip()
        command.fail = True
        command.fail_checks.append(wanted.__eq__)
    elif text.startswith("expected_fail_regexp"):
        pattern = re.compile(text.removeprefix("expected_fail_regexp").strip())
        command.fail = True
        command.fail_checks.append(lambda message: pattern.search(message) is not None)
    elif text.startswith("expect string"):
        rest = text.removeprefix("expect string").removeprefix(" ")
        cursor = Cursor(rest)
        command.text = cursor.string() if cursor.on(Kind.STRING) else rest  # older: not quoted
    elif (literal := Cursor(text)).on(Kind.STRING) and literal.following.kind is Kind.END:
        command.text = literal.string()  # older still: only the string
    elif (window := _WINDOW.fullmatch(text)) is not None:
        start, end, step = map(time_ms, window.groups())
        command.window = (start, end, step)
    elif text.split(maxsplit=1)[0] == "expect":
        _expect(command, text)
    else:
        return False
    return True


def _expect(command: Eval, text: str) -> None:
    match = _EXPECT.fullmatch(text)
    if match is None:
        raise NotationError(f"invalid expect line {text!r}")
    kind, how, argument = match.groups()
    check: Callable[[str], bool] = _anything
    if how == "msg":
        check = argument.strip().__eq__
    elif how == "regex":
        pattern = re.compile(argument.strip())
        check = lambda message: pattern.search(message) is not None  # noqa: E731 - a branch of three
    match kind:
        case "fail":
            command.fail = True
            command.fail_checks.append(check)
        case "warn" | "info":
            getattr(command, kind).append(check)
        case _:
            setattr(command, kind, True)
