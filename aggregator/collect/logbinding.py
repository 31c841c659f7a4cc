"""Decides which candidates count a cluster's logs: by the labels of its streams.

A candidate can as soon as its streams have the labels that it selects by, and what it names as
`presence` has data. The lines that it looks for need not be there: none is an answer too.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import xxhash

from aggregator.collect.bisect import QUERY_REFUSED, TOO_MUCH
from aggregator.collect.context import Context
from aggregator.collect.served import binding_record
from aggregator.errors import SourceError
from aggregator.fleet.health import Served
from aggregator.fleet.registry import Cluster
from aggregator.profile.batch import substitute
from aggregator.profile.format import Bound, FleetMetric, Profile
from aggregator.profile.logstreams import stream_labels
from aggregator.profile.probe import Probe, bind
from aggregator.settings import format_duration_ms
from aggregator.sources.loki import LokiSource
from aggregator.state.bindings import Binding, Standing

EMPTY_TURNS = 3
LABELS_MS = 3_600_000  # streams that were silent for longer are not there
_FIRST_MS = 60_000
_SELDOM_MS = 3_600_000
_DAY_MS = 86_400_000


def expression(item: Bound, text: str, matchers: str) -> str:
    """Return *text*, an expression of *item*, with its window and a cluster's *matchers*."""
    window = format_duration_ms(item.metric.window or 0)
    return substitute(text, matchers, window)


@dataclass(frozen=True, slots=True)
class _Asking:
    """One look at a Loki whose streams have *labels*: what it answered, and what failed."""

    source: LokiSource
    time_ms: int
    matchers: str
    labels: frozenset[str]
    answers: dict[str, bool] = field(default_factory=dict)
    failed: dict[str, SourceError] = field(default_factory=dict)

    def able(self, item: Bound, *, otherwise: bool) -> bool:
        """Tell whether a candidate can serve its metric, *otherwise* if that cannot be found out.

        Raises `SourceError` if Loki fails altogether.
        """
        if not _selects(item) <= self.labels:
            return False
        if item.candidate.presence is None:
            return True
        expr = expression(item, item.candidate.presence, self.matchers)
        if expr not in self.answers:
            try:
                self.answers[expr] = self.source.instant(expr, self.time_ms).series > 0
            except SourceError as error:
                if error.kind not in QUERY_REFUSED | TOO_MUCH:
                    raise
                self.failed[item.metric.name] = error
                return otherwise
        return self.answers[expr]


@dataclass(slots=True)
class LogBinder:
    """The bindings of one cluster's log metrics; `bound` is what is collected now.

    `_empty` counts the answers in a row in which a bound candidate found nothing.
    """

    cluster: Cluster
    matchers: str
    profile: Profile
    context: Context
    bound: list[Bound] = field(default_factory=list)
    _kept: dict[str, Binding] = field(default_factory=dict)
    _empty: dict[tuple[str, str], int] = field(default_factory=dict)
    _asked_ms: int = 0
    _wait_ms: int = 0

    def __post_init__(self) -> None:
        names = self.profile.by_name
        every = self.context.bindings.of(self.cluster.name).items()
        self._kept = {name: binding for name, binding in every if name in names}
        self.bound = self.profile.resolve(
            (name, candidate)
            for name, binding in self._kept.items()
            for candidate in binding.candidates
        )
        if self._complete():
            self._asked_ms = min(binding.probed_ms for binding in self._kept.values())
            self._wait_ms = self._daily_ms()

    def due(self, now_ms: int) -> bool:
        """Tell whether it is time to ask; also after the clock was set back."""
        return not 0 <= now_ms - self._asked_ms < self._wait_ms

    def ask(self, source: LokiSource, time_ms: int) -> None:
        """Ask which candidates can count. Raises `SourceError`, and asks again at the next turn."""
        labels = source.labels(time_ms - LABELS_MS, time_ms)
        asking = _Asking(source, time_ms, self.matchers, labels)
        held = {item.key for item in self.bound}
        found = [
            Probe(*item.key, "")
            for item in self.profile.bounds.values()
            if asking.able(item, otherwise=item.key in held)
        ]
        before, self.bound = self.bound, bind(self.profile, found)
        now_ms = self.context.now()
        saved = [
            self._binding(metric, before, labels, asking.failed.get(metric.name), now_ms)
            for metric in self.profile.metrics
        ]
        self.context.bindings.save(self.cluster.name, saved)
        self._kept = {binding.metric: binding for binding in saved}
        self._asked_ms = now_ms
        seldom = min(max(2 * self._wait_ms, _FIRST_MS), _SELDOM_MS)
        lost = any(count >= EMPTY_TURNS for count in self._empty.values())
        self._wait_ms = self._daily_ms() if self._complete() and not lost else seldom

    def observe(
        self, rows: Sequence[tuple[Bound, int]], times: Mapping[str, int], *, streams: bool
    ) -> None:
        """Note how many *rows* each candidate's answer had, and whether there are any *streams*.

        *times* (ms) are those of the answers, by metric.
        What found nothing three times running is asked about at once.
        """
        served: dict[str, int] = {}
        for item, count in rows:
            served[item.metric.name] = served.get(item.metric.name, 0) + count
            empty = 0 if count else self._empty.get(item.key, 0) + 1
            self._empty[item.key] = empty
            if empty == EMPTY_TURNS and (item.candidate.presence is not None or not streams):
                self._wait_ms = 0
        board, name = self.context.health, self.cluster.name
        known = board.get(name).served
        updates: dict[str, Served] = {}
        for metric, count in served.items():
            if count or streams:
                updates[metric] = Served(times[metric])
            else:
                last = known.get(metric, Served())
                updates[metric] = Served(last.data_until_ms, last.empty_cycles + 1)
        board.serve(name, updates)

    def has_streams(self, labels: frozenset[str]) -> bool:
        """Tell whether streams with *labels* are such as the bound candidates read."""
        return any(_selects(item) <= labels for item in self.bound)

    def _binding(
        self,
        metric: FleetMetric,
        before: Iterable[Bound],
        labels: frozenset[str],
        failed: SourceError | None,
        now_ms: int,
    ) -> Binding:
        items = [item for item in self.bound if item.metric is metric]
        old = tuple(item.candidate.id for item in before if item.metric is metric)
        if old != tuple(item.candidate.id for item in items):
            for candidate in old:
                self._empty.pop((metric.name, candidate), None)
        unserved = (Standing.NEVER, _why_none(metric, labels))
        if failed is not None:
            unserved = (Standing.FAILED, failed.detail)
        return binding_record(
            self.cluster.name,
            metric,
            items,
            self._kept.get(metric.name),
            old=old,
            now_ms=now_ms,
            unserved=unserved,
        )

    def _complete(self) -> bool:
        """Tell whether every metric is served."""
        return {item.metric.name for item in self.bound} == self.profile.by_name.keys()

    def _daily_ms(self) -> int:
        """Return when to ask again about what is served: about daily, each at its own time."""
        own = xxhash.xxh3_64_intdigest(self.cluster.name.encode())
        return _DAY_MS * 3 // 4 + own % (_DAY_MS // 2)


def _selects(item: Bound) -> frozenset[str]:
    return stream_labels(item.candidate.expr or "")


def _why_none(metric: FleetMetric, labels: frozenset[str]) -> str:
    """Return why no candidate can serve *metric*."""
    if not labels:
        return "Loki has no streams of the last hour; is loki.tenant right?"
    wanted = {name for one in metric.candidates for name in stream_labels(one.expr or "")}
    if wanted.isdisjoint(labels):
        return f"no stream has a label that a candidate selects by: {', '.join(sorted(wanted))}"
    return "no candidate has such lines"
