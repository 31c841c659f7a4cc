"""Settings of the clusters and of how they are collected; a cluster overrides the fleet's."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from aggregator.settings import Duration, Name, Settings, Size, parse_duration_ms, parse_size
from aggregator.sources.settings import PrometheusSettings

LabelName = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]


class Limits(Settings):
    """What one cluster may send us in one answer, and how long it may take."""

    series: Annotated[int, Field(gt=0)] = 50_000
    response_bytes: Size = parse_size("64MiB")
    timeout: Duration = parse_duration_ms("10s")


class LimitOverrides(Settings):
    """A cluster's own limits, where they differ from the fleet's."""

    series: Annotated[int, Field(gt=0)] | None = None
    response_bytes: Size | None = None
    timeout: Duration | None = None


class RawSelector(Settings):
    """Series to copy as they are, with their source timestamps."""

    match: Annotated[str, Field(min_length=1)]
    interval: Duration | None = None


class CollectSettings(Settings):
    """How every cluster is collected."""

    interval: Duration = parse_duration_ms("30s")
    lag: Duration = parse_duration_ms("5s")
    gzip: bool = True
    profile: str | tuple[str, ...] = "kubernetes"
    raw: tuple[RawSelector, ...] = ()
    limits: Limits = Limits()

    @field_validator("interval")
    @classmethod
    def _at_least_a_second(cls, value: int) -> int:
        if not 1_000 <= value <= 60_000:
            raise ValueError("interval must be between 1s and 60s: no fleet series is sparser")
        return value


class CollectOverrides(Settings):
    """A cluster's own way of being collected, where it differs from the fleet's."""

    interval: Duration | None = None
    lag: Duration | None = None
    gzip: bool | None = None
    raw: tuple[RawSelector, ...] | None = None
    limits: LimitOverrides = LimitOverrides()

    def applied_to(self, fleet: CollectSettings) -> CollectSettings:
        """Return the fleet's settings with this cluster's in their place."""
        own = self.model_dump(exclude_none=True, exclude={"limits", "raw"})
        if self.raw is not None:
            own["raw"] = self.raw
        own["limits"] = fleet.limits.model_copy(update=self.limits.model_dump(exclude_none=True))
        return CollectSettings.model_validate({**dict(fleet), **own})


class Maintenance(Settings):
    """A window in which a cluster is allowed to be away."""

    begin: Annotated[datetime, Field(alias="from")]
    end: Annotated[datetime, Field(alias="to")]
    reason: str = ""

    @model_validator(mode="after")
    def _ordered(self) -> "Maintenance":
        if self.begin.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("write times with a zone, for example 2026-12-01T22:00:00Z")
        if self.end <= self.begin:
            raise ValueError("to must be later than from")
        return self


class ClusterSettings(Settings):
    """One monitored installation."""

    name: Name
    region: Name
    labels: Annotated[dict[LabelName, str], Field(default_factory=dict)]
    prometheus: PrometheusSettings
    collect: CollectOverrides = CollectOverrides()
    maintenance: Maintenance | None = None
