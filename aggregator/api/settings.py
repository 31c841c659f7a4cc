"""Settings of the HTTP interface: where it listens, who may use it, what a query may cost."""

import ipaddress
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated

from pydantic import (
    AnyHttpUrl,
    Field,
    IPvAnyNetwork,
    SecretStr,
    field_validator,
    model_validator,
)

from aggregator.errors import QuerySyntaxError
from aggregator.model.labels import Matcher
from aggregator.promql.scope import parse_scope
from aggregator.settings import Duration, Name, Settings, Size, parse_duration_ms, parse_size


class Role(Enum):
    """What a caller may do: read, or also change."""

    VIEWER = "viewer"
    OPERATOR = "operator"


class ApiToken(Settings):
    """A secret that a caller shows, as a bearer token or as the password of basic auth.

    `match` restricts the caller to the series that match it, as in PromQL's braces.
    """

    name: Name
    token: SecretStr | None = None
    token_file: Path | None = None
    role: Role = Role.VIEWER
    match: Annotated[str, Field(examples=['region="europe"'])] | None = None

    @model_validator(mode="after")
    def _one(self) -> "ApiToken":
        if (self.token is None) == (self.token_file is None):
            raise ValueError("give exactly one of token and token_file")
        return self

    @field_validator("match")
    @classmethod
    def _matchers(cls, value: str | None) -> str | None:
        try:
            if value is not None and not parse_scope(value):
                raise ValueError("write at least one matcher, or leave it out")
        except QuerySyntaxError as error:
            raise ValueError(f"not matchers as in PromQL's braces: {error}") from error
        return value

    @property
    def scope(self) -> tuple[Matcher, ...]:
        """The matchers that everything shown to this caller passes; none means everything."""
        return () if self.match is None else parse_scope(self.match)


class TrustedProxy(Settings):
    """A proxy that has authenticated the user; its header counts from these addresses only."""

    header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")]
    addresses: Annotated[tuple[IPvAnyNetwork, ...], Field(alias="from", min_length=1)]
    role: Role = Role.VIEWER


class ServerTls(Settings):
    """The certificate we serve with."""

    cert_file: Path
    key_file: Path


class QueryLimits(Settings):
    """What one query may cost, and how many run at once."""

    timeout: Duration = parse_duration_ms("2m")
    samples: Annotated[int, Field(gt=0)] = 50_000_000
    series: Annotated[int, Field(gt=0)] = 500_000
    bytes: Size = parse_size("300MiB")
    concurrency: Annotated[int, Field(ge=1, le=256)] = 4


class ApiSettings(Settings):
    """The HTTP interface."""

    listen: str = "127.0.0.1:9494"
    external_url: AnyHttpUrl | None = None
    hosts: tuple[str, ...] = ()
    tokens: tuple[ApiToken, ...] = ()
    trusted_proxy: TrustedProxy | None = None
    tls: ServerTls | None = None
    insecure: bool = False
    query: QueryLimits = QueryLimits()

    @field_validator("listen")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        bare = host.removeprefix("[").removesuffix("]")
        if (
            not colon
            or not port.isdecimal()
            or int(port) > 65_535
            or (":" in bare) != (bare != host)
        ):
            raise ValueError("write host:port, for example 127.0.0.1:9494 or [::1]:9494")
        return value

    @field_validator("tokens")
    @classmethod
    def _distinct(cls, value: Sequence[ApiToken]) -> Sequence[ApiToken]:
        names = [token.name for token in value]
        if len(set(names)) != len(names):
            raise ValueError("two tokens have the same name")
        return value

    @model_validator(mode="after")
    def _guarded(self) -> "ApiSettings":
        if not (self.on_loopback or self.tokens or self.insecure):
            raise ValueError(
                f"listen: {self.listen} can be reached from other machines and there are no "
                "tokens; add tokens, listen on 127.0.0.1, or set insecure: true"
            )
        return self

    @property
    def external_address(self) -> str:
        """Our address as others reach us, without a slash at the end."""
        if self.external_url is not None:
            return str(self.external_url).rstrip("/")
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://{self.listen}"

    @property
    def host(self) -> str:
        """The address to listen on, empty for every address."""
        return self.listen.rpartition(":")[0].removeprefix("[").removesuffix("]")

    @property
    def port(self) -> int:
        """The port to listen on; 0 lets the system choose."""
        return int(self.listen.rpartition(":")[2])

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach us."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
