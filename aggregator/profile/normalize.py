"""Turns what a cluster answered into fleet series: names, labels, units, one row each.

The label work is done once for a list of label sets (a digest miss); while the list stays the
same, a cycle is `Normalized.apply` over its values.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from aggregator.model.arrays import Bools, Floats, Ints
from aggregator.model.stepmatrix import StepRange
from aggregator.profile.answer import MAX_VALUE_LENGTH, Labels, parsed_labels
from aggregator.profile.batch import LOOKED_UP, RULE_LABEL
from aggregator.profile.derive import DerivePlan
from aggregator.profile.format import Bound
from aggregator.profile.nodes import node_names
from aggregator.profile.transforms import AGENTS, HOSTS, NAMESPACES, NODES, TRANSFORMS, Names


@dataclass(frozen=True, slots=True)
class Normalized:
    """The stored series of one answer, and how its rows become them.

    `labels` and `rule` (position in the bound list) have one entry for each stored series; those
    of `derived` come last. Several rows may have one fleet label set: `rows` are the rows of the
    answer that are used, those of the k-th recorded series from `starts[k]`; they are added, or
    the larger one is taken where `peak[k]`. `scale` has one factor a row. `rejected` counts the
    rows that were not used, by reason.
    """

    labels: list[dict[str, str]]
    rule: Ints
    rows: Ints
    scale: Floats
    starts: Ints
    peak: Bools
    derived: DerivePlan
    rejected: Mapping[str, int]

    def apply(self, values: Floats, present: Bools | None = None) -> tuple[Floats, Bools]:
        """Return the values of the stored series and which exist, both `[series, steps]`.

        *values* are the answer's, in its order: `[rows]` for an instant query, or `[rows, steps]`
        with *present* for a range query on a grid.
        """
        columns = values[:, np.newaxis] if values.ndim == 1 else values
        with np.errstate(invalid="ignore", over="ignore"):  # infinities are legal values
            grid = columns[self.rows] * self.scale[:, np.newaxis]
            there = np.ones(grid.shape, np.bool_) if present is None else present[self.rows]
            if self.rows.size != self.starts.size:
                grid, there = self._combined(grid, there)
            shares, existing = self.derived.apply(grid, there)
        return np.concatenate([grid, shares]), np.concatenate([there, existing])

    def _combined(self, grid: Floats, there: Bools) -> tuple[Floats, Bools]:
        total = np.add.reduceat(np.where(there, grid, 0.0), self.starts, axis=0)
        # fmax: a row that says NaN does not hide one that says a number
        largest = np.fmax.reduceat(np.where(there, grid, np.nan), self.starts, axis=0)
        combined = np.where(self.peak[:, np.newaxis], largest, total)
        return combined, np.logical_or.reduceat(there, self.starts, axis=0)


def on_grid(offsets: Ints, times: Ints, values: Floats, steps: StepRange) -> tuple[Floats, Bools]:
    """Return a range answer as values and presence, both `[rows, steps]`.

    The samples of the k-th row are `times[offsets[k]:offsets[k + 1]]` (ms) and the same slice of
    *values*; those that are not on a step are left out.
    """
    rows = np.repeat(np.arange(offsets.size - 1), np.diff(offsets))
    columns, beside = np.divmod(times - steps.start_ms, steps.step_ms)
    fits = (beside == 0) & (columns >= 0) & (columns < steps.count)
    grid = np.zeros((offsets.size - 1, steps.count))
    present = np.zeros(grid.shape, np.bool_)
    grid[rows[fits], columns[fits]] = values[fits]
    present[rows[fits], columns[fits]] = True
    return grid, present


def normalize(
    metrics: Sequence[bytes], bound: Sequence[Bound], cluster: str, region: str
) -> Normalized:
    """Return the fleet series of an answer to `batch_expression(bound, …)`.

    *metrics* are the label sets of the answer's rows as raw JSON. Labels that the metric does not
    declare are dropped, empty ones left out, *cluster* and *region* stamped. Rows of one candidate
    that get the same label set are combined; of two candidates the earlier one wins.
    """
    parsed = parsed_labels(metrics)
    building = _Building(cluster, region, _names(parsed))
    for position, (rows, sets) in enumerate(_by_rule(parsed, bound, building.rejected)):
        if rows:
            building.add(position, bound[position], rows, sets)
    return building.finish(bound)


def _names(parsed: Sequence[Labels | None]) -> Names:
    """Return what the rows that are not stored say about the cluster."""
    asked: dict[str, list[Labels]] = {tag: [] for tag in LOOKED_UP}
    for row in parsed:
        if row is not None and row.get(RULE_LABEL) in asked:
            asked[row[RULE_LABEL]].append(row)
    return Names(
        {row.get("namespace", "") for row in asked[NAMESPACES]} - {""},
        node_names(asked[NODES], asked[HOSTS], asked[AGENTS]),
    )


def _by_rule(
    parsed: Sequence[Labels | None], bound: Sequence[Bound], rejected: Counter[str]
) -> list[tuple[list[int], list[Labels]]]:
    """Sort row numbers and label sets by the rule that they answer.

    What was not asked for is refused, also a row that claims to be a derived metric.
    """
    sorted_rows: list[tuple[list[int], list[Labels]]] = [([], []) for _ in bound]
    by_tag = {
        str(position): sorted_rows[position]
        for position, item in enumerate(bound)
        if item.candidate.expr is not None
    }
    for number, row in enumerate(parsed):
        if row is None:
            rejected["malformed"] += 1
            continue
        tag = row.get(RULE_LABEL, "")
        found = by_tag.get(tag)
        if found is not None:
            found[0].append(number)
            found[1].append(row)
        elif tag not in LOOKED_UP:
            rejected["unexpected"] += 1
    return sorted_rows


@dataclass(slots=True)
class _Building:
    """The series of an answer while its rules are gone through, in order of precedence.

    `slots[k]` is the number of the series that the row `rows[k]` goes into.
    """

    cluster: str
    region: str
    names: Names
    rejected: Counter[str] = field(default_factory=Counter)
    numbers: dict[str, dict[tuple[str, ...], int]] = field(default_factory=dict)
    labels: list[dict[str, str]] = field(default_factory=list)
    rules: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)

    def add(self, position: int, item: Bound, rows: Sequence[int], sets: Sequence[Labels]) -> None:
        """Add the rows that answer one candidate."""
        names = item.metric.labels
        columns = [self._column(item, name, sets) for name in names]
        long = _too_long(columns)
        self.rejected["label_value_too_long"] += len(long)
        stamped = {"__name__": item.metric.name, "cluster": self.cluster, "region": self.region}
        numbers = self.numbers.setdefault(item.metric.name, {})
        keys = zip(*columns, strict=True) if columns else ((),) * len(rows)
        for index, (row, values) in enumerate(zip(rows, keys, strict=True)):
            if index in long:
                continue
            number = numbers.get(values)
            if number is None:
                number = numbers[values] = len(self.labels)
                named = {k: v for k, v in zip(names, values, strict=True) if v}
                self.labels.append(stamped | named)
                self.rules.append(position)
            elif self.rules[number] != position:  # a union's earlier candidate has it already
                continue
            self.rows.append(row)
            self.slots.append(number)

    def _column(self, item: Bound, name: str, sets: Sequence[Labels]) -> list[str]:
        """Return one fleet label of each row."""
        constant = item.candidate.const.get(name)
        if constant is not None:
            return [constant] * len(sets)
        source = item.candidate.map.get(name)
        if source is None:
            return [row.get(name, "") for row in sets]
        if len(source.names) == 1:
            [only] = source.names
            column = [row.get(only, "") for row in sets]
        else:
            column = ["/".join([row.get(part, "") for part in source.names]) for row in sets]
        if source.transform is None:
            return column
        transform = TRANSFORMS[source.transform]
        changed = {  # what is too long stays so, and is refused
            text: text if len(text) > MAX_VALUE_LENGTH else transform(text, self.names)
            for text in set(column)
            if text
        }
        return [changed.get(text, "") for text in column]

    def finish(self, bound: Sequence[Bound]) -> Normalized:
        """Return the layout of what was added."""
        rules = np.array(self.rules, dtype=np.int64)
        slots = np.array(self.slots, dtype=np.int64)
        order = np.argsort(slots, kind="stable")
        counts = np.bincount(slots, minlength=rules.size)
        scale = np.array([item.candidate.scale for item in bound], dtype=np.float64)
        peak = np.array([not item.metric.unit.additive for item in bound], dtype=np.bool_)
        derived = DerivePlan.build(self.labels, self.rules, bound)
        return Normalized(
            labels=self.labels + derived.labels,
            rule=np.concatenate([rules, derived.rule]),
            rows=np.array(self.rows, dtype=np.int64)[order],
            scale=np.repeat(scale[rules], counts),
            starts=np.cumsum(counts) - counts,
            peak=peak[rules],
            derived=derived,
            rejected={reason: count for reason, count in self.rejected.items() if count},
        )


def _too_long(columns: Sequence[Sequence[str]]) -> set[int]:
    """Return which rows have a label value that is refused for its length."""
    return {
        index
        for column in columns
        if max(map(len, column), default=0) > MAX_VALUE_LENGTH
        for index, value in enumerate(column)
        if len(value) > MAX_VALUE_LENGTH
    }
