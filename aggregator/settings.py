"""What settings are built from: the base model, durations, sizes, secrets, HTTP auth and TLS."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetPydanticSchema,
    SecretStr,
    model_validator,
)
from pydantic_core import core_schema

_UNIT_MS = {
    "ms": 1,
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
    "y": 31_536_000_000,
}
_DURATION = re.compile(
    r"(?:(\d+)(y))?(?:(\d+)(w))?(?:(\d+)(d))?(?:(\d+)(h))?(?:(\d+)(m))?"
    r"(?:(\d+)(s))?(?:(\d+)(ms))?"
)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB|kB|KB|MB|GB|TB)?")
_SIZE_BYTES = {
    "B": 1,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}


def parse_duration_ms(text: str) -> int:
    """Return the milliseconds of a duration as Prometheus writes it (`90s`, `1m30s`, `1h0m0s`).

    Raises ValueError if *text* is not one.
    """
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"{text!r} is not a duration; write for example 30s, 5m or 1h30m")
    pairs = zip(match.groups()[::2], match.groups()[1::2], strict=True)
    return sum(int(number) * _UNIT_MS[unit] for number, unit in pairs if number is not None)


def format_duration_ms(milliseconds: int) -> str:
    """Return *milliseconds* as the shortest duration text (`90000` is `1m30s`)."""
    if milliseconds == 0:
        return "0s"
    parts = []
    for unit in ("w", "d", "h", "m", "s", "ms"):
        count, milliseconds = divmod(milliseconds, _UNIT_MS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def parse_size(text: str) -> int:
    """Return the bytes of a size (`64MiB`, `50GB`). Raises ValueError if *text* is not one."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size; write for example 64MiB or 50GB")
    return int(float(match[1]) * _SIZE_BYTES[match[2] or "B"])


def _duration(value: object) -> object:
    return parse_duration_ms(value) if isinstance(value, str) else value


def _size(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else value


def format_size(size: int) -> str:
    """Return *size* bytes as the shortest size text (`67108864` is `64MiB`)."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _SIZE_BYTES[unit] == 0:
            return f"{size // _SIZE_BYTES[unit]}{unit}"
    return f"{size}B"


def _text_schema(pattern: str, examples: list[str], text: Callable[[int], str]) -> Any:  # noqa: ANN401  pydantic's own type
    """Describe a value written as text but kept as an integer, also in the JSON Schema."""
    as_text = core_schema.plain_serializer_function_ser_schema(text, when_used="json")

    def schema(_source: object, _handler: object) -> core_schema.CoreSchema:
        return core_schema.int_schema(ge=0, strict=True, serialization=as_text)

    def json_schema(_schema: object, _handler: object) -> dict[str, object]:
        return {"type": "string", "pattern": pattern, "examples": examples}

    return GetPydanticSchema(schema, json_schema)


# Kept as milliseconds.
Duration: TypeAlias = Annotated[
    int,
    _text_schema(r"^([0-9]+(ms|[smhdwy]))+$", ["30s", "5m", "1h30m"], format_duration_ms),
    BeforeValidator(_duration),
]
# Kept as bytes.
Size: TypeAlias = Annotated[
    int,
    _text_schema(r"^[0-9.]+ ?([KMGT]i?B|kB|B)?$", ["64MiB", "50GiB"], format_size),
    BeforeValidator(_size),
]
Name: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class Settings(BaseModel):
    """Base of all settings: frozen, unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )


class Tls(Settings):
    """How a server is verified and how we identify ourselves to it. Files are re-read on change."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str | None = None
    insecure_skip_verify: bool = False

    @model_validator(mode="after")
    def _pair(self) -> "Tls":
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together: give both or neither")
        return self


class BasicAuth(Settings):
    """HTTP basic authentication."""

    username: str
    password: SecretStr | None = None
    password_file: Path | None = None

    @model_validator(mode="after")
    def _one(self) -> "BasicAuth":
        if (self.password is None) == (self.password_file is None):
            raise ValueError("give exactly one of password and password_file")
        return self


class HeaderAuth(Settings):
    """A header of its own that carries the secret."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")]
    value: SecretStr | None = None
    value_file: Path | None = None

    @model_validator(mode="after")
    def _one(self) -> "HeaderAuth":
        if (self.value is None) == (self.value_file is None):
            raise ValueError("give exactly one of value and value_file")
        return self


class ExecAuth(Settings):
    """A command that prints a bearer token, or Kubernetes's ExecCredential, on standard output."""

    command: Annotated[list[str], Field(min_length=1)]
    timeout: Duration = parse_duration_ms("10s")
    ttl: Duration = parse_duration_ms("5m")


class HttpAuth(Settings):
    """How requests authenticate: at most one way."""

    bearer_token: SecretStr | None = None
    bearer_token_file: Path | None = None
    basic: BasicAuth | None = None
    header: HeaderAuth | None = None
    exec: ExecAuth | None = None

    @model_validator(mode="after")
    def _at_most_one(self) -> "HttpAuth":
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give one way to authenticate, not {' and '.join(given)}")
        return self
