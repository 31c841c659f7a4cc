"""Settings of the servers a cluster has."""

from typing import Annotated

from pydantic import AnyHttpUrl, Field, model_validator

from aggregator.settings import HttpAuth, Settings, Tls
from aggregator.sources.dialects import DialectName


class PrometheusSettings(Settings):
    """A cluster's Prometheus: one URL, or the URLs of an HA pair."""

    url: AnyHttpUrl | None = None
    replicas: tuple[AnyHttpUrl, ...] = ()
    selector: str = ""
    dialect: DialectName = DialectName.AUTO
    tenant: Annotated[str | None, Field(pattern=r"^[a-zA-Z0-9!._*'()|-]{1,150}$")] = None
    auth: HttpAuth = HttpAuth()
    tls: Tls = Tls()
    # A proxy takes its credentials from its URL alone: not for a repr.
    proxy_url: Annotated[AnyHttpUrl | None, Field(repr=False)] = None

    @model_validator(mode="after")
    def _one_or_more(self) -> "PrometheusSettings":
        if (self.url is None) == (not self.replicas):
            raise ValueError("give either url or replicas")
        for url in self.urls:
            if url.username or url.password:
                raise ValueError("credentials do not belong in a URL; use auth")
            if url.query is not None or url.fragment is not None:
                raise ValueError("a URL goes up to but not including /api/v1, without parameters")
        return self

    @property
    def urls(self) -> tuple[AnyHttpUrl, ...]:
        """Every URL to try, in order."""
        return (self.url,) if self.url is not None else self.replicas
