"""One cluster's collection: what a cycle asks, in which order, and what a failure means."""

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import structlog

from aggregator import telemetry
from aggregator.collect.backfill import HISTORY_MS, Backfill
from aggregator.collect.binding import Binder
from aggregator.collect.bisect import QUERY_REFUSED, ask_in_halves
from aggregator.collect.context import Context, QueueFullError, UntilClosed
from aggregator.collect.identity import SeriesCache
from aggregator.collect.raw import RawCopy
from aggregator.collect.recorded import Batch, RecordedMetrics
from aggregator.collect.schedule import grid_time
from aggregator.collect.staleness import markers
from aggregator.errors import SourceError, SourceRejectedError, SourceUnreachableError, StoreError
from aggregator.fleet.health import Outcome
from aggregator.fleet.registry import Cluster
from aggregator.fleet.subjects import group_subject
from aggregator.profile.batch import MAX_EXPRESSIONS, batch_expression, batches, halves
from aggregator.profile.format import Bound, Profile
from aggregator.sources.prometheus import Answer, PrometheusSource

_LOG = structlog.get_logger(__name__)
_QUARANTINE_MS = 600_000
_WAITED_FOR_MS = 60_000  # a clock that was set back by less catches up soon
PROBE_SECONDS = 3.0


def open_source(cluster: Cluster) -> PrometheusSource:
    """Return the source of *cluster*."""
    return PrometheusSource(
        cluster.name,
        cluster.prometheus,
        timeout_seconds=cluster.request_seconds,
        max_bytes=cluster.collect.limits.response_bytes,
        gzip=cluster.collect.gzip,
    )


@dataclass(slots=True)
class _Progress:
    """What one cycle achieved so far."""

    answered: int = 0
    stored: bool = True
    errors: list[SourceError] = field(default_factory=list)
    partial: list[str] = field(default_factory=list)


class ClusterCollector:
    """Collects one cluster; a cycle and a piece of history never run at the same time."""

    def __init__(self, cluster: Cluster, profile: Profile, context: Context) -> None:
        self._closed = threading.Event()
        context = replace(context, writer=UntilClosed(context.writer, self._closed))
        self.cluster, self._context = cluster, context
        self._source = open_source(cluster)
        self._binder = Binder(cluster, profile, context)
        self._metrics = RecordedMetrics(cluster, context)
        self._backfill = Backfill(cluster, context, self._metrics)
        cache = SeriesCache(cluster, context)
        self._copies = [RawCopy(cluster, raw, context, cache) for raw in cluster.collect.raw]
        self._batches: list[Batch] = []
        self._batch_size = MAX_EXPRESSIONS
        self._quarantined: dict[tuple[str, str], int] = {}
        self._known = context.watermarks.of(cluster.name)
        self._read_back = False
        self._time_ms = 0
        self._one_request = threading.Lock()
        self._plan()

    def ping(self) -> None:
        """Ask something that costs nothing; raise `SourceError` if the cluster does not answer."""
        with self._one_request:
            self._source.instant("vector(1)", self._context.now(), timeout_seconds=PROBE_SECONDS)

    def cycle(self) -> Outcome | None:
        """Collect the newest instant of the grid; None if that was done before."""
        with self._one_request:
            collect = self.cluster.collect
            time_ms = grid_time(self._context.now(), collect.lag, collect.interval)
            if time_ms <= self._time_ms and not self._set_back(time_ms):
                return None
            self._time_ms = time_ms
            with telemetry.COLLECTION_SECONDS.labels(self.cluster.name).time():
                progress = self._collect(time_ms)
            return self._outcome(progress)

    def _set_back(self, time_ms: int) -> bool:
        """Tell whether the clock was set back so far that *time_ms* is to be collected again."""
        if self._time_ms - time_ms <= max(self.cluster.collect.interval, _WAITED_FOR_MS):
            return False
        for copy in self._copies:
            copy.restart()
        return True

    @property
    def history_pending(self) -> bool:
        """Whether there is history to read."""
        return self._backfill.pending

    def read_history(self) -> bool:
        """Read one piece of history; return whether to go on at once."""
        with self._one_request:
            try:
                return self._backfill.step(self._source)
            except (SourceError, StoreError, QueueFullError) as error:
                _LOG.warning("history is read later", cluster=self.cluster.name, error=str(error))
                return False

    def retire(self) -> None:
        """End every series, because nothing will go on under these labels.

        The markers lie behind every sample: a real value would win at the same time.
        """
        with self._one_request:
            collect = self.cluster.collect
            newest_ms = grid_time(self._context.now(), collect.lag, collect.interval)
            ids = [self._metrics.ids(self._batches), *(copy.ids() for copy in self._copies)]
            ended = markers(np.unique(np.concatenate(ids)), max(newest_ms, self._time_ms + 1))
            try:
                self._context.store(ended, lambda: None)
            except (StoreError, QueueFullError) as error:
                name = self.cluster.name
                _LOG.warning(
                    "series of a cluster that left end late", cluster=name, error=str(error)
                )

    def close(self) -> None:
        """Close the connections; what is stored from now on moves no watermark."""
        self._closed.set()
        self._source.close()

    def _collect(self, time_ms: int) -> _Progress:
        progress = _Progress()
        try:
            self._collect_recorded(time_ms, progress)
            for copy in self._copies:
                own_ms = copy.time(time_ms)
                if own_ms is not None:
                    self._collect_raw(copy, own_ms, progress)
            if not progress.answered and not progress.errors:
                self._source.instant("vector(1)", time_ms)
                progress.answered += 1
        except SourceUnreachableError as error:  # nothing else would be answered either
            progress.errors.append(error)
        except (StoreError, QueueFullError) as error:
            progress.stored = False
            _LOG.warning("not stored", cluster=self.cluster.name, error=str(error))
        return progress

    def _collect_recorded(self, time_ms: int, progress: _Progress) -> None:
        try:
            new = self._bind(time_ms, progress)
            if new or self._quarantined:
                self._plan()
            for batch in list(self._batches):
                self._collect_batch(batch, time_ms, progress)
        except SourceUnreachableError:
            raise
        except SourceError as error:
            progress.errors.append(error)
        else:
            self._plan_history(new, time_ms)

    def _bind(self, time_ms: int, progress: _Progress) -> list[Bound]:
        """Ask what the cluster can serve if that is due; return the metrics that are new."""
        if not self._binder.due(self._context.now()):
            return []
        new = self._binder.probe(self._source, time_ms)
        progress.answered += 1
        return new

    def _collect_batch(self, batch: Batch, time_ms: int, progress: _Progress) -> None:
        try:
            self._collect_once(batch, time_ms, progress)
        except SourceRejectedError as error:
            if error.kind not in QUERY_REFUSED:
                raise
            self._quarantine(batch, time_ms)
            self._plan()
            for rest in self._batches:
                if batch.keys >= rest.keys:
                    self._collect_once(rest, time_ms, progress)

    def _collect_once(self, batch: Batch, time_ms: int, progress: _Progress) -> None:
        partial = self._metrics.collect(self._source, batch, time_ms)
        progress.answered += 1
        for subject in batch.subjects:
            self._context.health.note(self.cluster.name, subject, partial)
        if partial:
            progress.partial.append(partial)

    def _quarantine(self, batch: Batch, time_ms: int) -> None:
        """Find the expressions that the server refuses, and leave them out for a while."""
        selector = self.cluster.prometheus.selector

        def ask(part: tuple[Bound, ...]) -> Answer:
            return self._source.instant(batch_expression(part, selector), time_ms)

        split = ask_in_halves(self._source, batch.bound, ask, halves, time_ms)
        if not split.refused:  # too much at once, though nothing is wrong with any part of it
            self._batch_size = max(1, min(self._batch_size, len(batch.bound)) // 2)
        until_ms = self._context.now() + _QUARANTINE_MS
        for part, error in split.refused:
            for item in part:
                self._quarantined[item.key] = until_ms
                self._context.health.quarantine(
                    self.cluster.name, item.metric.name, f"{item.candidate.id}: {error.detail}"
                )

    def _plan(self) -> None:
        """Make the batches of what is bound and not in quarantine, keeping those that stay."""
        now_ms = self._context.now()
        ended = [
            key
            for key, until_ms in self._quarantined.items()
            if not 0 < until_ms - now_ms <= _QUARANTINE_MS  # more: the clock was set back
        ]
        for key in ended:
            del self._quarantined[key]
            self._context.health.quarantine(self.cluster.name, key[0], "")
        bound = [item for item in self._binder.bound if item.key not in self._quarantined]
        self._metrics.incomplete = _incomplete(self._binder.bound, self._quarantined)
        known = {batch.keys: batch for batch in self._batches}
        parts = batches(bound, self._batch_size)
        made = [Batch.of(part, self.cluster.prometheus.selector) for part in parts]
        self._batches = [known.get(batch.keys, batch) for batch in made]

    def _plan_history(self, new: Sequence[Bound], time_ms: int) -> None:
        """Read back what was bound just now; at first everything, from where its data ends."""
        history_ms = time_ms - HISTORY_MS
        if self._read_back:
            bound, start_ms = new, history_ms
        else:
            bound = [item for batch in self._batches for item in batch.bound]
            marks = [self._known.get(group_subject(item.metric.group)) for item in bound]
            ends = [0 if mark is None else mark.data_until_ms or 0 for mark in marks]
            start_ms = max(history_ms, min(ends, default=0))
        self._read_back = self._read_back or bool(bound)
        interval = self.cluster.collect.interval
        start_ms = start_ms // interval * interval
        if bound and start_ms < time_ms:
            series = sum(batch.count for batch in self._batches)
            self._backfill.add(bound, start_ms, time_ms, series)

    def _collect_raw(self, copy: RawCopy, time_ms: int, progress: _Progress) -> None:
        others = sum(other.count for other in self._copies if other is not copy)
        room = max(0, self.cluster.collect.limits.series - others)
        note = ""
        try:
            note = copy.collect(self._source, time_ms, room)
            progress.answered += 1
        except SourceUnreachableError:
            raise
        except SourceError as error:
            progress.errors.append(error)
            note = error.detail
        finally:
            self._context.health.note(self.cluster.name, copy.subject, note)
        if note:
            progress.partial.append(note)

    def _outcome(self, progress: _Progress) -> Outcome:
        name, now_ms = self.cluster.name, self._context.now()
        counts = {
            "recorded": sum(batch.count for batch in self._batches),
            "raw": sum(copy.count for copy in self._copies),
        }
        for kind, count in counts.items():
            telemetry.CLUSTER_SERIES.labels(name, kind).set(count)
            self._context.health.count_series(name, kind, count)
        if progress.errors:
            error = progress.errors[0]
            telemetry.COLLECTIONS.labels(name, str(error.kind)).inc()
            return Outcome(now_ms, progress.answered > 0, error.detail, str(error.kind))
        if not progress.stored:
            telemetry.COLLECTIONS.labels(name, "not_stored").inc()
            return Outcome(now_ms, answered=True, error="the store is behind", kind="not_stored")
        telemetry.COLLECTIONS.labels(name, "partial" if progress.partial else "ok").inc()
        partial = progress.partial[0] if progress.partial else ""
        return Outcome(now_ms, answered=True, error=partial, kind="partial" if partial else "")


def _incomplete(bound: Sequence[Bound], quarantined: Collection[tuple[str, str]]) -> frozenset[str]:
    """Return the metrics that are not asked for in full, and what is derived from them."""
    names = {metric for metric, _ in quarantined}
    derived = {
        item.metric.name
        for item in bound
        if item.candidate.derive is not None and item.candidate.derive.metric in names
    }
    return frozenset(names | derived)
