"""Finds out which candidates a cluster can serve: what to ask, and what the answers bind."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from aggregator.profile.answer import parsed_labels
from aggregator.profile.batch import (
    DEFAULT_WINDOW,
    MAX_EXPRESSIONS,
    MAX_QUERY_BYTES,
    RULE_LABEL,
    length,
    substitute,
    tagged_union,
)
from aggregator.profile.format import (
    Bound,
    Candidate,
    FleetMetric,
    Merge,
    Profile,
    Source,
)

# A selector that quotes its metric's name: servers before Prometheus 3 cannot read it.
_QUOTED_NAME = re.compile(r"\{\s*[\"']")


@dataclass(frozen=True, slots=True)
class Probe:
    """One question: does *expr* have data? `candidate` is empty for the metric's presence."""

    metric: str
    candidate: str
    expr: str


def probes(profile: Profile) -> list[Probe]:
    """Return every question to Prometheus: candidates, and the presence of metrics."""
    asked: list[Probe] = []
    for metric in profile.served_by(Source.PROMETHEUS).metrics:
        asked += [
            Probe(metric.name, candidate.id, _question(Bound(metric, candidate)))
            for candidate in metric.candidates
            if candidate.expr is not None
        ]
        if metric.presence is not None:
            asked.append(Probe(metric.name, "", metric.presence))
    return asked


def _question(item: Bound) -> str:
    """Return what has data if the candidate can serve its metric.

    Where empty means zero it can as soon as its exporter is there: its series may not exist before
    something happens.
    """
    expr = item.candidate.expr or ""
    return expr if item.presence is None else f"(({expr}) or on () {item.presence})"


def probe_batches(
    asked: Sequence[Probe], size: int = MAX_EXPRESSIONS, selector: str = ""
) -> list[tuple[Probe, ...]]:
    """Split the questions into batches of at most *size* that fit a query.

    What only newer servers can read comes last, so that it makes no other question fail. A failing
    batch is halved by slicing.
    """
    common = [probe for probe in asked if not _QUOTED_NAME.search(probe.expr)]
    newer = [probe for probe in asked if _QUOTED_NAME.search(probe.expr)]
    return [batch for part in (common, newer) for batch in _packed(part, size, selector)]


def _packed(asked: Sequence[Probe], size: int, selector: str) -> list[tuple[Probe, ...]]:
    filled: list[list[Probe]] = []
    used = 0
    for probe in asked:
        needed = length(f"count({probe.expr})", selector)
        if not filled or len(filled[-1]) == size or used + needed > MAX_QUERY_BYTES:
            filled.append([])
            used = 0
        filled[-1].append(probe)
        used += needed
    return [tuple(batch) for batch in filled]


def probe_expression(batch: Sequence[Probe], selector: str, window: str = DEFAULT_WINDOW) -> str:
    """Return the expression that asks a whole batch; its answer has a row for each with data."""
    counted = [(str(position), f"count({probe.expr})") for position, probe in enumerate(batch)]
    return substitute(tagged_union(counted), selector, window)


def with_data(metrics: Sequence[bytes], batch: Sequence[Probe]) -> list[Probe]:
    """Return those of *batch* that have data, given the label sets of the answer as raw JSON."""
    by_tag = {str(position): probe for position, probe in enumerate(batch)}
    tags = (labels.get(RULE_LABEL) for labels in parsed_labels(metrics) if labels is not None)
    return [by_tag[tag] for tag in dict.fromkeys(tags) if tag in by_tag]


def bind(profile: Profile, found: Collection[Probe]) -> list[Bound]:
    """Return what to collect from a cluster that has data for *found*.

    Of each metric the first candidate with data (of each value of `each`), or with `merge: union`
    each of these. What is derived follows its source.
    """
    keys = {(probe.metric, probe.candidate) for probe in found}
    chosen: list[Bound] = []
    for metric in profile.metrics:
        chosen += _choose(metric, keys)
    bound_names = {item.metric.name for item in chosen}
    for metric in profile.metrics:
        chosen += [
            Bound(metric, candidate)
            for candidate in metric.candidates
            if candidate.derive is not None
            and candidate.derive.metric in bound_names
            and metric.name not in bound_names
        ][:1]
    return profile.resolve(item.key for item in chosen)


def _choose(metric: FleetMetric, keys: Collection[tuple[str, str]]) -> list[Bound]:
    able = [candidate for candidate in metric.candidates if (metric.name, candidate.id) in keys]
    if able and able[0].merge is Merge.UNION:
        return [Bound(metric, candidate) for candidate in able if candidate.merge is Merge.UNION]
    first: dict[tuple[str, ...], Candidate] = {}
    for candidate in able:
        first.setdefault(tuple(candidate.const[label] for label in metric.each), candidate)
    return [Bound(metric, candidate) for candidate in first.values()]
