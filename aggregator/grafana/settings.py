"""Settings of the Grafana that shows the fleet."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import AnyHttpUrl, Field, SecretStr, model_validator

from aggregator.settings import Duration, Settings, parse_duration_ms


class GrafanaSettings(Settings):
    """Which Grafana, as whom, and how it reaches us.

    `token` is a service account's: role Editor writes folders and dashboards, the data source
    needs Admin. `datasource_url` is our address as Grafana sees it (default: `api.external_url`
    with `/prometheus`), `datasource_token_file` what it authenticates to us with.
    """

    url: AnyHttpUrl
    token: SecretStr | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    folder: Annotated[str, Field(min_length=1, max_length=189)] = "Fleet"
    every: Annotated[Duration, Field(ge=10_000)] = parse_duration_ms("10m")
    timeout: Annotated[Duration, Field(ge=100)] = parse_duration_ms("10s")
    datasource_url: AnyHttpUrl | None = None
    datasource_token_file: Path | None = None

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if (self.token is None) == (self.token_file is None):
            raise ValueError("give exactly one of token and token_file")
        if self.url.username or self.url.password:
            raise ValueError("credentials do not belong in a URL; use token_file")
        if self.url.query or self.url.fragment:
            raise ValueError("url is the address of Grafana's start page, without parameters")
        return self
