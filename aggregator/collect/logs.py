"""One cluster's log metrics: asked of its Loki now and then, written again each minute."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import structlog

from aggregator import telemetry
from aggregator.collect.bisect import NOT_IN_TIME, QUERY_REFUSED
from aggregator.collect.budget import NewSeries
from aggregator.collect.context import (
    Context,
    QueueFullError,
    UntilClosed,
    gap_reason,
    partial_reason,
)
from aggregator.collect.logbinding import LABELS_MS, LogBinder, expression
from aggregator.collect.recorded import Batch, RecordedMetrics
from aggregator.collect.schedule import grid_time
from aggregator.collect.spacing import SPACING_MS, Held
from aggregator.collect.staleness import markers
from aggregator.errors import SourceError, StoreError
from aggregator.fleet.health import Outcome
from aggregator.fleet.registry import Cluster
from aggregator.fleet.subjects import LOG_METRICS, LOGS_LAST
from aggregator.model.samples import SampleBlock
from aggregator.profile.batch import RULE_LABEL
from aggregator.profile.format import Bound, Profile
from aggregator.sources.loki import LokiSource
from aggregator.sources.prometheus import Answer
from aggregator.sources.settings import LokiSettings

_LOG = structlog.get_logger(__name__)
_TURN_SECONDS = 120.0  # what is not asked by then is asked at the next turn
_MOST_SKIPPED = 12
# A query that failed so says nothing of the next one, or does not if Loki answers a simple one.
_OF_ONE_QUERY = QUERY_REFUSED | {"too_large", "wrong_json"}
_MAYBE_OF_ONE_QUERY = NOT_IN_TIME | {"server_error", "reset", "truncated"}


@dataclass(slots=True)
class _Metric:
    """One metric: how it is asked, what became of that, and the answer that stands.

    Without `exprs` nothing serves it any more.
    """

    batch: Batch
    exprs: tuple[str, ...]
    interval_ms: int
    held: Held | None = None
    answered_ms: int = 0
    tried_ms: int = 0
    failures: int = 0

    def time_ms(self, newest_ms: int) -> int | None:
        """Return the instant to ask for when data until *newest_ms* is there, None if none is due.

        That is the newest one of its grid. Where that one failed and was written over meanwhile, it
        is *newest_ms*. After failures it is asked for more rarely.
        """
        if not self.exprs:
            return None
        skipped = min(1 << max(self.failures - 1, 0), _MOST_SKIPPED)
        last_ms = self.tried_ms if self.failures else self.answered_ms
        time_ms = newest_ms // self.interval_ms * self.interval_ms
        if time_ms < last_ms // self.interval_ms * self.interval_ms + skipped * self.interval_ms:
            return None
        written_ms = 0 if self.held is None else self.held.written_ms
        if time_ms > written_ms:
            return time_ms
        return newest_ms if newest_ms > written_ms else None


@dataclass(slots=True)
class _Turn:
    """What one turn found out: the new answers by metric, how many rows each candidate had."""

    time_ms: int
    answered: int = 0
    answers: dict[str, Held] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)
    rows: list[tuple[Bound, int]] = field(default_factory=list)
    streams: bool = True
    errors: list[SourceError] = field(default_factory=list)
    partial: str = ""


class ClusterLogs:
    """Collects the log metrics of one cluster; its turns never run at the same time."""

    def __init__(
        self, cluster: Cluster, settings: LokiSettings, profile: Profile, context: Context
    ) -> None:
        self._closed = threading.Event()
        writer = UntilClosed(context.writer, self._closed)
        context = replace(context, writer=writer, health=context.log_health)
        self.cluster, self._context, self._matchers = cluster, context, settings.matchers
        limits = cluster.collect.limits  # of log metrics, apart from the others
        self._source = LokiSource(
            cluster.name, settings, max_bytes=limits.response_bytes, gzip=cluster.collect.gzip
        )
        self._binder = LogBinder(cluster, settings.matchers, profile, context)
        self._layouts = RecordedMetrics(cluster, context, NewSeries(limits.series, context.now))
        self._metrics: dict[str, _Metric] = {}
        self._handed_ms: int | None = None
        self._one_turn = threading.Lock()
        self._plan()

    def turn(self, *, ask: bool, probe: bool) -> Outcome | None:
        """Ask what is due, and write again what stands; return None if nothing was asked.

        Without *ask* it only writes. With *probe* Loki has to prove first that it answers.
        """
        with self._one_turn:
            now_ms = self._context.now()
            turn = _Turn(grid_time(now_ms, self.cluster.collect.lag, SPACING_MS))
            self._begin_again(turn.time_ms)
            started = time.monotonic()
            asked = ask and self._ask(turn, now_ms, probe=probe)
            stored = self._store(turn)
            if not asked:
                return None
            outcome = self._outcome(turn, stored=stored)
            return replace(outcome, duration_seconds=time.monotonic() - started)

    def retire(self) -> None:
        """End every series, because nothing will go on under these labels."""
        with self._one_turn:
            held = [metric.held for metric in self._metrics.values() if metric.held is not None]
            newest_ms = grid_time(self._context.now(), self.cluster.collect.lag, SPACING_MS)
            ended = [markers(one.ids, max(newest_ms, one.written_ms + 1)) for one in held]
            self._submit(SampleBlock.concat(ended), lambda: None)

    def close(self) -> None:
        """Close the connections; what is stored from now on moves no watermark."""
        self._closed.set()
        self._source.close()

    def _plan(self) -> None:
        """Ask for what is bound from now on; the answers that stand go on."""
        served: dict[str, list[Bound]] = {}
        for item in self._binder.bound:
            if item.candidate.expr is not None:
                served.setdefault(item.metric.name, []).append(item)
        for name in self._metrics.keys() - served.keys():
            self._metrics[name].exprs = ()
        for name, items in served.items():
            known = self._metrics.get(name)
            exprs = tuple(
                expression(item, item.candidate.expr or "", self._matchers) for item in items
            )
            if known is None or known.exprs != exprs:
                interval_ms = items[0].metric.interval or SPACING_MS
                held = None if known is None else known.held
                batch = Batch(tuple(items), "")
                self._metrics[name] = _Metric(batch, exprs, interval_ms, held)
        self._layouts.batches = [metric.batch for metric in self._metrics.values()]

    def _begin_again(self, newest_ms: int) -> None:
        """Forget what lies in the future: the clock was set back."""
        for metric in self._metrics.values():
            if max(metric.answered_ms, metric.tried_ms) > newest_ms + SPACING_MS:
                metric.held, metric.answered_ms, metric.tried_ms = None, 0, 0

    def _ask(self, turn: _Turn, now_ms: int, *, probe: bool) -> bool:
        """Ask what is due; return whether anything was."""
        due = self._binder.due(now_ms)
        if not due and not probe and not self._due(turn):
            return False
        ends = time.monotonic() + _TURN_SECONDS
        try:
            if probe:
                self._source.ping(turn.time_ms)
                turn.answered += 1
            if due:
                self._binder.ask(self._source, turn.time_ms)
                turn.answered += 1
                self._plan()
            for name, time_ms in self._due(turn):
                if time.monotonic() < ends:
                    self._ask_metric(name, time_ms, turn)
            if turn.rows and not any(count for _, count in turn.rows):
                labels = self._source.labels(turn.time_ms - LABELS_MS, turn.time_ms)
                turn.streams = self._binder.has_streams(labels)
        except SourceError as error:
            turn.errors.insert(0, error)
        times = {name: answer.time_ms for name, answer in turn.answers.items()}
        self._binder.observe(turn.rows, times, streams=turn.streams)
        return True

    def _due(self, turn: _Turn) -> list[tuple[str, int]]:
        times = {name: metric.time_ms(turn.time_ms) for name, metric in self._metrics.items()}
        return [(name, time_ms) for name, time_ms in times.items() if time_ms is not None]

    def _ask_metric(self, name: str, time_ms: int, turn: _Turn) -> None:
        """Ask for one metric. Raises `SourceError` if that says something of the others too."""
        metric = self._metrics[name]
        metric.tried_ms = time_ms
        try:
            self._take(name, metric, time_ms, turn)
        except SourceError as error:
            if error.kind in _MAYBE_OF_ONE_QUERY:
                self._source.ping(turn.time_ms)
            elif error.kind not in _OF_ONE_QUERY:
                raise
            metric.failures += 1
            turn.errors.append(error)
            turn.answered += 1
            self._context.health.quarantine(self.cluster.name, name, error.detail)
        else:
            metric.failures = 0
            turn.answered += 1
            self._context.health.quarantine(self.cluster.name, name, "")

    def _take(self, name: str, metric: _Metric, time_ms: int, turn: _Turn) -> None:
        batch = metric.batch
        known = batch.digest(self._context.series.generation) if len(metric.exprs) == 1 else None
        answers = [self._source.instant(expr, time_ms, known=known) for expr in metric.exprs]
        layout = self._layouts.layout(batch, _one_answer(answers))
        values, there = layout.normalized.apply(np.concatenate([one.values for one in answers]))
        present = layout.present(there)
        batch.count = int(present.sum())
        turn.answers[name] = Held(
            time_ms, metric.interval_ms, layout.ids[present], values[present, 0], time_ms
        )
        counts = np.bincount(layout.normalized.rule[present], minlength=len(batch.bound))
        turn.rows += zip(batch.bound, counts.tolist(), strict=True)
        partial = next(filter(None, map(partial_reason, answers)), "")
        turn.partial = turn.partial or partial
        if layout.kept.all() and not partial:
            turn.whole.add(name)

    def _store(self, turn: _Turn) -> bool:
        """Store new answers and write those that stand again; return whether there was room."""
        block, held = self._written(turn)
        mark_ms = self._mark_ms(turn)
        if mark_ms is None and not len(block):
            return True
        if not self._submit(block, self._stored(turn, mark_ms)):
            return False
        for name, rest in held.items():
            self._metrics[name].held = rest
        for name, new in turn.answers.items():
            self._metrics[name].answered_ms = new.time_ms
        if mark_ms is not None:
            self._record_gap(mark_ms)
        gone = [name for name, one in self._metrics.items() if not one.exprs and one.held is None]
        for name in gone:
            del self._metrics[name]
        return True

    def _written(self, turn: _Turn) -> tuple[SampleBlock, dict[str, Held | None]]:
        """Return what is to be written now, and what every metric holds then."""
        until_ms = self._context.now() - self.cluster.collect.lag
        blocks: list[SampleBlock] = []
        held: dict[str, Held | None] = {}
        for name, metric in self._metrics.items():
            old, new = metric.held, turn.answers.get(name)
            if new is not None:
                if old is not None:
                    whole = name in turn.whole
                    blocks.append(old.followed_by(new) if whole else old.again(new.time_ms - 1)[0])
                blocks.append(new.samples())
            standing = new or old
            if standing is not None:
                block, held[name] = standing.again(until_ms)
                blocks.append(block)
        return SampleBlock.concat(blocks), held

    def _submit(self, block: SampleBlock, on_stored: Callable[[], None]) -> bool:
        try:
            self._context.store(block, on_stored)
        except (StoreError, QueueFullError) as error:
            _LOG.warning("not stored", cluster=self.cluster.name, error=str(error))
            return False
        return True

    def _mark_ms(self, turn: _Turn) -> int | None:
        """Return up to when everything that can be asked was answered whole, None if that is old.

        What fails on its own does not hold back the others; it is noted.
        """
        if not turn.answers or turn.partial:
            return None
        times = [
            turn.answers[name].time_ms if name in turn.answers else metric.answered_ms
            for name, metric in self._metrics.items()
            if metric.exprs and not metric.failures
        ]
        return min(times, default=0) or None

    def _stored(self, turn: _Turn, mark_ms: int | None) -> Callable[[], None]:
        """Return what to do once everything is durable."""
        cluster, context, streams = self.cluster.name, self._context, turn.streams

        def stored() -> None:
            if mark_ms is not None:
                found, none = ([LOG_METRICS], []) if streams else ([], [LOG_METRICS])
                context.watermarks.advance(cluster, mark_ms, with_data=found, without=none)

        return stored

    def _record_gap(self, mark_ms: int) -> None:
        """Note the time before *mark_ms* for which no answer stood."""
        cluster, context = self.cluster.name, self._context
        slowest_ms = max(metric.interval_ms for metric in self._metrics.values())
        started, before = self._handed_ms is not None, self._handed_ms
        if before is None:
            mark = context.watermarks.get(cluster, LOG_METRICS)
            before = mark_ms if mark is None else mark.answered_ms
        stood_ms = before + (LOGS_LAST * slowest_ms if started else slowest_ms)
        if stood_ms < mark_ms:
            gap = LOG_METRICS, stood_ms - SPACING_MS, mark_ms - SPACING_MS
            reason = gap_reason(context, cluster, started=started)
            context.gaps.record(cluster, [gap], reason, context.now())
        self._handed_ms = max(mark_ms, before)

    def _outcome(self, turn: _Turn, *, stored: bool) -> Outcome:
        name, health, now_ms = self.cluster.name, self._context.health, self._context.now()
        layouts = [metric.batch.layout for metric in self._metrics.values()]
        dropped = [one.dropped[LOG_METRICS] for one in layouts if one and one.dropped]
        worst = max(dropped, key=lambda one: one.series, default=None)
        health.drop(name, LOG_METRICS, worst, turn.time_ms)
        count = sum(metric.batch.count for metric in self._metrics.values())
        telemetry.CLUSTER_SERIES.labels(name, "logs").set(count)
        health.count_series(name, "logs", count)
        error, kind = "", ""
        if turn.errors:
            first = turn.errors[0]
            error, kind = first.detail, str(first.kind)
        elif not stored:
            error, kind = "the store is behind", "not_stored"
        elif turn.partial or worst is not None:
            error = turn.partial or ("" if worst is None else worst.text)
            kind = "partial"
        health.note(name, LOG_METRICS, error)
        telemetry.LOG_COLLECTIONS.labels(name, kind or "ok").inc()
        return Outcome(now_ms, turn.answered > 0, error, kind)


def _one_answer(answers: Sequence[Answer]) -> Answer:
    """Return the answers of a metric's candidates as one, each row tagged with its candidate."""
    if len(answers) == 1 and answers[0].metrics is None:
        return answers[0]
    metrics = [
        _tagged(labels, position)
        for position, answer in enumerate(answers)
        for labels in answer.metrics or ()
    ]
    digest = b"".join(answer.digest for answer in answers)
    return replace(answers[0], digest=digest, metrics=tuple(metrics))


def _tagged(labels: bytes, position: int) -> bytes:
    """Return a JSON object of labels with one more; the last of two with one name counts."""
    inner = labels.strip()[1:-1].strip()
    comma = b"," if inner else b""
    return b'{%b%b"%b":"%d"}' % (inner, comma, RULE_LABEL.encode(), position)
