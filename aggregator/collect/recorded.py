"""Collects fleet metrics: one request a batch, every value stored at the instant asked for."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import orjson
import xxhash
from numpy.typing import NDArray

from aggregator.collect.budget import Admitted, NewSeries, admit, blamed, fair_places, sampled
from aggregator.collect.context import Context, gap_reason, partial_reason
from aggregator.collect.staleness import vanished
from aggregator.errors import SourceMalformedError
from aggregator.fleet.health import Dropped
from aggregator.fleet.registry import Cluster
from aggregator.fleet.subjects import metric_subject
from aggregator.model.arrays import Bools, Ids, Ints
from aggregator.model.samples import STALE, SampleBlock
from aggregator.profile.batch import batch_expression
from aggregator.profile.format import Bound
from aggregator.profile.normalize import Normalized, normalize
from aggregator.sources.prometheus import Answer, PrometheusSource

_Hashes: TypeAlias = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Layout:
    """How an answer's rows become stored series, valid while the answer's digest stays the same.

    `ids` has one entry for each stored series of `normalized`, 0 where `kept` is False; `metric`
    is the position of each series' metric in `metrics`, and `dropped` what the cluster's budget
    leaves out, by subject.
    """

    digest: bytes
    generation: int
    normalized: Normalized
    ids: Ids
    kept: Bools
    metric: Ints
    metrics: tuple[str, ...]
    dropped: Mapping[str, Dropped]

    def present(self, there: Bools) -> Bools:
        """Return which series exist at any step, given `[series, steps]`."""
        found: Bools = there.any(axis=1) & self.kept
        return found


@dataclass(slots=True)
class Batch:
    """Metrics that are asked for in one request, and what is remembered between requests."""

    bound: tuple[Bound, ...]
    expr: str
    layout: Layout | None = None
    settled: tuple[Layout, Bools] | None = None
    count: int = 0

    @staticmethod
    def of(bound: Sequence[Bound], selector: str) -> "Batch":
        """Return the batch that asks for *bound*."""
        return Batch(tuple(bound), batch_expression(bound, selector))

    @property
    def keys(self) -> frozenset[tuple[str, str]]:
        """The metrics and candidates that are asked for."""
        return frozenset(item.key for item in self.bound)

    @property
    def subjects(self) -> frozenset[str]:
        """The subjects that the answer is about."""
        return frozenset(metric_subject(item.metric) for item in self.bound)

    def digest(self, generation: int) -> bytes | None:
        """Return the digest of the label sets whose ids are known and not forgotten since."""
        layout = self.layout
        return layout.digest if layout is not None and layout.generation == generation else None


@dataclass(frozen=True, slots=True)
class Collected:
    """What came of one batch: why it may lack data, and what the budget left out of each subject.

    `there` tells which of its metrics a whole answer had.
    """

    partial: str
    dropped: Mapping[str, Dropped]
    there: Bools | None


@dataclass(slots=True)
class RecordedMetrics:
    """The fleet metrics of one cluster.

    `_live` holds the ids of each metric's last complete answer, which tells what has vanished, and
    `_handed_ms` the newest instant of each subject that was handed to the writer. The series of a
    metric that is `incomplete`, because a part of it is in quarantine, do not end. `batches` are
    those of now, `new` is what the cluster may still bring, and `_seen` has the hashes of each
    metric's series in its last two layouts.
    """

    cluster: Cluster
    context: Context
    new: NewSeries
    batches: Sequence[Batch] = ()
    incomplete: frozenset[str] = frozenset()
    _live: dict[str, Ids] = field(default_factory=dict)
    _handed_ms: dict[str, int] = field(default_factory=dict)
    _seen: dict[str, tuple[_Hashes, _Hashes]] = field(default_factory=dict)
    _generation: int = -1

    def collect(self, source: PrometheusSource, batch: Batch, time_ms: int) -> Collected:
        """Ask for *batch* at *time_ms* and store the answer; return what came of it.

        Raises `SourceError`, and `StoreError` or `QueueFullError` with nothing stored.
        """
        known = batch.digest(self.context.series.generation)
        answer = source.instant(batch.expr, time_ms, known=known)
        if answer.times.size != answer.offsets.size - 1:
            raise SourceMalformedError(
                self.cluster.name, "an instant query was answered by a range", kind="wrong_json"
            )
        layout = self.layout(batch, answer)
        values, there = layout.normalized.apply(answer.values)
        present = layout.present(there)
        partial = partial_reason(answer)
        live = {} if partial else self._changes(batch, layout, present)
        gone = vanished(
            np.concatenate([self._live.get(name, _NONE) for name in live] or [_NONE]),
            np.concatenate([*live.values(), _NONE]),
        )
        block = SampleBlock(
            np.concatenate([layout.ids[present], gone]),
            np.full(int(present.sum()) + gone.size, time_ms),
            np.concatenate([values[present, 0], np.full(gone.size, STALE)]),
        )
        gaps = {} if partial else self._gaps(batch, time_ms)
        self.context.store(block, self._stored(batch, (layout, present), time_ms, partial, live))
        if not partial:
            self._record_gaps(batch, gaps, time_ms)
        batch.count = int(present.sum())
        rows = np.bincount(layout.normalized.rule[present], minlength=len(batch.bound))
        whole = not partial and not layout.dropped
        return Collected(partial, layout.dropped, rows > 0 if whole else None)

    def ids(self, batches: Iterable[Batch]) -> Ids:
        """Return the ids that may be visible: of the last answers, complete or not."""
        generation = self.context.series.generation
        known = [batch.layout for batch in batches if batch.digest(generation) is not None]
        last = [layout.ids[layout.kept] for layout in known if layout is not None]
        return np.concatenate([_NONE, *self._live.values(), *last])

    def layout(self, batch: Batch, answer: Answer) -> Layout:
        """Return how to store *answer*: what is known, or else read from its label sets."""
        if answer.metrics is None and batch.layout is not None:
            return batch.layout
        cluster, metrics = self.cluster, answer.metrics or ()
        generation = self.context.series.generation
        normalized = normalize(metrics, batch.bound, cluster.name, cluster.region)
        names = [bound.metric.name for bound in batch.bound]
        unique = tuple(dict.fromkeys(names))
        position = np.array([unique.index(name) for name in names], dtype=np.int64)
        metric = position[normalized.rule]
        admitted = self._admit(batch, normalized.labels, metric, unique)
        ids = np.zeros(metric.size, np.uint32)
        chosen = [normalized.labels[row] for row in np.flatnonzero(admitted.kept)]
        ids[admitted.kept] = self.context.series.series_ids(chosen)
        counts = {"series_limit": admitted.over, "new_series_limit": admitted.churned}
        self.context.reject(cluster.name, {**normalized.rejected, **counts})
        dropped = self._dropped(batch, normalized.labels, admitted)
        slim = replace(normalized, labels=[])  # a million label sets would fill the memory
        batch.layout = Layout(
            answer.digest, generation, slim, ids, admitted.kept, metric, unique, dropped
        )
        return batch.layout

    def _admit(
        self, batch: Batch, labels: Sequence[dict[str, str]], metric: Ints, names: Sequence[str]
    ) -> Admitted:
        """Choose which series are stored, those first that the last two answers had."""
        if self.context.series.generation != self._generation:
            self._generation = self.context.series.generation
            self._seen.clear()
            self.new.begin()
        series = [orjson.dumps(each, option=orjson.OPT_SORT_KEYS) for each in labels]
        keys = np.fromiter(map(xxhash.xxh3_64_intdigest, series), np.uint64, len(series))
        known = np.zeros(keys.size, np.bool_)
        for number, name in enumerate(names):
            rows = metric == number
            known[rows] = np.isin(keys[rows], np.concatenate(self._seen.get(name, _UNSEEN)))
        others = (one.count for one in self.batches if one.keys.isdisjoint(batch.keys))
        room = max(0, self.new.limit - sum(others))

        def places() -> Ints:
            return fair_places([names[number].encode() for number in metric.tolist()], series)

        admitted = admit(known, places, room, self.new)
        for number, name in enumerate(names):
            before = self._seen.get(name, _UNSEEN)[0]
            self._seen[name] = keys[(metric == number) & admitted.kept], before
        return admitted

    def _dropped(
        self, batch: Batch, labels: Sequence[dict[str, str]], admitted: Admitted
    ) -> dict[str, Dropped]:
        """Return what is left out, by subject."""
        if not admitted.cut:
            return {}
        groups = {item.metric.name: metric_subject(item.metric) for item in batch.bound}
        left_out = np.flatnonzero(~admitted.kept)
        by_subject: dict[str, list[int]] = {}
        for row in left_out.tolist():
            by_subject.setdefault(groups[labels[row]["__name__"]], []).append(row)
        dropped = {}
        for subject, rows in by_subject.items():
            some = [labels[row] for row in sampled(np.array(rows, np.int64))]
            one = blamed(some, admitted, self.new.limit)
            if one is not None:
                dropped[subject] = replace(one, series=len(rows))
        return dropped

    def _changes(self, batch: Batch, layout: Layout, present: Bools) -> dict[str, Ids]:
        """Return the ids of each metric whose series are not those of its last answer."""
        if not layout.kept.all():  # truncated: what is missing may well be there
            return {}
        settled = batch.settled
        if settled is not None and settled[0] is layout and np.array_equal(settled[1], present):
            return {}
        changed = {}
        for position, name in enumerate(layout.metrics):
            if name in self.incomplete:
                continue
            ids = np.sort(layout.ids[present & (layout.metric == position)])
            if not np.array_equal(ids, self._live.get(name, _NONE)):
                changed[name] = ids
        return changed

    def _gaps(self, batch: Batch, time_ms: int) -> dict[str, tuple[int, int]]:
        """Return the time before *time_ms* that each subject was not answered for, if any."""
        cluster, gaps = self.cluster, {}
        end_ms = time_ms - cluster.collect.interval
        for subject in batch.subjects:
            mark = self.context.watermarks.get(cluster.name, subject)
            until = self._handed_ms.get(subject, end_ms if mark is None else mark.answered_ms)
            if until < end_ms:
                gaps[subject] = (until, end_ms)
        return gaps

    def _record_gaps(self, batch: Batch, gaps: Mapping[str, tuple[int, int]], time_ms: int) -> None:
        cluster, context = self.cluster.name, self.context
        if gaps:
            reason = gap_reason(context, cluster, started=gaps.keys() <= self._handed_ms.keys())
            rows = [(subject, *window) for subject, window in gaps.items()]
            context.gaps.record(cluster, rows, reason, context.now())
        self._handed_ms.update(dict.fromkeys(batch.subjects, time_ms))

    def _stored(
        self,
        batch: Batch,
        seen: tuple[Layout, Bools],
        time_ms: int,
        partial: str,
        live: Mapping[str, Ids],
    ) -> Callable[[], None]:
        """Return what to do once the answer is durable."""
        with_data, without = subjects_of(batch.bound, seen[0], seen[1])
        cluster, context = self.cluster.name, self.context

        def stored() -> None:
            if not partial:
                self._live = {**self._live, **live}
                batch.settled = seen
                context.watermarks.advance(cluster, time_ms, with_data=with_data, without=without)

        return stored


_NONE: Ids = np.empty(0, np.uint32)
_UNSEEN: tuple[_Hashes, _Hashes] = np.empty(0, np.uint64), np.empty(0, np.uint64)


def subjects_of(
    bound: Sequence[Bound], layout: Layout, present: Bools
) -> tuple[list[str], list[str]]:
    """Return the subjects of *bound* that have data, and those that have none."""
    groups = {item.metric.name: metric_subject(item.metric) for item in bound}
    found = np.unique(layout.metric[present]).tolist()
    with_data = {groups[layout.metrics[position]] for position in found}
    return sorted(with_data), sorted(set(groups.values()) - with_data)
