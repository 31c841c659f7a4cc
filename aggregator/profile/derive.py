"""Computes shares of a recorded metric: the error ratio from the requests by code class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aggregator.model.arrays import Bools, Floats, Ints
from aggregator.profile.format import Bound, Derive


@dataclass(frozen=True, slots=True)
class DerivePlan:
    """Which series share what: cached with the layout of an answer, applied every cycle.

    `members[starts[k]:starts[k + 1]]` are the source series of the k-th derived one, and `part`
    says of each member whether it belongs to the part (1.0) or only to the whole (0.0).
    """

    labels: list[dict[str, str]]
    rule: Ints
    members: Ints
    starts: Ints
    part: Floats

    @staticmethod
    def build(
        labels: Sequence[Mapping[str, str]], rule: Sequence[int], bound: Sequence[Bound]
    ) -> "DerivePlan":
        """Plan the derived metrics of *bound* over the stored series *labels*.

        `rule[k]` is the position in *bound* of what serves the k-th series. A label set has the
        metric name, cluster and region; absent labels are left out.
        """
        plan = _Growing([], [], [], [], [])
        for position, item in enumerate(bound):
            if item.candidate.derive is not None:
                sources = [
                    index
                    for index, served in enumerate(rule)
                    if bound[served].metric.name == item.candidate.derive.metric
                ]
                plan.add(item, item.candidate.derive, position, labels, sources)
        return DerivePlan(
            plan.labels,
            np.array(plan.rule, dtype=np.int64),
            np.array(plan.members, dtype=np.int64),
            np.array(plan.starts, dtype=np.int64),
            np.array(plan.part, dtype=np.float64),
        )

    def apply(self, values: Floats, present: Bools) -> tuple[Floats, Bools]:
        """Return the shares and which exist, given the stored series `[series, steps]`.

        A share exists where the whole is more than nothing.
        """
        if not self.labels:
            return values[:0], present[:0]
        members = np.where(present[self.members], values[self.members], 0.0)
        whole = np.add.reduceat(members, self.starts, axis=0)
        part = np.add.reduceat(members * self.part[:, np.newaxis], self.starts, axis=0)
        exists = whole > 0
        return np.divide(part, whole, out=np.zeros_like(whole), where=exists), exists


@dataclass(frozen=True, slots=True)
class _Growing:
    """A plan while it is built."""

    labels: list[dict[str, str]]
    rule: list[int]
    members: list[int]
    starts: list[int]
    part: list[float]

    def add(
        self,
        item: Bound,
        derive: Derive,
        position: int,
        labels: Sequence[Mapping[str, str]],
        sources: Sequence[int],
    ) -> None:
        """Add the series of one derived metric over the series *sources*."""
        kept = ("cluster", "region", *item.metric.labels)
        groups: dict[tuple[str, ...], list[int]] = {}
        for index in sources:
            key = tuple(labels[index].get(name, "") for name in kept)
            groups.setdefault(key, []).append(index)
        for key, members in groups.items():
            named = {name: value for name, value in zip(kept, key, strict=True) if value}
            self.labels.append({"__name__": item.metric.name, **named})
            self.rule.append(position)
            self.starts.append(len(self.members))
            self.members.extend(members)
            self.part.extend(
                float(all(labels[index].get(name) == value for name, value in derive.part.items()))
                for index in members
            )
