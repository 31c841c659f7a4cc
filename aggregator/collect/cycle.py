"""One cluster's collection: what a cycle asks, in which order, and what a failure means."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import structlog

from aggregator import telemetry
from aggregator.collect.backfill import HISTORY_MS, Backfill
from aggregator.collect.binding import Binder
from aggregator.collect.bisect import ping
from aggregator.collect.budget import NewSeries
from aggregator.collect.context import Context, QueueFullError, UntilClosed
from aggregator.collect.endpoint import Endpoint
from aggregator.collect.identity import SeriesCache
from aggregator.collect.raw import RawCopy
from aggregator.collect.recorded import Batch, RecordedMetrics
from aggregator.collect.requests import Requests
from aggregator.collect.schedule import grid_time
from aggregator.collect.staleness import markers
from aggregator.errors import SourceError, SourceRejectedError, SourceUnreachableError, StoreError
from aggregator.fleet.health import Dropped, Outcome
from aggregator.fleet.registry import Cluster
from aggregator.fleet.subjects import group_subject, selector_name
from aggregator.profile.format import Bound, Profile, Source
from aggregator.sources.prometheus import PrometheusSource

_LOG = structlog.get_logger(__name__)
_WAITED_FOR_MS = 60_000  # a clock that was set back by less catches up soon
_ASK_SECONDS = 10.0  # for questions about bindings, in one cycle


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
        self._endpoint = Endpoint(cluster)
        self._binder = Binder(cluster, profile.served_by(Source.PROMETHEUS), context)
        limit = cluster.collect.limits.series  # of recorded and of raw series, each
        self._metrics = RecordedMetrics(cluster, context, NewSeries(limit, context.now))
        self._backfill = Backfill(cluster, context, self._metrics)
        new = NewSeries(limit, context.now)
        self._copies = [
            RawCopy(cluster, raw, context, SeriesCache(cluster, context, new))
            for raw in cluster.collect.raw
        ]
        self._requests = Requests(cluster, context, self._metrics)
        self._known = context.watermarks.of(cluster.name)
        self._read_back = False
        self._time_ms = 0
        self._one_request = threading.Lock()
        self._requests.plan(self._binder.bound)

    def ping(self) -> None:
        """Ask something that costs nothing; raise `SourceError` if the cluster does not answer."""
        with self._one_request:
            ping(self._source, self._context.now())

    def cycle(self) -> Outcome | None:
        """Collect the newest instant of the grid; None if that was done before."""
        with self._one_request:
            time_ms = self._newest_ms()
            if time_ms <= self._time_ms and not self._set_back(time_ms):
                return None
            self._time_ms = time_ms
            started = time.monotonic()
            progress = self._collect(time_ms)
            seconds = time.monotonic() - started
            telemetry.COLLECTION_SECONDS.labels(self.cluster.name).observe(seconds)
            return replace(
                self._outcome(progress),
                duration_seconds=seconds,
                clock_offset_ms=self._source.clock_offset_ms,
            )

    def _newest_ms(self) -> int:
        """Return the newest instant of the grid that the source shows whole by now."""
        collect = self.cluster.collect
        lag_ms = max(collect.lag, self._source.dialect.lag_ms)
        return grid_time(self._context.now(), lag_ms, collect.interval)

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
            ids = [
                self._metrics.ids(self._requests.batches),
                *(copy.ids() for copy in self._copies),
            ]
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
            if not self._alone(time_ms, progress):
                return progress
            dialect = self._source.dialect
            self._context.health.speaks(self.cluster.name, dialect.name, dialect.lag_ms)
            self._time_ms = time_ms = min(time_ms, self._newest_ms())
            self._collect_recorded(time_ms, progress)
            for copy in self._copies:
                own_ms = copy.time(time_ms)
                if own_ms is not None and self._may_ask(copy, progress):
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

    def _alone(self, time_ms: int, progress: _Progress) -> bool:
        """Tell whether the endpoint is this cluster's alone, as far as can be seen."""
        try:
            self._endpoint.check(self._source, time_ms, self._context.now())
        except SourceRejectedError as error:
            progress.errors.append(error)
            progress.answered += 1
            return False
        return True

    def _collect_recorded(self, time_ms: int, progress: _Progress) -> None:
        try:
            first = not self._binder.bound
            new = self._ask(time_ms, progress) if first else []
            if new or self._requests.restricted:
                self._requests.plan(self._binder.bound)
            for batch in list(self._requests.batches):
                self._collect_batch(batch, time_ms, progress)
            if not first:
                new = self._ask(time_ms, progress)
                self._collect_new(new, time_ms, progress)
        except SourceUnreachableError:
            raise
        except SourceError as error:
            progress.errors.append(error)
        else:
            self._plan_history(new, time_ms)

    def _ask(self, time_ms: int, progress: _Progress) -> list[Bound]:
        """Ask what the cluster can serve, as far as that is due; return what is new."""
        if not self._binder.due(self._context.now()):
            return []
        seconds = min(_ASK_SECONDS, max(1.0, self.cluster.collect.interval / 3_000))
        new = self._binder.ask(self._source, time_ms, seconds)
        progress.answered += 1
        return new

    def _collect_new(self, new: Sequence[Bound], time_ms: int, progress: _Progress) -> None:
        """Collect at once what was bound just now, so that a moved binding leaves no gap."""
        if not new:
            return
        self._requests.plan(self._binder.bound)
        keys = {item.key for item in new}
        for batch in list(self._requests.batches):
            if not keys.isdisjoint(batch.keys):
                self._collect_batch(batch, time_ms, progress)

    def _collect_batch(self, batch: Batch, time_ms: int, progress: _Progress) -> None:
        """Collect a batch; if that is refused or too much, what remains of it in smaller ones."""
        pending = [batch]
        while pending:
            part = pending.pop(0)
            try:
                self._collect_once(part, time_ms, progress)
            except SourceError as error:
                pending = self._requests.smaller(part, error, self._source, time_ms) + pending

    def _collect_once(self, batch: Batch, time_ms: int, progress: _Progress) -> None:
        collected = self._metrics.collect(self._source, batch, time_ms)
        progress.answered += 1
        if collected.there is not None:
            self._binder.observe(batch.bound, collected.there, time_ms)
        for subject in batch.subjects:
            dropped = collected.dropped.get(subject)
            note = collected.partial or ("" if dropped is None else dropped.text)
            self._context.health.note(self.cluster.name, subject, note)
        if collected.partial:
            progress.partial.append(collected.partial)

    def _plan_history(self, new: Sequence[Bound], time_ms: int) -> None:
        """Read back what was bound just now; at first everything, from where its data ends."""
        history_ms = time_ms - HISTORY_MS
        if self._read_back:
            bound, start_ms = new, history_ms
        else:
            bound = [item for batch in self._requests.batches for item in batch.bound]
            marks = [self._known.get(group_subject(item.metric.group)) for item in bound]
            ends = [0 if mark is None else mark.data_until_ms or 0 for mark in marks]
            start_ms = max(history_ms, min(ends, default=0))
        self._read_back = self._read_back or bool(bound)
        interval = self.cluster.collect.interval
        start_ms = start_ms // interval * interval
        if bound and start_ms < time_ms:
            series = sum(batch.count for batch in self._requests.batches)
            self._backfill.add(bound, start_ms, time_ms, series)

    def _may_ask(self, copy: RawCopy, progress: _Progress) -> bool:
        """Tell whether the server takes the copy's selector; say so if it does not."""
        dialect = self._source.dialect
        if not dialect.exact_names or selector_name(copy.selector.match) is not None:
            return True
        text = f"{dialect.name} takes selectors that name one metric only; name it in match"
        self._context.health.note(self.cluster.name, copy.subject, text)
        progress.partial.append(text)
        return False

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
            "recorded": sum(batch.count for batch in self._requests.batches),
            "raw": sum(copy.count for copy in self._copies),
        }
        for kind, count in counts.items():
            telemetry.CLUSTER_SERIES.labels(name, kind).set(count)
            self._context.health.count_series(name, kind, count)
        self._say_dropped(progress)
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

    def _say_dropped(self, progress: _Progress) -> None:
        """Note what the budget left out of fleet metrics; a subject may be in several batches."""
        worst: dict[str, Dropped | None] = {}
        for batch in self._requests.batches:
            for subject in batch.subjects:
                worst.setdefault(subject, None)
            for subject, dropped in ({} if batch.layout is None else batch.layout.dropped).items():
                before = worst[subject]
                if before is None or dropped.series > before.series:
                    worst[subject] = dropped
        for subject, one in worst.items():
            self._context.health.drop(self.cluster.name, subject, one, self._time_ms)
            if one is not None:
                progress.partial.append(one.text)
