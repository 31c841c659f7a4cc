"""Subjects: the parts of a cluster's data that are fresh or not, each on its own.

A subject is a group of fleet metrics (`fleet:nodes`), a raw selector (`raw:up`) or all that is
counted in logs (`log metrics`). Which subjects a query reads follows from its matchers.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import re2

from aggregator.fleet.registry import Cluster
from aggregator.model.labels import METRIC_NAME, Matcher, MatchOp
from aggregator.profile.format import FleetMetric, Source
from aggregator.promql.parse import parse_selector

RESERVED_PREFIX = "fleet:"
PROMETHEUS = "prometheus"
LOKI = "loki"
LOG_METRICS = "log metrics"
# An answer of Loki is written again each minute until so many intervals after its time.
LOGS_LAST = 3


@dataclass(frozen=True, slots=True)
class Subject:
    """One subject of one cluster: how it is called, how often it is collected, from which source.

    A source is a kind of server: `prometheus` or `loki`. An answer stands for `lasts` intervals.
    """

    name: str
    interval_ms: int
    source: str = PROMETHEUS
    lasts: int = 1

    def needed_ms(self, time_ms: int) -> int:
        """Return how far data has to reach so that none is missing at *time_ms*."""
        return (time_ms // self.interval_ms - self.lasts + 1) * self.interval_ms


def group_subject(group: str) -> str:
    """Return the subject of a group of fleet metrics."""
    return f"fleet:{group}"


def raw_subject(selector: str) -> str:
    """Return the subject of a raw selector."""
    return f"raw:{selector}"


def metric_subject(metric: FleetMetric) -> str:
    """Return the subject of a fleet metric."""
    return LOG_METRICS if metric.source is Source.LOKI else group_subject(metric.group)


def subjects(cluster: Cluster, groups: Collection[str], logs_ms: int | None) -> list[Subject]:
    """Return what *cluster* is collected for.

    *groups* are those of its profile, *logs_ms* is how often its logs are counted at least, None if
    the profile has nothing to count.
    """
    every = cluster.collect.interval
    logs = []
    if cluster.loki is not None and logs_ms is not None:
        logs.append(Subject(LOG_METRICS, logs_ms, LOKI, LOGS_LAST))
    return [
        *(Subject(group_subject(group), every) for group in groups),
        *(Subject(raw_subject(raw.match), raw.interval or every) for raw in cluster.collect.raw),
        *logs,
    ]


@lru_cache(maxsize=10_000)
def selector_name(selector: str) -> str | None:
    """Return the one metric name that a raw selector copies, or None if there may be others.

    Raises `QuerySyntaxError` if *selector* is none.
    """
    named = (m for m in parse_selector(selector) if m.name == METRIC_NAME)
    return next((m.value for m in named if m.op is MatchOp.EQUAL), None)


def matches(matcher: Matcher, value: str) -> bool:
    """Tell whether a label *value* passes *matcher*; an absent label is the empty string."""
    match matcher.op:
        case MatchOp.EQUAL:
            return value == matcher.value
        case MatchOp.NOT_EQUAL:
            return value != matcher.value
        case MatchOp.REGEX:
            return full_match(matcher.value, value)
        case MatchOp.NOT_REGEX:
            return not full_match(matcher.value, value)


def reads_cluster(matchers: Sequence[Matcher], cluster: Cluster) -> bool:
    """Tell whether a selector can match series of *cluster*."""
    stamped = {"cluster": cluster.name, "region": cluster.region}
    return all(
        matches(matcher, stamped[matcher.name]) for matcher in matchers if matcher.name in stamped
    )


def reads_subject(
    matchers: Sequence[Matcher], subject: str, names: Mapping[str, Collection[str]]
) -> bool:
    """Tell whether a selector can match series of *subject*.

    *names* holds the metric names known for each subject. A raw subject whose names are not known
    yet counts as read, unless the selector asks for fleet metrics alone.
    """
    wanted = [matcher for matcher in matchers if matcher.name == METRIC_NAME]
    known = names.get(subject)
    if known is None:
        return not any(
            matcher.op is MatchOp.EQUAL and matcher.value.startswith(RESERVED_PREFIX)
            for matcher in wanted
        )
    exact = next((matcher.value for matcher in wanted if matcher.op is MatchOp.EQUAL), None)
    if exact is not None:
        known = [exact] if exact in known else []
    return any(all(matches(matcher, name) for matcher in wanted) for name in known)


@lru_cache(maxsize=10_000)
def full_match(pattern: str, value: str) -> bool:
    """Tell whether *value* matches *pattern* as a whole: on RE2, so in bounded time."""
    return re2.fullmatch(pattern, value) is not None
