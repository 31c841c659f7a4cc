"""Settings of the servers a cluster has."""

from typing import Annotated, TypeAlias

from pydantic import AnyHttpUrl, Field, field_validator, model_validator

from aggregator.settings import Duration, HttpAuth, Settings, Tls, parse_duration_ms
from aggregator.sources.dialects import DialectName

Tenant: TypeAlias = Annotated[str, Field(pattern=r"^[a-zA-Z0-9!._*'()|-]{1,150}$")]


def _plain(url: AnyHttpUrl, ends: str) -> None:
    """Raise ValueError if *url* has more than an address and a path; it goes up to *ends*."""
    if url.username or url.password:
        raise ValueError("credentials do not belong in a URL; use auth")
    if url.query is not None or url.fragment is not None:
        raise ValueError(f"a URL goes up to but not including {ends}, without parameters")


class PrometheusSettings(Settings):
    """A cluster's Prometheus: one URL, or the URLs of an HA pair."""

    url: AnyHttpUrl | None = None
    replicas: tuple[AnyHttpUrl, ...] = ()
    selector: str = ""
    dialect: DialectName = DialectName.AUTO
    tenant: Tenant | None = None
    auth: HttpAuth = HttpAuth()
    tls: Tls = Tls()
    # A proxy takes its credentials from its URL alone: not for a repr.
    proxy_url: Annotated[AnyHttpUrl | None, Field(repr=False)] = None

    @model_validator(mode="after")
    def _one_or_more(self) -> "PrometheusSettings":
        if (self.url is None) == (not self.replicas):
            raise ValueError("give either url or replicas")
        for url in self.urls:
            _plain(url, "/api/v1")
        return self

    @property
    def urls(self) -> tuple[AnyHttpUrl, ...]:
        """Every URL to try, in order."""
        return (self.url,) if self.url is not None else self.replicas


class LokiSettings(Settings):
    """A cluster's Loki; `default_selector` is on every stream that is asked for."""

    url: AnyHttpUrl
    tenant: Tenant | None = None
    default_selector: str = ""
    timeout: Annotated[Duration, Field(gt=0)] = parse_duration_ms("30s")
    auth: HttpAuth = HttpAuth()
    tls: Tls = Tls()
    proxy_url: Annotated[AnyHttpUrl | None, Field(repr=False)] = None

    @field_validator("url")
    @classmethod
    def _address(cls, url: AnyHttpUrl) -> AnyHttpUrl:
        _plain(url, "/loki/api/v1")
        if (url.path or "").rstrip("/").endswith("/loki/api/v1"):
            raise ValueError("a URL goes up to but not including /loki/api/v1")
        return url

    @property
    def matchers(self) -> str:
        """What stands between the braces of the default selector."""
        return self.default_selector.strip().removeprefix("{").removesuffix("}").strip(" ,")
