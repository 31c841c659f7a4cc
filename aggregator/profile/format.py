"""The format of a profile: fleet metrics and the candidates that can serve them.

A candidate is a PromQL expression that one exporter can answer. `$window` in it stands for the
range of rates, `$sel` (the end of every selector) for what picks the cluster out of a shared store.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Annotated, TypeAlias

from pydantic import (
    BeforeValidator,
    Field,
    GetPydanticSchema,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import core_schema

from aggregator.profile.transforms import TRANSFORMS
from aggregator.settings import Name, Settings

RESERVED_LABELS = frozenset({"__name__", "cluster", "region"})


class Unit(StrEnum):
    """The canonical units; there are no milliseconds, percents or MiB in the fleet."""

    BOOL = "bool"
    BYTES = "bytes"
    BYTES_PER_SECOND = "bytes/s"
    CORES = "cores"
    COUNT = "count"
    CURRENCY_PER_HOUR = "currency/h"
    INFO = "info"
    RATIO = "ratio"
    REQUESTS_PER_SECOND = "req/s"
    SECONDS = "seconds"

    @property
    def additive(self) -> bool:
        """Whether values of one object in two rows add up; otherwise the larger one speaks."""
        return self not in {Unit.BOOL, Unit.INFO, Unit.RATIO, Unit.SECONDS}


class Quality(StrEnum):
    """How far a candidate's meaning is from the metric's definition."""

    EXACT = "exact"
    CLOSE = "close"
    ROUGH = "rough"


class EmptyMeans(StrEnum):
    """What it says when a cluster that has the exporter answers with nothing."""

    NO_DATA = "no_data"
    ZERO = "zero"


class Merge(StrEnum):
    """How a candidate is bound together with others."""

    UNION = "union"


@dataclass(frozen=True, slots=True)
class LabelSource:
    """Where a fleet label comes from: source labels joined by `/`, then a named transform."""

    names: tuple[str, ...]
    transform: str | None = None

    @staticmethod
    def parse(text: str) -> "LabelSource":
        """Read `status`, `status|class` or `kind,name|join`. Raises ValueError with the reason."""
        names_text, bar, transform = text.partition("|")
        names = tuple(name.strip() for name in names_text.split(","))
        if not all(_is_label(name) for name in names):
            raise ValueError(f"{text!r} does not name source labels; write for example code|class")
        if bar and transform not in TRANSFORMS:
            known = ", ".join(sorted(TRANSFORMS))
            raise ValueError(f"{transform!r} is not a transform; there are {known}")
        if len(names) > 1 and transform != "join":
            raise ValueError(f"{text!r} names several labels, which needs |join")
        return LabelSource(names, transform or None)


def _is_label(text: str) -> bool:
    return text.isascii() and text.isidentifier()


def _source(value: object) -> object:
    return LabelSource.parse(value) if isinstance(value, str) else value


def _source_schema(_source: object, _handler: object) -> core_schema.CoreSchema:
    return core_schema.is_instance_schema(LabelSource)


def _source_json(_schema: object, _handler: object) -> dict[str, object]:
    return {"type": "string", "examples": ["exported_namespace", "code|class", "kind,name|join"]}


MetricName = Annotated[str, Field(pattern=r"^fleet:[a-z][a-z0-9_]{0,99}$")]
LabelName = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]{0,99}$")]
Expression = Annotated[str, Field(min_length=1, max_length=10_000)]
SourceText: TypeAlias = Annotated[
    LabelSource, GetPydanticSchema(_source_schema, _source_json), BeforeValidator(_source)
]


class Derive(Settings):
    """A share computed by us: the series of `metric` whose labels equal `part`, over all of them.

    It is 0 where there is something to share and no part, and absent where there is nothing.
    """

    metric: MetricName
    part: Annotated[dict[LabelName, str], Field(min_length=1)]


class Candidate(Settings):
    """One way to serve a fleet metric."""

    id: Name
    quality: Quality
    expr: Expression | None = None
    derive: Derive | None = None
    map: Annotated[dict[LabelName, SourceText], Field(default_factory=dict)]
    const: Annotated[dict[LabelName, str], Field(default_factory=dict)]
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    merge: Merge | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> "Candidate":
        if (self.expr is None) == (self.derive is None):
            raise ValueError("give exactly one of expr and derive")
        return self


class FleetMetric(Settings):
    """One name, one unit and one meaning, whichever exporter serves it."""

    name: MetricName
    help: Annotated[str, Field(min_length=1, max_length=200)]
    unit: Unit
    group: Name
    labels: tuple[LabelName, ...] = ()
    empty_means: EmptyMeans = EmptyMeans.NO_DATA
    presence: Expression | None = None
    candidates: Annotated[tuple[Candidate, ...], Field(min_length=1, max_length=50)]

    @field_validator("labels")
    @classmethod
    def _own_labels(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        taken = RESERVED_LABELS.intersection(labels)
        if taken:
            raise ValueError(f"{min(taken)} is set by the aggregator on every series")
        if len(set(labels)) < len(labels):
            raise ValueError("a label is named twice")
        return labels

    @field_validator("candidates")
    @classmethod
    def _consistent(
        cls, candidates: tuple[Candidate, ...], info: ValidationInfo
    ) -> tuple[Candidate, ...]:
        labels = set(info.data.get("labels", ()))
        ids = [candidate.id for candidate in candidates]
        if len(set(ids)) < len(ids):
            raise ValueError("two candidates have the same id")
        for candidate in candidates:
            strange = (candidate.map.keys() | candidate.const.keys()) - labels
            if strange:
                raise ValueError(f"{candidate.id}: {min(strange)} is not among the metric's labels")
            twice = candidate.map.keys() & candidate.const.keys()
            if twice:
                raise ValueError(f"{candidate.id}: {min(twice)} is in both map and const")
        return candidates

    @model_validator(mode="after")
    def _presence(self) -> "FleetMetric":
        if self.empty_means is EmptyMeans.ZERO and self.presence is None:
            raise ValueError("empty_means: zero needs presence, to tell none from not there")
        return self


class ProfileFile(Settings):
    """What a profile's file holds."""

    metrics: tuple[FleetMetric, ...]

    @field_validator("metrics")
    @classmethod
    def _distinct(cls, metrics: tuple[FleetMetric, ...]) -> tuple[FleetMetric, ...]:
        seen: set[str] = set()
        for metric in metrics:
            if metric.name in seen:
                raise ValueError(f"{metric.name} is defined twice")
            seen.add(metric.name)
        return metrics


@dataclass(frozen=True, slots=True)
class Bound:
    """A fleet metric and the candidate that serves it in one cluster."""

    metric: FleetMetric
    candidate: Candidate

    @property
    def key(self) -> tuple[str, str]:
        """Metric name and candidate id: how a binding is kept."""
        return self.metric.name, self.candidate.id


@dataclass(frozen=True)
class Profile:
    """Every fleet metric, in the order of the files."""

    metrics: tuple[FleetMetric, ...]

    @cached_property
    def by_name(self) -> Mapping[str, FleetMetric]:
        """The metrics by name."""
        return {metric.name: metric for metric in self.metrics}

    @cached_property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the metrics of each freshness group."""
        groups: dict[str, tuple[str, ...]] = {}
        for metric in self.metrics:
            groups[metric.group] = (*groups.get(metric.group, ()), metric.name)
        return groups

    @cached_property
    def bounds(self) -> Mapping[tuple[str, str], Bound]:
        """Every candidate by its key, in the order of preference within a metric."""
        pairs = (
            Bound(metric, candidate) for metric in self.metrics for candidate in metric.candidates
        )
        return {bound.key: bound for bound in pairs}

    def resolve(self, keys: Iterable[tuple[str, str]]) -> list[Bound]:
        """Return kept bindings as this profile knows them, in its order, without unknown ones."""
        wanted = set(keys)
        return [bound for key, bound in self.bounds.items() if key in wanted]
