"""Operators as plain loops over steps and series, the way Prometheus describes them."""

import math
from collections.abc import Iterator

from aggregator.model.labels import METRIC_NAME
from aggregator.promql.plan import Cardinality, Matching

Labels = frozenset[tuple[str, str]]
Element = tuple[Labels, float]
Vector = list[Element]


class AmbiguousError(Exception):
    """The operation is an error in Prometheus."""


def without(labels: Labels, names: tuple[str, ...]) -> Labels:
    """Return *labels* without *names*."""
    return frozenset(pair for pair in labels if pair[0] not in names)


def only(labels: Labels, names: tuple[str, ...]) -> Labels:
    """Return those of *labels* called *names*."""
    return frozenset(pair for pair in labels if pair[0] in names)


def groups(vector: Vector, names: tuple[str, ...], *, drop: bool) -> dict[Labels, Vector]:
    """Return the elements of each group, in order of appearance."""
    found: dict[Labels, Vector] = {}
    for labels, value in vector:
        key = without(labels, (*names, METRIC_NAME)) if drop else only(labels, names)
        found.setdefault(key, []).append((labels, value))
    return found


def reduced(op: str, values: list[float]) -> float:  # noqa: PLR0911 - one case an aggregation
    """Aggregate *values* one after the other."""
    numbers = [value for value in values if not math.isnan(value)]
    match op:
        case "sum":
            return exact_sum(values)
        case "avg":
            return exact_sum([value / len(values) for value in values])
        case "min":
            return min(numbers, default=math.nan)
        case "max":
            return max(numbers, default=math.nan)
        case "count":
            return float(len(values))
        case "group":
            return 1.0
        case _:
            mean = reduced("avg", values)
            squares = [(value - mean) ** 2 for value in values]
            variance = reduced("avg", squares)
            return math.sqrt(variance) if op == "stddev" else variance


def exact_sum(values: list[float]) -> float:
    """Add up without rounding, or as floats do where something is not finite."""
    if all(map(math.isfinite, values)):
        return math.fsum(values)
    return sum(values)


def quantile(q: float, values: list[float]) -> float:
    """Interpolate between the two nearest ranks; NaN is the smallest value."""
    if math.isnan(q):
        return math.nan
    if not 0 <= q <= 1:
        return math.copysign(math.inf, q)
    ordered = sorted(values, key=lambda value: (not math.isnan(value), value))
    rank = q * (len(ordered) - 1)
    lower = math.floor(rank)
    upper = min(lower + 1, len(ordered) - 1)
    weight = rank - lower
    return ordered[lower] * (1 - weight) + ordered[upper] * weight


def chosen(op: str, k: int, vector: Vector) -> Vector:
    """Return the first *k* of *vector* in the order of *op*; NaN last, equal ones as they come."""
    if op == "limitk":
        return vector[: max(k, 0)]
    sign = -1 if op == "topk" else 1

    def place(element: Element) -> tuple[bool, float]:
        value = element[1]
        return (True, 0.0) if math.isnan(value) else (False, sign * value)

    return sorted(vector, key=place)[: max(k, 0)]


def signature(labels: Labels, matching: Matching) -> Labels:
    """Return the labels that have to be equal."""
    if matching.on:
        return only(labels, matching.labels)
    return without(labels, (*matching.labels, METRIC_NAME))


def set_operation(op: str, matching: Matching, left: Vector, right: Vector) -> Vector:
    """Return `left op right` at one step."""
    on_left = {signature(labels, matching) for labels, _ in left}
    on_right = {signature(labels, matching) for labels, _ in right}
    if op == "or":
        return left + [e for e in right if signature(e[0], matching) not in on_left]
    return [e for e in left if (signature(e[0], matching) in on_right) == (op == "and")]


def difference(matching: Matching, left: Vector, right: Vector) -> Vector:
    """Return `left - right` at one step, or raise `AmbiguousError`."""
    swapped = matching.cardinality is Cardinality.ONE_TO_MANY
    many, one = (right, left) if swapped else (left, right)
    filled = matching.fill_one is not None or matching.fill_many is not None
    if (not many and not one) or (not filled and not (many and one)):
        return []
    by_signature: dict[Labels, Element] = {}
    for element in one:
        if signature(element[0], matching) in by_signature:
            raise AmbiguousError
        by_signature[signature(element[0], matching)] = element
    seen: dict[Labels, set[Labels]] = {}
    result: Vector = []
    for many_side, one_side, key in partners(matching, many, by_signature):
        labels = result_labels(matching, many_side[0], one_side[0])
        before = seen.setdefault(key, set())
        single = matching.cardinality is Cardinality.ONE_TO_ONE
        if (single and before) or labels in before:
            raise AmbiguousError
        before.add(labels)
        difference = many_side[1] - one_side[1]
        result.append((labels, -difference if swapped else difference))
    if len({labels for labels, _ in result}) < len(result):
        raise AmbiguousError
    return result


def partners(
    matching: Matching, many: Vector, one: dict[Labels, Element]
) -> Iterator[tuple[Element, Element, Labels]]:
    """Yield what is combined with what, and by which signature."""
    matched = set()
    for element in many:
        key = signature(element[0], matching)
        if key in one:
            matched.add(key)
            yield element, one[key], key
        elif matching.fill_one is not None:
            yield element, (signature(element[0], matching), matching.fill_one), key
    if matching.fill_many is not None:
        for key, element in one.items():
            if key not in matched:
                yield (key, matching.fill_many), element, key


def result_labels(matching: Matching, many: Labels, one: Labels) -> Labels:
    """Return the labels of a result."""
    labels = without(many, (METRIC_NAME,))
    if matching.cardinality is Cardinality.ONE_TO_ONE:
        on = matching.on
        labels = only(labels, matching.labels) if on else without(labels, matching.labels)
    return without(labels, matching.include) | only(one, matching.include)
