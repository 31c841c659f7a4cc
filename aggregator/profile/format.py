"""The format of a profile: fleet metrics and the candidates that can serve them.

A candidate is an expression that one exporter can answer, in the language of the metric's source.
`$window` in it stands for the range of rates, `$sel` (the end of every selector) for what picks the
cluster out of a shared store.
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
from aggregator.settings import Duration, Name, Settings

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
    LEVEL = "level"
    LINES_PER_SECOND = "lines/s"
    RATIO = "ratio"
    REQUESTS_PER_SECOND = "req/s"
    SECONDS = "seconds"

    @property
    def additive(self) -> bool:
        """Whether values of one object in two rows add up; otherwise the larger one speaks."""
        return self not in {Unit.BOOL, Unit.INFO, Unit.LEVEL, Unit.RATIO, Unit.SECONDS}


class Source(StrEnum):
    """Which server of a cluster is asked, and so the language of the expressions."""

    PROMETHEUS = "prometheus"
    LOKI = "loki"


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
    """One way to serve a fleet metric.

    Its own `presence` says that its exporter is there, where the metric's would not; of logs, that
    the lines are such as it reads.
    """

    id: Name
    quality: Quality
    expr: Expression | None = None
    derive: Derive | None = None
    map: Annotated[dict[LabelName, SourceText], Field(default_factory=dict)]
    const: Annotated[dict[LabelName, str], Field(default_factory=dict)]
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    presence: Expression | None = None
    merge: Merge | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> "Candidate":
        if (self.expr is None) == (self.derive is None):
            raise ValueError("give exactly one of expr and derive")
        return self


Candidates: TypeAlias = Annotated[tuple[Candidate, ...], Field(max_length=50)]


class FleetMetric(Settings):
    """One name, one unit and one meaning, whichever exporter serves it.

    Of `source: loki` the `window` is what `$window` stands for, and `interval` how often it is
    asked for, both in ms; metrics of Prometheus follow the cluster's own. Of the candidates with
    equal constants for the labels `each`, the first with data is bound.
    """

    name: MetricName
    help: Annotated[str, Field(min_length=1, max_length=200)]
    unit: Unit
    group: Name
    source: Source = Source.PROMETHEUS
    window: Duration | None = None
    interval: Duration | None = None
    labels: tuple[LabelName, ...] = ()
    each: tuple[LabelName, ...] = ()
    empty_means: EmptyMeans = EmptyMeans.NO_DATA
    presence: Expression | None = None
    candidates: Annotated[Candidates, Field(min_length=1)]

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
            for label in info.data.get("each", ()):
                if label not in candidate.const:
                    raise ValueError(f"{candidate.id}: each is by {label}, which needs a const")
        return candidates

    @model_validator(mode="after")
    def _presence(self) -> "FleetMetric":
        if self.empty_means is EmptyMeans.ZERO and self.presence is None:
            raise ValueError("empty_means: zero needs presence, to tell none from not there")
        own = [one.id for one in self.candidates if one.presence is not None]
        zero = self.empty_means is EmptyMeans.ZERO
        if own and not zero and self.source is Source.PROMETHEUS:
            raise ValueError(f"{own[0]}: presence matters only with empty_means: zero")
        return self

    @model_validator(mode="after")
    def _pace(self) -> "FleetMetric":
        given = {self.window is not None, self.interval is not None}
        if given != {self.source is Source.LOKI}:
            raise ValueError("source: loki needs window and interval, and only that one has them")
        return self


class Change(Settings):
    """What is changed of a metric of an earlier file, without writing it out again.

    A candidate with the id of one that is there takes its place, before or after the others.
    """

    name: MetricName
    before: Candidates = ()
    after: Candidates = ()
    without: tuple[Name, ...] = ()

    def of(self, metric: FleetMetric) -> FleetMetric:
        """Return *metric* with the candidates of this change. Raises ValidationError."""
        new = {candidate.id for candidate in (*self.before, *self.after)}
        kept = [one for one in metric.candidates if one.id not in new | {*self.without}]
        fields = {name: getattr(metric, name) for name in type(metric).model_fields}
        fields["candidates"] = (*self.before, *kept, *self.after)
        return FleetMetric.model_validate(fields)


class ProfileFile(Settings):
    """What a profile's file holds: its metrics, and what becomes of those of earlier files."""

    metrics: tuple[FleetMetric, ...] = ()
    change: tuple[Change, ...] = ()
    remove: tuple[MetricName, ...] = ()

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
    def presence(self) -> str | None:
        """What has data where an empty answer means zero; None where it means nothing."""
        if self.metric.empty_means is not EmptyMeans.ZERO:
            return None
        return self.candidate.presence or self.metric.presence

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

    def served_by(self, source: Source) -> "Profile":
        """Return the part of the profile that *source* serves."""
        return Profile(tuple(metric for metric in self.metrics if metric.source is source))

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
