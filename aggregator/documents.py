"""Reads YAML documents safely: duplicate keys, alias bombs and sizes refused, line numbers kept.

Plain scalars follow YAML 1.2's core schema, so `no`, `on`, `17:00` and `2026-12-01` are text; what
wants a boolean or a time converts it. Keys are always text.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import yaml
from pydantic import ValidationError

from aggregator.errors import ConfigError

Place: TypeAlias = tuple[str | int, ...]

MAX_BYTES = 8 * 2**20
MAX_DEPTH = 40
# Counted with every alias expanded; 500 clusters written out in full are about 20,000.
MAX_NODES = 500_000

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml reads 20 times faster
_TAG = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_BASED = re.compile(r"0o[0-7]{1,20}|0x[0-9a-fA-F]{1,16}")
_REAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")
_WORDS: Mapping[str, object] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
}


def format_path(path: Place) -> str:
    """Return a path as people write it: `clusters[2].prometheus.url`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).removeprefix(".")


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says as plain Python data, and where it says it."""

    file: Path
    data: object
    _lines: Mapping[Place, int] = field(repr=False)

    def line_of(self, path: Place) -> int:
        """Return the line (from 1) of the value at *path*, or of its nearest known parent."""
        for end in range(len(path), 0, -1):
            line = self._lines.get(path[:end])
            if line is not None:
                return line
        return self._lines.get((), 0)

    def error(self, path: Place, message: str) -> ConfigError:
        """Return the error that *message* is wrong at *path*, to be raised by the caller."""
        line = self.line_of(path)
        return ConfigError(message, file=self.file, line=line, path=format_path(path))

    def problems(self, error: ValidationError, at: Place = ()) -> list[ConfigError]:
        """Return what pydantic found wrong with the value at *at*, without the values."""
        found = error.errors(include_url=False, include_context=False, include_input=False)
        return [
            self.error((*at, *problem["loc"]), problem["msg"].removeprefix("Value error, "))
            for problem in found
        ]


def load_document(path: Path) -> Document:
    """Read the YAML file *path*. Raises ConfigError with file, line and what to do."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=path) from error
    return parse_document(raw, path)


def parse_document(raw: bytes, path: Path) -> Document:
    """Read *raw* as the contents of *path*. Raises ConfigError with file, line and what to do."""
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"is larger than {MAX_BYTES // 2**20} MiB; split it", file=path)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError("is not UTF-8", file=path, line=line) from error
    events = yaml.parse(text, Loader=_LOADER)
    try:
        builder = _Builder(path, events)
        data = builder.document()
    except yaml.MarkedYAMLError as error:
        # `problem` names the syntax; the snippet that str(error) adds could hold a secret.
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ConfigError(error.problem or "is not YAML", file=path, line=line) from None
    except yaml.YAMLError:
        raise ConfigError("contains characters that YAML does not allow", file=path) from None
    return Document(path, data, builder.lines)


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


class _Builder:
    """Builds plain data from one document's events, counting what it makes."""

    def __init__(self, path: Path, events: Iterator[yaml.Event]) -> None:
        self._path, self._events = path, events
        self._nodes = 0
        self._anchors: dict[str, tuple[object, int]] = {}
        self.lines: dict[Place, int] = {}

    def document(self) -> object:
        """Return the only document's data, None if there is none."""
        data: object = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._error(event, "holds more than one document (`---`)")
                data = self._value(next(self._events), ())
        return data

    def _value(self, event: yaml.Event, path: Place) -> object:
        self.lines[path] = _line(event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        self._count(event, 1)
        if len(path) > MAX_DEPTH:
            raise self._error(event, f"nests deeper than {MAX_DEPTH} levels")
        before = self._nodes - 1
        value: object
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._expect_tag(event, "seq")
            value = self._sequence(path)
        elif isinstance(event, yaml.MappingStartEvent):
            self._expect_tag(event, "map")
            value = self._mapping(path)
        else:
            raise self._error(event, "is not YAML")
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, self._nodes - before)
        return value

    def _sequence(self, path: Place) -> list[object]:
        items: list[object] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, (*path, len(items))))
        return items

    def _mapping(self, path: Place) -> dict[str, object]:
        mapping: dict[str, object] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise self._error(event, "a key must be plain text")
            key = event.value
            if key == "<<" and event.implicit[0]:
                raise self._error(event, "merge keys (`<<`) are not supported; write the keys out")
            if key in mapping:
                first = self.lines[(*path, key)]
                raise self._error(event, f"the key was given in line {first} already", (*path, key))
            line = _line(event)
            mapping[key] = self._value(next(self._events), (*path, key))
            self.lines[(*path, key)] = line
        return mapping

    def _alias(self, event: yaml.AliasEvent) -> object:
        if event.anchor not in self._anchors:
            raise self._error(event, "refers to an anchor that is not complete before this line")
        value, nodes = self._anchors[event.anchor]
        self._count(event, nodes)
        return value

    def _scalar(self, event: yaml.ScalarEvent) -> object:
        text: str = event.value
        if event.tag not in (None, "!", _TAG + "str"):
            raise self._error(event, "tags are not supported; remove the `!…`")
        if not event.implicit[0]:
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INTEGER.fullmatch(text):
            return int(text)
        if _BASED.fullmatch(text):
            return int(text, 0)
        return float(text) if _REAL.fullmatch(text) else text

    def _count(self, event: yaml.Event, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise self._error(event, f"holds more than {MAX_NODES:,} values, aliases expanded")

    def _expect_tag(self, event: yaml.CollectionStartEvent, kind: str) -> None:
        if event.tag not in (None, "!", _TAG + kind):
            raise self._error(event, "tags are not supported; remove the `!…`")

    def _error(self, event: yaml.Event, message: str, path: Place = ()) -> ConfigError:
        line = _line(event)
        return ConfigError(message, file=self._path, line=line, path=format_path(path))
