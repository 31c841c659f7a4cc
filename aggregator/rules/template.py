r"""The templates of labels and annotations: the part of Go's that rules use.

A template is text with actions: `{{ $labels.cluster }}`, `{{ .Value | humanize }}`,
`{{ printf "%.2f" $value }}`. An action is a pipeline of operands and functions from one table;
there are no conditions, loops, queries or variables of one's own, and nothing is executed.
Anything else is an error when the rule is loaded. The results are those of Prometheus.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from aggregator.promql.numbers import format_float

MAX_TEMPLATE_CHARACTERS = 10_000
MAX_RESULT_CHARACTERS = 4_096

Value: TypeAlias = float | str

_TOKEN = re.compile(
    r"""\s*(?:(?P<label>(?:\$labels|\.Labels)\.(?P<name>[a-zA-Z_][a-zA-Z0-9_]*))
        |(?P<value>\$value\b|\.Value\b)
        |(?P<text>"(?:[^"\\\n]|\\["\\nt])*")
        |(?P<number>-?\d+(?:\.\d+)?\b)
        |(?P<function>[a-zA-Z][a-zA-Z0-9]*)
        |(?P<pipe>\|))""",
    re.VERBOSE,
)
_VERB = re.compile(
    r"%(?:%|(?P<left>-?)0?(?P<width>\d{0,2})(?:\.\d{1,2}[eEfgG]|[eEf])|-?\d{0,2}[svgG])"
)
_ESCAPED = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}
_LARGE = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")
_BINARY = ("", "ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi")
_SMALL = ("", "m", "u", "n", "p", "f", "a", "z", "y")


class TemplateError(ValueError):
    """A template that uses what this version does not know; raised when it is compiled."""


@dataclass(frozen=True, slots=True)
class _Constant:
    value: Value


@dataclass(frozen=True, slots=True)
class _Label:
    name: str


@dataclass(frozen=True, slots=True)
class _SampleValue:
    pass


@dataclass(frozen=True, slots=True)
class _Call:
    function: str
    arguments: "tuple[_Operand, ...]"


_Operand: TypeAlias = _Constant | _Label | _SampleValue | _Call


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled template: literal text and actions in order."""

    text: str
    parts: tuple[str | _Operand, ...]

    def render(self, labels: Mapping[str, str], value: float) -> str:
        """Return the text for one alert, cut at `MAX_RESULT_CHARACTERS`."""
        texts = (
            part if isinstance(part, str) else _text(_evaluate(part, labels, value))
            for part in self.parts
        )
        return "".join(texts)[:MAX_RESULT_CHARACTERS]


def compile_template(text: str) -> Template:
    """Compile *text*, or raise `TemplateError` naming the construct that is not supported."""
    if len(text) > MAX_TEMPLATE_CHARACTERS:
        raise TemplateError(f"longer than {MAX_TEMPLATE_CHARACTERS} characters")
    parts: list[str | _Operand] = []
    trim = False
    position = 0
    while (start := text.find("{{", position)) >= 0:
        end = text.find("}}", start)
        if end < 0:
            raise TemplateError("'{{' without '}}'")
        literal, action = text[position:start], text[start + 2 : end]
        literal = literal.lstrip() if trim else literal
        if action.startswith("- "):
            literal, action = literal.rstrip(), action[2:]
        trim = action.endswith(" -")
        parts += [literal, _pipeline(action[:-2] if trim else action)]
        position = end + 2
    parts.append(text[position:].lstrip() if trim else text[position:])
    return Template(text, tuple(part for part in parts if part != ""))


def _pipeline(action: str) -> _Operand:
    """Return the operand that an action's commands, joined by `|`, amount to."""
    result: _Operand | None = None
    for command in _commands(action):
        name = command[0]["function"]
        operands = [_operand(token) for token in (command[1:] if name else command)]
        if result is not None:
            operands.append(result)
        if name:
            result = _call(name, tuple(operands))
        elif len(operands) == 1:
            result = operands[0]
        else:
            raise TemplateError(f"{{{{{action}}}}}: only a function takes arguments")
    if result is None:
        raise TemplateError("empty action {{ }}")
    return result


def _commands(action: str) -> list[list[re.Match[str]]]:
    """Return the tokens of each command of *action*."""
    text = action.rstrip()
    commands: list[list[re.Match[str]]] = [[]]
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            raise TemplateError(f"{{{{{action}}}}}: {text[position:].strip()!r} {_SUPPORTED}")
        position = token.end()
        if token["pipe"]:
            commands.append([])
        else:
            commands[-1].append(token)
    if not all(commands):
        raise TemplateError(f"{{{{{action}}}}}: a value or a function is missing")
    return commands


def _operand(token: re.Match[str]) -> _Operand:
    if token["label"]:
        return _Label(token["name"])
    if token["value"]:
        return _SampleValue()
    if token["number"]:
        return _Constant(float(token["number"]))
    if token["text"]:
        text = _ESCAPED.sub(lambda match: _ESCAPES[match[1]], token["text"][1:-1])
        return _Constant(text)
    raise TemplateError(f"{token['function']} is not a value; functions stand first in a command")


def _call(name: str, operands: tuple[_Operand, ...]) -> _Call:
    """Check a call against the table, so that rendering cannot fail."""
    if name == "printf":
        _check_format(operands)
        return _Call(name, operands)
    if name not in FUNCTIONS:
        raise TemplateError(f"{name} {_SUPPORTED}")
    if len(operands) != 1:
        raise TemplateError(f"{name} takes one argument, not {len(operands)}")
    numeric = name in _NUMERIC
    if numeric != _is_number(operands[0]):
        raise TemplateError(f"{name} takes {'a number' if numeric else 'text'}")
    return _Call(name, operands)


def _check_format(operands: tuple[_Operand, ...]) -> None:
    form = operands[0] if operands else None
    if not isinstance(form, _Constant) or not isinstance(form.value, str):
        raise TemplateError('printf takes a format in quotes first, for example "%.2f"')
    if "%" in _VERB.sub("", form.value):
        raise TemplateError(f"printf {form.value!r}: only %s %v %f %e %g and %% are supported")
    verbs = [verb[0] for verb in _VERB.finditer(form.value) if verb[0] != "%%"]
    if len(verbs) != len(operands) - 1:
        raise TemplateError(f"printf {form.value!r} needs {len(verbs)} arguments")
    for verb, operand in zip(verbs, operands[1:], strict=True):
        if verb[-1] != "v" and (verb[-1] == "s") == _is_number(operand):
            raise TemplateError(f"printf {form.value!r}: {verb} does not fit its argument")


def _is_number(operand: _Operand) -> bool:
    match operand:
        case _SampleValue():
            return True
        case _Constant(value):
            return isinstance(value, float)
        case _Label() | _Call():
            return False


def _evaluate(operand: _Operand, labels: Mapping[str, str], value: float) -> Value:
    match operand:
        case _Constant(constant):
            return constant
        case _Label(name):
            return labels.get(name, "")
        case _SampleValue():
            return value
        case _Call("printf", arguments):
            form, *rest = (_evaluate(argument, labels, value) for argument in arguments)
            return _printf(str(form), rest)
        case _Call(name, arguments):
            return FUNCTIONS[name](_evaluate(arguments[0], labels, value))


def _printf(form: str, arguments: list[Value]) -> str:
    rest = iter(arguments)

    def formatted(match: re.Match[str]) -> str:
        verb = match[0]
        if verb == "%%":
            return "%"
        argument = next(rest)
        if isinstance(argument, str):
            return (verb[:-1] + "s") % argument
        if match["width"] is None:
            return (verb[:-1] + "s") % _number(argument)
        if not math.isfinite(argument):
            return f"%{match['left']}{match['width']}s" % _number(argument)
        return verb % argument

    return _VERB.sub(formatted, form)


def _text(value: Value) -> str:
    return value if isinstance(value, str) else _number(value)


def _number(value: float) -> str:
    return format_float(value)


def _four_digits(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else _number(value)


def _humanize(value: float) -> str:
    if value == 0 or not math.isfinite(value):
        return _four_digits(value)
    large = abs(value) >= 1
    factor, prefixes = (1e-3, _LARGE) if large else (1e3, _SMALL)
    step = 0
    while step < len(prefixes) - 1 and (abs(value) >= 1000 if large else abs(value) < 1):
        value = value / 1000 if large else value * factor
        step += 1
    return _four_digits(value) + prefixes[step]


def _humanize_1024(value: float) -> str:
    if abs(value) <= 1 or not math.isfinite(value):
        return _four_digits(value)
    step = 0
    while step < len(_BINARY) - 1 and abs(value) >= 1024:
        value /= 1024
        step += 1
    return _four_digits(value) + _BINARY[step]


def _humanize_percentage(value: float) -> str:
    return f"{_four_digits(value * 100)}%"


def _humanize_duration(value: float) -> str:
    if not math.isfinite(value):
        return _number(value)
    if abs(value) < 1:
        step = 0
        while value != 0 and step < len(_SMALL) - 1 and abs(value) < 1:
            value *= 1000
            step += 1
        return f"{_four_digits(value)}{_SMALL[step]}s"
    sign, value = ("-", -value) if value < 0 else ("", value)
    minutes, seconds = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{sign}{days}d {hours}h {minutes}m {seconds}s"
    if hours:
        return f"{sign}{hours}h {minutes}m {seconds}s"
    return f"{sign}{minutes}m {seconds}s" if minutes else f"{sign}{_four_digits(value)}s"


def _of_number(function: Callable[[float], str]) -> Callable[[Value], str]:
    return lambda value: function(float(value))


FUNCTIONS: dict[str, Callable[[Value], str]] = {
    "humanize": _of_number(_humanize),
    "humanize1024": _of_number(_humanize_1024),
    "humanizeDuration": _of_number(_humanize_duration),
    "humanizePercentage": _of_number(_humanize_percentage),
    "toLower": lambda value: str(value).lower(),
    "toUpper": lambda value: str(value).upper(),
}
_NUMERIC = frozenset(name for name in FUNCTIONS if name.startswith("humanize"))
_SUPPORTED = (
    "is not supported; use $labels.NAME, $value, text in quotes, numbers, printf and "
    + ", ".join(FUNCTIONS)
)
