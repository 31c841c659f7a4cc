"""Subjects: the parts of a cluster's data that are fresh or not, each on its own.

A subject is a group of fleet metrics (`fleet:nodes`) or a raw selector (`raw:up`). Which subjects
a query reads follows from its matchers.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import re2

from aggregator.fleet.registry import Cluster
from aggregator.model.labels import METRIC_NAME, Matcher, MatchOp
from aggregator.promql.parse import parse_selector

RESERVED_PREFIX = "fleet:"
PROMETHEUS = "prometheus"


@dataclass(frozen=True, slots=True)
class Subject:
    """One subject of one cluster: how it is called, how often it is collected, from which source.

    A source is a kind of server: `prometheus`.
    """

    name: str
    interval_ms: int
    source: str = PROMETHEUS


def group_subject(group: str) -> str:
    """Return the subject of a group of fleet metrics."""
    return f"fleet:{group}"


def raw_subject(selector: str) -> str:
    """Return the subject of a raw selector."""
    return f"raw:{selector}"


def subjects(cluster: Cluster, groups: Collection[str]) -> list[Subject]:
    """Return what *cluster* is collected for; *groups* are those of its profile."""
    every = cluster.collect.interval
    return [
        *(Subject(group_subject(group), every) for group in groups),
        *(Subject(raw_subject(raw.match), raw.interval or every) for raw in cluster.collect.raw),
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
    return any(all(matches(matcher, name) for matcher in wanted) for name in known)


@lru_cache(maxsize=10_000)
def full_match(pattern: str, value: str) -> bool:
    """Tell whether *value* matches *pattern* as a whole: on RE2, so in bounded time."""
    return re2.fullmatch(pattern, value) is not None
