"""What every collector works with, and what it hands back."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from aggregator import telemetry
from aggregator.errors import AggregatorError
from aggregator.fleet.derived import Query
from aggregator.fleet.health import HealthBoard
from aggregator.model.arrays import Ids
from aggregator.model.samples import SampleBlock
from aggregator.sources.prometheus import Answer
from aggregator.state.bindings import Bindings
from aggregator.state.gaps import Gaps
from aggregator.state.watermarks import Watermarks

# Annotations about the query itself; any other warning says that data may be missing.
_ANNOTATION = "PromQL "
_SUBMIT_SECONDS = 2.0


class QueueFullError(AggregatorError):
    """The writer is behind: collectors keep their watermark and ask again later."""


class SeriesNames(Protocol):
    """Gives label sets their ids (the part of the store that collectors use)."""

    @property
    def generation(self) -> int:
        """Changes whenever ids were forgotten: kept ids have to be asked for again."""
        ...

    def series_ids(self, series: Sequence[Mapping[str, str]]) -> Ids:
        """Return the id of each label set, giving new ones an id."""
        ...


class BlockWriter(Protocol):
    """Takes blocks of samples and says when they are stored."""

    def submit(
        self, block: SampleBlock, on_stored: Callable[[], None], timeout_seconds: float
    ) -> bool:
        """Queue *block*; return False if there was no room in time."""
        ...


@dataclass(frozen=True, slots=True)
class UntilClosed:
    """A writer that tells nobody any more once `closed` is set: the cluster may be gone."""

    writer: BlockWriter
    closed: threading.Event

    def submit(
        self, block: SampleBlock, on_stored: Callable[[], None], timeout_seconds: float
    ) -> bool:
        """Queue *block*; return False if there was no room in time."""

        def stored() -> None:
            if not self.closed.is_set():
                on_stored()

        return self.writer.submit(block, stored, timeout_seconds)


@dataclass(frozen=True, slots=True)
class Context:
    """What collectors of all clusters share; `now` returns ms.

    `query` runs an instant query over the store, for series that follow from stored ones. `health`
    is that of each cluster's Prometheus, `log_health` that of its Loki.
    """

    series: SeriesNames
    writer: BlockWriter
    watermarks: Watermarks
    gaps: Gaps
    bindings: Bindings
    health: HealthBoard
    now: Callable[[], int]
    query: Query
    log_health: HealthBoard = field(default_factory=HealthBoard)

    def store(self, block: SampleBlock, on_stored: Callable[[], None]) -> None:
        """Hand *block* to the writer; *on_stored* runs once it is durable.

        Raises `QueueFullError` if the writer has no room.
        """
        if not self.writer.submit(block, on_stored, _SUBMIT_SECONDS):
            raise QueueFullError("the store is behind; see aggregator_writer_queue_samples")

    def reject(self, cluster: str, counts: Mapping[str, int]) -> None:
        """Count what was not stored, by reason."""
        for reason, count in counts.items():
            if count:
                telemetry.REJECTED.labels(cluster, reason).inc(count)
                self.health.reject(cluster, reason, count)

    @staticmethod
    def rename(cluster: str, counts: Mapping[str, int]) -> None:
        """Count labels and names that were changed because they are ours."""
        for label, count in counts.items():
            telemetry.RENAMED.labels(cluster, label).inc(count)


def partial_reason(answer: Answer) -> str:
    """Return why *answer* may lack data, or nothing if it is complete."""
    for warning in answer.warnings:
        if not warning.startswith(_ANNOTATION):
            return f"partial answer: {warning[:200]}"
    return ""


def gap_reason(context: Context, cluster: str, *, started: bool) -> str:
    """Return why there is a gap; *started* tells that this process has collected before."""
    if not started:
        return "the aggregator was not running"
    kind = context.health.get(cluster).kind
    return f"the cluster did not answer ({kind})" if kind else "ticks were skipped"
