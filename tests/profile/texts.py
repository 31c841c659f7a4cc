"""Reads the text format with its own library's parser, and combines samples in plain Python."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

Key = tuple[str, ...]
Values = dict[Key, float]
Row = tuple[Mapping[str, str], float]


@dataclass(frozen=True)
class Text:
    """The samples of one component or several, by name."""

    samples: Mapping[str, list[Row]]

    @staticmethod
    def parse(texts: Iterable[str]) -> "Text":
        """Read the text format."""
        samples: dict[str, list[Row]] = defaultdict(list)
        for text in texts:
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    samples[sample.name].append((sample.labels, sample.value))
        return Text(samples)

    def rows(self, name: str, **wanted: str) -> list[Row]:
        """Return the samples of *name* with the labels *wanted*."""
        return [
            (labels, value)
            for labels, value in self.samples.get(name, [])
            if all(labels.get(label, "") == text for label, text in wanted.items())
        ]

    def one(self, name: str, **wanted: str) -> float:
        """Return the only sample."""
        [(_, value)] = self.rows(name, **wanted)
        return value


def grouped(
    rows: Iterable[Row], by: tuple[str, ...], combine: Callable[[list[float]], float]
) -> Values:
    """Return the values of *rows* combined by some labels."""
    groups: dict[Key, list[float]] = defaultdict(list)
    for labels, value in rows:
        groups[tuple(labels.get(label, "") for label in by)].append(value)
    return {key: combine(values) for key, values in groups.items()}


def up_to(values: Values, count: int, combine: Callable[[list[float]], float] = sum) -> Values:
    """Return *values* combined by the first *count* parts of their keys."""
    groups: dict[Key, list[float]] = defaultdict(list)
    for key, value in values.items():
        groups[key[:count]].append(value)
    return {key: combine(found) for key, found in groups.items()}


def real(rows: Iterable[Row]) -> list[Row]:
    """Return the rows that are about a container itself."""
    return [(labels, value) for labels, value in rows if labels.get("container") not in ("", "POD")]


def quantile(rank: float, buckets: Mapping[float, float]) -> float:
    """Return a quantile of cumulative buckets, linear within each."""
    bounds = sorted(buckets)
    wanted = rank * buckets[math.inf]
    low, below = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= wanted:
            if math.isinf(bound):
                return low
            share = (wanted - below) / (buckets[bound] - below)
            return low + (bound - low) * share
        low, below = bound, buckets[bound]
    return math.nan


def histogram(rows: Iterable[Row]) -> dict[float, float]:
    """Add up the buckets of many series."""
    buckets: dict[float, float] = defaultdict(float)
    for labels, value in rows:
        buckets[float(labels["le"])] += value
    return buckets
