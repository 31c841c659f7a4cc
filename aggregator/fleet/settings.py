"""Settings of the clusters and of how they are collected; a cluster overrides the fleet's."""

from datetime import datetime
from typing import Annotated, TypeAlias

import re2
from pydantic import AfterValidator, Field, field_validator, model_validator

from aggregator.errors import QuerySyntaxError
from aggregator.promql.parse import parse_selector
from aggregator.settings import (
    Duration,
    Name,
    Settings,
    Size,
    format_duration_ms,
    parse_duration_ms,
    parse_size,
)
from aggregator.sources.settings import LokiSettings, PrometheusSettings

# A window is 5 minutes at most, the overlap with the last one included.
_SLOWEST_COPY_MS = parse_duration_ms("4m")
_SLOWEST_MS = parse_duration_ms("60s")


def _selector(text: str) -> str:
    try:
        parse_selector(text)
    except QuerySyntaxError as error:
        raise ValueError(f"is not a series selector: {error}") from error
    return text


def _at_most(longest_ms: int, value: int) -> int:
    if not 1_000 <= value <= longest_ms:
        raise ValueError(f"must be between 1s and {format_duration_ms(longest_ms)}")
    return value


def _distinct(value: "tuple[RawSelector, ...]") -> "tuple[RawSelector, ...]":
    matches = [raw.match for raw in value]
    if len(set(matches)) < len(matches):
        raise ValueError("two entries have the same match")
    return value


def _own_labels(value: dict[str, str]) -> dict[str, str]:
    for name in value:
        if name in ("cluster", "region") or name.startswith("__"):
            raise ValueError(f"{name} is set by the aggregator; choose another name")
    return value


def _pattern(text: str) -> str:
    try:
        re2.compile(text)
    except re2.error as error:
        raise ValueError(f"is not a regular expression of RE2: {error}") from error
    return text


LabelName = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]
Labels: TypeAlias = Annotated[dict[LabelName, str], AfterValidator(_own_labels)]
Pattern: TypeAlias = Annotated[str, Field(max_length=1_000), AfterValidator(_pattern)]
# No stored fleet series is sparser than a minute.
Interval: TypeAlias = Annotated[
    Duration, AfterValidator(lambda value: _at_most(_SLOWEST_MS, value))
]
CopyInterval: TypeAlias = Annotated[
    Duration, AfterValidator(lambda value: _at_most(_SLOWEST_COPY_MS, value))
]
Timeout: TypeAlias = Annotated[Duration, Field(gt=0)]
Bytes: TypeAlias = Annotated[Size, Field(gt=0)]


class Limits(Settings):
    """What one cluster may send us in one answer, and how long it may take."""

    series: Annotated[int, Field(gt=0)] = 50_000
    response_bytes: Bytes = parse_size("64MiB")
    timeout: Timeout = parse_duration_ms("10s")


class LimitOverrides(Settings):
    """A cluster's own limits, where they differ from the fleet's."""

    series: Annotated[int, Field(gt=0)] | None = None
    response_bytes: Bytes | None = None
    timeout: Timeout | None = None


class RawSelector(Settings):
    """Series to copy as they are, with their source timestamps."""

    match: Annotated[str, AfterValidator(_selector)]
    interval: CopyInterval | None = None


RawSelectors: TypeAlias = Annotated[tuple[RawSelector, ...], AfterValidator(_distinct)]


class CollectSettings(Settings):
    """How every cluster is collected."""

    interval: Interval = parse_duration_ms("30s")
    lag: Duration = parse_duration_ms("5s")
    gzip: bool = True
    profile: str | tuple[str, ...] = "kubernetes"
    raw: RawSelectors = ()
    limits: Limits = Limits()


class CollectOverrides(Settings):
    """A cluster's own way of being collected, where it differs from the fleet's."""

    interval: Interval | None = None
    lag: Duration | None = None
    gzip: bool | None = None
    raw: RawSelectors | None = None
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


class Capacity(Settings):
    """How far a cluster may grow: what it has once its node autoscaler did all it may."""

    cpu_cores: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    memory: Bytes | None = None


class WorkloadMatch(Settings):
    """Which workloads a rule is about; patterns match the whole name."""

    namespace: Pattern = ".*"
    workload: Pattern = ".*"


class WorkloadRule(Settings):
    """What the operator knows of some workloads; of several rules the first that says it counts."""

    match: WorkloadMatch
    placement: Annotated[str, Field(max_length=100)] = ""
    criticality: Annotated[str, Field(max_length=100)] = ""


class ClusterSettings(Settings):
    """One monitored installation."""

    name: Name
    region: Name
    labels: Annotated[Labels, Field(default_factory=dict)]
    prometheus: PrometheusSettings
    loki: LokiSettings | None = None
    capacity: Capacity = Capacity()
    collect: CollectOverrides = CollectOverrides()
    maintenance: Maintenance | None = None

    @field_validator("prometheus")
    @classmethod
    def _selector_is_one(cls, value: PrometheusSettings) -> PrometheusSettings:
        if value.selector:
            try:
                _selector(f"{{{value.selector}}}")
            except ValueError as error:
                raise ValueError(f"selector: {error}") from error
        return value

    @field_validator("loki")
    @classmethod
    def _streams(cls, value: LokiSettings | None) -> LokiSettings | None:
        text = "" if value is None else value.default_selector.strip()
        if text and not (text.startswith("{") and text.endswith("}")):
            raise ValueError('default_selector: write it in braces, for example {app=~".+"}')
        if text:
            try:
                _selector(text)
            except ValueError as error:
                raise ValueError(f"default_selector: {error}") from error
        return value
