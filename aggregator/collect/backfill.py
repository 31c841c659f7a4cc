"""Reads history of fleet metrics on the grid of the live ticks, newest first, piece by piece."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from aggregator.collect.context import Context, partial_reason
from aggregator.collect.recorded import Batch, RecordedMetrics, subjects_of
from aggregator.collect.staleness import markers_on_grid
from aggregator.errors import SourceError
from aggregator.fleet.registry import Cluster
from aggregator.model.samples import SampleBlock
from aggregator.model.stepmatrix import StepRange
from aggregator.profile.batch import batches
from aggregator.profile.format import Bound
from aggregator.profile.normalize import on_grid
from aggregator.sources.prometheus import PrometheusSource

HISTORY_MS = 7_200_000
_PIECE_MS = 1_800_000
_MAX_SAMPLES = 1_000_000
_MAX_FAILURES = 5
_HALVED_BY = frozenset({"too_large", "execution", "timeout", "query_timeout", "server_error"})


@dataclass(frozen=True, slots=True)
class Piece:
    """A batch over the instants start_ms … end_ms, both on the grid and included.

    The next newer piece begins where this one ends: a series that ends between them is seen.
    """

    batch: Batch
    start_ms: int
    end_ms: int


def pieces(batch: Batch, start_ms: int, end_ms: int, span_ms: int) -> list[Piece]:
    """Cut start_ms … end_ms into pieces of *span_ms*, newest last."""
    ends = list(range(end_ms, start_ms, -span_ms))
    return [Piece(batch, max(start_ms, end - span_ms), end) for end in reversed(ends)]


@dataclass(slots=True)
class Backfill:
    """What is still to be read of one cluster's history; one request at a time."""

    cluster: Cluster
    context: Context
    metrics: RecordedMetrics
    _pending: list[Piece] = field(default_factory=list)
    _failures: int = 0

    @property
    def pending(self) -> bool:
        """Whether there is something to read."""
        return bool(self._pending)

    def add(self, bound: Sequence[Bound], start_ms: int, end_ms: int, series: int) -> None:
        """Read *bound* from *start_ms* to *end_ms*, instants of the grid; *series* is a guess."""
        interval = self.cluster.collect.interval
        steps = max(1, min(_PIECE_MS // interval, _MAX_SAMPLES // max(series, 1)))
        for part in batches(bound, selector=self.cluster.prometheus.selector):
            batch = Batch.of(part, self.cluster.prometheus.selector)
            self._pending += pieces(batch, start_ms, end_ms, steps * interval)
        self._pending.sort(key=lambda piece: piece.end_ms)

    def step(self, source: PrometheusSource) -> bool:
        """Read the newest piece that is missing; return whether to go on at once.

        Raises `SourceError`, `StoreError` or `QueueFullError`: the piece stays for later, cut in
        half if it was too much. After five failures in a row the rest is given up.
        """
        if not self._pending:
            return False
        piece = self._pending[-1]
        try:
            self._read(source, piece)
        except SourceError as error:
            self._failures += 1
            if self._failures >= _MAX_FAILURES:
                self._pending.clear()
            elif error.kind in _HALVED_BY:
                self._halve(piece)
            raise
        self._failures = 0
        self._pending.remove(piece)
        return self.pending

    def _halve(self, piece: Piece) -> None:
        interval = self.cluster.collect.interval
        steps = (piece.end_ms - piece.start_ms) // interval
        if steps > 1:
            middle = piece.start_ms + steps // 2 * interval
            self._pending[-1:] = [
                Piece(piece.batch, piece.start_ms, middle),
                Piece(piece.batch, middle, piece.end_ms),
            ]

    def _read(self, source: PrometheusSource, piece: Piece) -> None:
        batch, steps = piece.batch, self._steps(piece)
        known = batch.digest(self.context.series.generation)
        answer = source.query_range(
            batch.expr, piece.start_ms, piece.end_ms, steps.step_ms, known=known
        )
        layout = self.metrics.layout(batch, answer)
        grid, there = on_grid(answer.offsets, answer.times, answer.values, steps)
        values, exists = layout.normalized.apply(grid, there)
        exists &= layout.kept[:, np.newaxis]
        rows, columns = np.nonzero(exists)
        times = steps.times()
        block = SampleBlock(layout.ids[rows], times[columns], values[rows, columns])
        partial = partial_reason(answer)
        if not partial and layout.kept.all():
            block = SampleBlock.concat([block, markers_on_grid(layout.ids, exists, times)])
        found = subjects_of(batch.bound, layout, layout.present(exists))
        self.context.store(block, self._stored(piece, ([], []) if partial else found, len(block)))

    def _steps(self, piece: Piece) -> StepRange:
        return StepRange.between(piece.start_ms, piece.end_ms, self.cluster.collect.interval)

    def _stored(
        self, piece: Piece, found: tuple[list[str], list[str]], samples: int
    ) -> Callable[[], None]:
        """Return what to do once the piece is durable: it closes the gaps that it covers.

        That is so for subjects without data as well: the source has none there.
        """
        context, cluster, (with_data, without) = self.context, self.cluster, found

        def stored() -> None:
            context.watermarks.advance(cluster.name, piece.start_ms, with_data=with_data)
            window = (piece.start_ms - cluster.collect.interval, piece.end_ms)
            evidence = f"{samples} samples from {_clock(piece.start_ms)} to {_clock(piece.end_ms)}"
            context.gaps.fill(cluster.name, [*with_data, *without], window, evidence, context.now())

        return stored


def _clock(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%H:%M:%S")
