"""Names the series that are copied as they are: ours are the labels `cluster` and `region`.

Names, labels and values of a raw copy stay the source's; what would pass for another cluster's or
for our own is renamed or refused, and counted.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from aggregator.model.arrays import Ints
from aggregator.profile.answer import MAX_LABELS, MAX_VALUE_LENGTH, Labels, parsed_labels

# Labels that tell replicas of one Prometheus apart; a series in two replicas is one series.
REPLICA_LABELS = frozenset(
    {"__replica__", "prometheus", "prometheus_replica", "receive_replica", "replica", "tenant_id"}
)
_Replica: TypeAlias = tuple[str, ...]
_OURS = ("cluster", "region")
_RESERVED_NAMES = {"ALERTS": "source_ALERTS", "ALERTS_FOR_STATE": "source_ALERTS_FOR_STATE"}
_MAX_NAME_LENGTH = 256
_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True, slots=True)
class RawLabels:
    """The label sets of the rows that are stored: `labels[k]` is that of the row `rows[k]`.

    `rejected` counts the rows that are not stored, `renamed` the labels and names that were
    changed, both by reason.
    """

    rows: Ints
    labels: list[dict[str, str]]
    rejected: Mapping[str, int]
    renamed: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Name:
    """How a metric name is stored, or why it is not."""

    refused: str | None
    stored: str


@dataclass(frozen=True, slots=True)
class _Shape:
    """What is done to every label set with the same label names, in the same order.

    The values of `sources` are stored as `targets`, which are sorted. `replicas` are dropped and
    `moved` make way for ours.
    """

    refused: str | None
    sources: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    replicas: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()


def raw_labels(metrics: Sequence[bytes], cluster: str, region: str) -> RawLabels:
    """Return what to store of an answer whose label sets are *metrics*, as raw JSON.

    Of the rows that become one series, that of the first replica by name is kept.
    """
    copying = _Copying(cluster, region)
    for row, labels in enumerate(parsed_labels(metrics)):
        if labels is None:
            copying.rejected["malformed"] += 1
        else:
            copying.add(row, labels)
    return copying.finish()


@dataclass(slots=True)
class _Copying:
    """The rows of an answer while they are gone through."""

    cluster: str
    region: str
    shapes: dict[tuple[str, ...], _Shape] = field(default_factory=dict)
    names: dict[str, _Name] = field(default_factory=dict)
    kept: dict[tuple[str, ...], dict[tuple[str, ...], tuple[_Replica, int]]] = field(
        default_factory=dict
    )
    stored: dict[int, Labels] = field(default_factory=dict)
    rejected: Counter[str] = field(default_factory=Counter)
    renamed: Counter[str] = field(default_factory=Counter)

    def add(self, row: int, labels: Labels) -> None:
        """Take or refuse the label set of one row."""
        signature = tuple(labels)
        shape = self.shapes.get(signature)
        if shape is None:
            shape = self.shapes[signature] = _shape(signature)
        spelling = labels.get("__name__", "")
        name = self.names.get(spelling)
        if name is None:
            name = self.names[spelling] = _name(spelling)
        reason = shape.refused or name.refused
        if reason is None and max(map(len, labels.values())) > MAX_VALUE_LENGTH:
            reason = "label_value_too_long"
        if reason is not None:
            self.rejected[reason] += 1
            return
        targets, values = shape.targets, [labels[source] for source in shape.sources]
        if name.stored != spelling:
            values[targets.index("__name__")] = name.stored
            self.renamed["__name__"] += 1
        for label in shape.moved:
            self.renamed[label] += 1
        if "" in values:
            named = [pair for pair in zip(targets, values, strict=True) if pair[1]]
            targets, values = tuple(pair[0] for pair in named), [pair[1] for pair in named]
        replica = tuple(labels[label] for label in shape.replicas)
        self._keep((replica, row), targets, tuple(values))

    def _keep(
        self, origin: tuple[_Replica, int], targets: tuple[str, ...], values: tuple[str, ...]
    ) -> None:
        same_names = self.kept.setdefault(targets, {})
        earlier = same_names.get(values)
        if earlier is not None:
            self.rejected["shadowed"] += 1
            if earlier < origin:
                return
            del self.stored[earlier[1]]
        same_names[values] = origin
        labels = dict(zip(targets, values, strict=True))
        labels["cluster"], labels["region"] = self.cluster, self.region
        self.stored[origin[1]] = labels

    def finish(self) -> RawLabels:
        """Return what was taken, in the order of the answer."""
        rows = sorted(self.stored)
        labels = [self.stored[row] for row in rows]
        return RawLabels(
            np.array(rows, dtype=np.int64), labels, dict(self.rejected), dict(self.renamed)
        )


def _shape(signature: tuple[str, ...]) -> _Shape:
    if len(signature) > MAX_LABELS:
        return _Shape("too_many_labels")
    for label in signature:
        if len(label) > _MAX_NAME_LENGTH or not _LABEL_NAME.fullmatch(label):
            return _Shape("invalid_label_name")
    taken = set(signature)
    moved = {label: _free(f"exported_{label}", taken) for label in _OURS if label in taken}
    dropped = {
        label
        for label in signature
        if label in REPLICA_LABELS or (label.startswith("__") and label != "__name__")
    }
    pairs = sorted((moved.get(label, label), label) for label in signature if label not in dropped)
    return _Shape(
        None,
        sources=tuple(source for _, source in pairs),
        targets=tuple(target for target, _ in pairs),
        replicas=tuple(sorted(dropped)),
        moved=tuple(moved),
    )


def _free(label: str, taken: set[str]) -> str:
    """Return a name that the series does not have, as Prometheus finds one."""
    while label in taken:
        label = f"exported_{label}"
    return label


def _name(spelling: str) -> _Name:
    if not spelling:
        return _Name("no_name", "")
    if spelling.startswith("fleet:"):
        return _Name("reserved_name", "")
    if len(spelling) > _MAX_NAME_LENGTH or not _METRIC_NAME.fullmatch(spelling):
        return _Name("invalid_name", "")
    return _Name(None, _RESERVED_NAMES.get(spelling, spelling))
