"""Decides which candidates serve a cluster's fleet metrics, and asks again for those without."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from aggregator.collect.bisect import ask_in_halves
from aggregator.collect.context import Context
from aggregator.fleet.registry import Cluster
from aggregator.profile.format import Bound, Profile
from aggregator.profile.probe import (
    Probe,
    bind,
    probe_batches,
    probe_expression,
    probes,
    with_data,
)
from aggregator.sources.prometheus import Answer, PrometheusSource
from aggregator.state.bindings import Binding

_LONGEST_WAIT_MS = 600_000


@dataclass(slots=True)
class Binder:
    """The bindings of one cluster; `bound` is what is collected now."""

    cluster: Cluster
    profile: Profile
    context: Context
    bound: list[Bound] = field(default_factory=list)
    _wait_ms: int = 0
    _next_ms: int = 0

    def __post_init__(self) -> None:
        kept = self.context.bindings.of(self.cluster.name)
        self.bound = self.profile.resolve(
            (metric, candidate)
            for metric, binding in kept.items()
            for candidate in binding.candidates
        )
        self._wait_ms = 2 * self.cluster.collect.interval

    def due(self, now_ms: int) -> bool:
        """Tell whether some metric is not bound and it is time to ask again."""
        bound = {item.metric.name for item in self.bound}
        longest_ms = max(_LONGEST_WAIT_MS, 2 * self.cluster.collect.interval)
        waiting = 0 < self._next_ms - now_ms <= longest_ms  # more: the clock was set back
        return not waiting and len(bound) < len(self.profile.metrics)

    def probe(self, source: PrometheusSource, time_ms: int) -> list[Bound]:
        """Bind the metrics that have data at *time_ms* by now; return what is new.

        What is bound stays so. Raises `SourceError`, and asks again at the next cycle.
        """
        bound = {item.metric.name for item in self.bound}
        asked = [probe for probe in probes(self.profile) if probe.metric not in bound]
        found = [Probe(*item.key, "") for item in self.bound]
        failed: dict[str, str] = {}
        for batch in probe_batches(asked):
            answered, refused = self._ask(source, batch, time_ms)
            found += answered
            failed.update(refused)
        before = {item.key for item in self.bound}
        self.bound = bind(self.profile, found)
        self._next_ms = self.context.now() + self._wait_ms
        self._wait_ms = min(2 * self._wait_ms, _LONGEST_WAIT_MS)
        self._save(failed)
        return [item for item in self.bound if item.key not in before]

    def _ask(
        self, source: PrometheusSource, batch: tuple[Probe, ...], time_ms: int
    ) -> tuple[list[Probe], dict[str, str]]:
        """Return what has data, and why metrics could not be asked for."""
        selector = self.cluster.prometheus.selector

        def ask(part: tuple[Probe, ...]) -> Answer:
            return source.instant(probe_expression(part, selector), time_ms)

        split = ask_in_halves(source, batch, ask, _halves, time_ms)
        found = [
            probe
            for part, answer in split.answered
            for probe in with_data(answer.metrics or (), part)
        ]
        return found, {part[0].metric: error.detail for part, error in split.refused}

    def _save(self, failed: dict[str, str]) -> None:
        now_ms = self.context.now()
        by_metric: dict[str, list[Bound]] = {}
        for item in self.bound:
            by_metric.setdefault(item.metric.name, []).append(item)
        saved = []
        for metric in self.profile.metrics:
            items = by_metric.get(metric.name, [])
            reason = "" if items else failed.get(metric.name, "no candidate has data")
            quality = max((item.candidate.quality for item in items), key=_rank, default="")
            ids = tuple(item.candidate.id for item in items)
            saved.append(Binding(metric.name, ids, str(quality), reason, now_ms))
        self.context.bindings.save(self.cluster.name, saved)


def _halves(batch: Sequence[Probe]) -> tuple[tuple[Probe, ...], tuple[Probe, ...]]:
    middle = (len(batch) + 1) // 2
    return tuple(batch[:middle]), tuple(batch[middle:])


def _rank(quality: str) -> int:
    """Order qualities from the best to the worst: what is told is the worst of a union."""
    return ("exact", "close", "rough").index(quality)
