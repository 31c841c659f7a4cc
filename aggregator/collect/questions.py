"""Asks a cluster which candidates of its fleet metrics have data, now or within the last hour."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from aggregator.collect.bisect import ask_in_halves
from aggregator.errors import SourceError
from aggregator.model.labels import METRIC_NAME, MatchOp
from aggregator.profile.batch import substitute
from aggregator.profile.probe import Probe, probe_batches, probe_expression, with_data
from aggregator.promql.parse import parse
from aggregator.promql.plan import Node, VectorSelector, children
from aggregator.sources.prometheus import Answer, PrometheusSource

PROBE_SECONDS = 3.0  # of one request
_SHORTEST_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Findings:
    """What the answers to some questions say.

    `found` have data now. `recent` names, for metrics without, a candidate that had some within
    the last hour. `failed` has by metric and candidate why there is no answer, and `left` are the
    metrics there was no time for.
    """

    found: list[Probe]
    recent: Mapping[str, str]
    failed: Mapping[tuple[str, str], SourceError]
    left: frozenset[str]


@dataclass(frozen=True, slots=True)
class Questioner:
    """Asks one cluster, no longer than until `ends` (monotonic).

    What its server could not take is not asked: it has no data there.
    """

    source: PrometheusSource
    selector: str
    time_ms: int
    ends: float

    def ask(self, asked: Sequence[Probe]) -> Findings:
        """Ask whether *asked* have data. Raises `SourceError` if the cluster fails altogether."""
        if self.source.dialect.exact_names:
            asked = [probe for probe in asked if names_metrics(probe.expr)]
        now = self._answers(asked)
        served = {probe.metric for probe in now.found if probe.candidate}
        open_ = served | now.left
        earlier = self._answers(
            [
                replace(probe, expr=hour_before(probe.expr, self.selector))
                for probe in asked
                if probe.candidate
                and probe.metric not in open_
                and (probe.metric, probe.candidate) not in now.failed
            ]
        )
        recent: dict[str, str] = {}
        for probe in earlier.found:
            recent.setdefault(probe.metric, probe.candidate)
        return Findings(now.found, recent, now.failed, now.left | earlier.left)

    def _answers(self, asked: Sequence[Probe]) -> Findings:
        found: list[Probe] = []
        failed: dict[tuple[str, str], SourceError] = {}
        left: set[str] = set()
        for batch in probe_batches(asked, selector=self.selector):
            split = ask_in_halves(
                self.source, batch, self._one, _halves, time_ms=self.time_ms, ends=self.ends
            )
            for part, answer in split.answered:
                found += with_data(answer.metrics or (), part)
            for part, error in split.refused:
                failed[part[0].metric, part[0].candidate] = error
            left.update(probe.metric for part in split.left for probe in part)
        return Findings(found, {}, failed, frozenset(left))

    def _one(self, part: tuple[Probe, ...]) -> Answer:
        seconds = max(_SHORTEST_SECONDS, min(PROBE_SECONDS, self.ends - time.monotonic()))
        expr = probe_expression(part, self.selector)
        return self.source.instant(expr, self.time_ms, timeout_seconds=seconds)


@lru_cache(maxsize=10_000)
def hour_before(expr: str, selector: str) -> str:
    """Return an expression that has data if the first selector of *expr* had, within an hour."""
    first = _first(parse(substitute(expr, selector)))
    return expr if first is None else f"last_over_time({replace(first, offset_ms=0, at=None)}[1h])"


@lru_cache(maxsize=10_000)
def names_metrics(expr: str) -> bool:
    """Tell whether every selector of *expr* names its metric, without a pattern."""
    pending, named = [parse(substitute(expr, ""))], True
    while pending:
        node = pending.pop()
        if isinstance(node, VectorSelector):
            equal = (m for m in node.matchers if m.name == METRIC_NAME and m.op is MatchOp.EQUAL)
            named = named and next(equal, None) is not None
        pending += children(node)
    return named


def _first(node: Node) -> VectorSelector | None:
    if isinstance(node, VectorSelector):
        return node
    below = (_first(child) for child in children(node))
    return next((found for found in below if found is not None), None)


def _halves(batch: Sequence[Probe]) -> tuple[tuple[Probe, ...], tuple[Probe, ...]]:
    middle = (len(batch) + 1) // 2
    return tuple(batch[:middle]), tuple(batch[middle:])
