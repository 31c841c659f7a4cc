"""Plans the requests for a cluster's fleet metrics: what is asked together, what is left out."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from aggregator.collect.bisect import NOT_IN_TIME, QUERY_REFUSED, TOO_MUCH, ask_in_halves, ping
from aggregator.collect.context import Context
from aggregator.collect.recorded import Batch, RecordedMetrics
from aggregator.errors import SourceError
from aggregator.fleet.registry import Cluster
from aggregator.profile.batch import batch_expression, batches, halves
from aggregator.profile.format import Bound
from aggregator.sources.prometheus import Answer, PrometheusSource

_QUARANTINE_MS = 600_000
_SPLIT_MS = 3_600_000
_SEARCH_SECONDS = 20.0

_Keys = frozenset[tuple[str, str]]
_Key = TypeVar("_Key")


@dataclass(slots=True)
class Requests:
    """The batches of one cluster.

    An expression that the server refuses, or that alone is too much, is in quarantine for a while;
    a batch that is too much at once is asked in halves for a while.
    """

    cluster: Cluster
    context: Context
    metrics: RecordedMetrics
    batches: list[Batch] = field(default_factory=list)
    _bound: Sequence[Bound] = ()
    _quarantined: dict[tuple[str, str], int] = field(default_factory=dict)
    _halved: dict[_Keys, int] = field(default_factory=dict)

    @property
    def restricted(self) -> bool:
        """Whether something is left out or asked in halves, until some time."""
        return bool(self._quarantined or self._halved)

    def plan(self, bound: Sequence[Bound]) -> None:
        """Make the batches of *bound* without what is in quarantine, keeping those that stay."""
        self._bound = bound
        now_ms = self.context.now()
        for key in _ended(self._quarantined, _QUARANTINE_MS, now_ms):
            del self._quarantined[key]
            self.context.health.quarantine(self.cluster.name, key[0], "")
        for keys in _ended(self._halved, _SPLIT_MS, now_ms):
            del self._halved[keys]
        asked = [item for item in bound if item.key not in self._quarantined]
        self.metrics.incomplete = _incomplete(bound, self._quarantined)
        known = {batch.keys: batch for batch in self.batches}
        selector = self.cluster.prometheus.selector
        parts = [part for whole in batches(asked, selector=selector) for part in self._parts(whole)]
        made = [Batch.of(part, selector) for part in parts]
        self.batches = [known.get(batch.keys, batch) for batch in made]
        self.metrics.batches = self.batches

    def smaller(
        self, batch: Batch, error: SourceError, source: PrometheusSource, time_ms: int
    ) -> list[Batch]:
        """Return what to ask instead of *batch*, which failed with *error*.

        Raises *error* if asking for less would not help, and any other `SourceError`.
        """
        if error.kind in QUERY_REFUSED:
            self._search(batch, source, time_ms)
        elif error.kind in TOO_MUCH:
            if error.kind in NOT_IN_TIME:
                ping(source, time_ms)
            first, second = halves(batch.bound)
            if second:
                self._halved[batch.keys] = self.context.now() + _SPLIT_MS
            else:
                self._quarantine(first, error)
        else:
            raise error
        self.plan(self._bound)
        return [rest for rest in self.batches if batch.keys > rest.keys]

    def _parts(self, whole: tuple[Bound, ...]) -> list[tuple[Bound, ...]]:
        """Return *whole*, or the halves in which it is asked at present."""
        if frozenset(item.key for item in whole) not in self._halved:
            return [whole]
        return [part for half in halves(whole) for part in self._parts(half)]

    def _search(self, batch: Batch, source: PrometheusSource, time_ms: int) -> None:
        """Find the expressions that the server refuses, and leave them out for a while."""
        selector = self.cluster.prometheus.selector

        def ask(part: tuple[Bound, ...]) -> Answer:
            return source.instant(batch_expression(part, selector), time_ms)

        ends = time.monotonic() + _SEARCH_SECONDS
        split = ask_in_halves(source, batch.bound, ask, halves, time_ms=time_ms, ends=ends)
        for part, error in split.refused:
            self._quarantine(part, error)
        if not split.refused:  # too much at once, though nothing is wrong with any part of it
            self._halved[batch.keys] = self.context.now() + _SPLIT_MS

    def _quarantine(self, part: Sequence[Bound], error: SourceError) -> None:
        until_ms = self.context.now() + _QUARANTINE_MS
        for item in part:
            self._quarantined[item.key] = until_ms
            reason = f"{item.candidate.id}: {error.detail}"
            self.context.health.quarantine(self.cluster.name, item.metric.name, reason)


def _ended(until: dict[_Key, int], longest_ms: int, now_ms: int) -> list[_Key]:
    """Return what is over; also what would last too long, since the clock was set back."""
    return [key for key, end_ms in until.items() if not 0 < end_ms - now_ms <= longest_ms]


def _incomplete(bound: Sequence[Bound], quarantined: Collection[tuple[str, str]]) -> frozenset[str]:
    """Return the metrics that are not asked for in full, and what is derived from them."""
    names = {metric for metric, _ in quarantined}
    derived = {
        item.metric.name
        for item in bound
        if item.candidate.derive is not None and item.candidate.derive.metric in names
    }
    return frozenset(names | derived)
