"""Reduces a query that two engines answer differently, and its samples, to a short script."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from aggregator.errors import QueryError
from aggregator.promql.functions import ValueType
from aggregator.promql.numbers import format_duration
from aggregator.promql.parse import parse
from aggregator.promql.plan import (
    MatrixSelector,
    Node,
    Subquery,
    VectorSelector,
    children,
    unwrap,
    value_type,
    with_children,
)
from tests.promql.peer import Answers, Dataset, Result
from tests.promql.queries import Query

# asks both engines; a dataset that they do not hold yet is loaded first
Ask = Callable[[Query, Dataset], Answers]
_SECONDS = 300.0


def shrunk(query: Query, data: Dataset, ask: Ask) -> str:
    """Return a script with the right answer to a part of *query* on a part of *data*."""
    deadline = time.monotonic() + _SECONDS

    def fails(candidate: Query, samples: Dataset) -> bool:
        return time.monotonic() < deadline and bool(ask(candidate, samples).differences())

    query = _at_one_step(query, data, ask)
    query = _smallest(query, lambda candidate: fails(candidate, data))
    data = _fewest(data, lambda samples: fails(query, samples))
    query = _smallest(query, lambda candidate: fails(candidate, data))
    return script(query, data, ask(query, data))


def script(query: Query, data: Dataset, answers: Answers) -> str:
    """Return *data*, *query* and the right answer in the notation of promqltest."""
    step = math.gcd(*(int(each) for _, times, _ in data.series for each in times)) or 1
    lines = [f"# {line}" for line in answers.differences().splitlines()]
    lines += [f"load {format_duration(step)}"]
    lines += [
        f"  {_series_text(labels)} {_sequence(times // step, values)}"
        for labels, times, values in data.series
    ]
    return "\n".join([*lines, "", _eval(query), *_expected(query, answers.theirs), ""])


def _at_one_step(query: Query, data: Dataset, ask: Ask) -> Query:
    """Return an instant query at a step that differs, *query* itself if none does."""
    for number in range(query.count):
        start = query.start_ms + number * query.step_ms
        candidate = replace(query, start_ms=start, count=1)
        if ask(candidate, data).differences():
            return candidate
    return query


def _smallest(query: Query, fails: Callable[[Query], bool]) -> Query:
    """Return *query* with every part left out that its failure does not need."""
    texts = {query.text}
    while True:
        for text in _parts(parse(query.text)):
            candidate = replace(query, text=text)
            if text in texts or len(text) >= len(query.text):
                continue
            texts.add(text)
            if fails(candidate):
                query = candidate
                break
        else:
            return query


def _parts(root: Node) -> Iterator[str]:
    """Yield the texts of expressions with one part less than *root*, the shortest first."""
    texts = {str(smaller) for smaller in _smaller(root)}
    for text in sorted(texts, key=len):
        try:
            found = value_type(parse(text))
        except QueryError:
            continue
        if found is not ValueType.STRING:
            yield text


def _smaller(node: Node) -> Iterator[Node]:
    """Yield *node* with a part replaced by something below it, or without a modifier."""
    below = children(node)
    if isinstance(node, VectorSelector | Subquery):
        yield replace(node, offset_ms=0, offset_text="")
        yield replace(node, at=None)
    if isinstance(node, VectorSelector):
        for place, matcher in enumerate(node.matchers):
            if matcher.name != "__name__":
                yield replace(node, matchers=node.matchers[:place] + node.matchers[place + 1 :])
    if isinstance(node, MatrixSelector):
        yield from (replace(node, selector=each) for each in _smaller(node.selector))
        return
    yield from _descendants(node, value_type(unwrap(node)))
    for place, child in enumerate(below):
        for smaller in _smaller(child):
            yield with_children(node, [*below[:place], smaller, *below[place + 1 :]])


def _descendants(node: Node, wanted: ValueType) -> Iterator[Node]:
    for child in children(node):
        if value_type(child) is wanted and not isinstance(node, MatrixSelector):
            yield child
        yield from _descendants(child, wanted)


def _fewest(data: Dataset, fails: Callable[[Dataset], bool]) -> Dataset:
    """Return the part of *data* that the failure needs, with plainer times and values."""
    series = _needed(data.series, lambda some: fails(Dataset(list(some))))
    points = [
        (row, place) for row, (_, times, _) in enumerate(series) for place in range(len(times))
    ]
    points = _needed(points, lambda some: fails(_chosen(series, some)))
    data = _chosen(series, points)
    for plainer in _plainer(data):
        if fails(plainer):
            data = plainer
    return data


def _chosen(series: Sequence[tuple], points: Sequence[tuple[int, int]]) -> Dataset:
    data = Dataset()
    for row, (labels, times, values) in enumerate(series):
        places = [place for each, place in points if each == row]
        if places:
            data.add(labels, times[places], values[places])
    return data


def _plainer(data: Dataset) -> Iterator[Dataset]:
    """Yield *data* with rounder values, and at rounder times."""
    for digits in (2, 0):
        yield Dataset([(labels, times, np.round(v, digits)) for labels, times, v in data.series])
    for step in (1_000, 5_000, 15_000):
        rounded = [((times + step // 2) // step * step) for _, times, _ in data.series]
        if all((np.diff(times) > 0).all() for times in rounded):
            both = zip(data.series, rounded, strict=True)
            yield Dataset([(labels, times, values) for (labels, _, values), times in both])


def _needed(items: Sequence, fails: Callable[[Sequence], bool]) -> list:
    """Return a subset of *items* that still fails, from which nothing can be left out (ddmin)."""
    kept, size = list(items), max(1, len(items) // 2)
    while True:
        start, before = 0, len(kept)
        while start < len(kept):
            rest = kept[:start] + kept[start + size :]
            if rest and fails(rest):
                kept = rest
            else:
                start += size
        if size == 1 and len(kept) == before:
            return kept
        size = max(1, min(size // 2, len(kept) // 2))


def _series_text(labels: dict[str, str]) -> str:
    rest = ",".join(f'{name}="{value}"' for name, value in labels.items() if name != "__name__")
    return f"{labels.get('__name__', '')}{{{rest}}}"


def _sequence(places: np.ndarray, values: np.ndarray) -> str:
    """Return values at places from 0 on, `_` where there is none."""
    words, next_place = [], 0
    for place, value in zip(places.tolist(), values.tolist(), strict=True):
        if place > next_place:
            words.append(f"_x{place - next_place}")
        words.append(_number(value))
        next_place = place + 1
    return " ".join(words)


def _number(value: float) -> str:
    if math.isnan(value):
        stale = np.float64(value).view(np.uint64) == 0x7FF0000000000002
        return "stale" if stale else "NaN"
    return repr(value).replace("inf", "Inf")


def _eval(query: Query) -> str:
    start = format_duration(query.start_ms)
    if query.count == 1:
        return f"eval instant at {start} {query.text}"
    end = format_duration(query.start_ms + (query.count - 1) * query.step_ms)
    step = format_duration(query.step_ms)
    return f"eval range from {start} to {end} step {step} {query.text}"


def _expected(query: Query, answer: Result | str) -> list[str]:
    if isinstance(answer, str):
        return ["  expect fail"]
    if value_type(parse(query.text)) is ValueType.SCALAR and query.count == 1:
        return [f"  {_number(value)}" for values in answer.values() for value in values.values()]
    lines = []
    for key, values in sorted(answer.items(), key=lambda item: sorted(item[0])):
        times, found = np.array(list(values)), np.array(list(values.values()))
        places = (times - query.start_ms) // query.step_ms if query.count > 1 else times * 0
        lines.append(f"  {_series_text(dict(sorted(key)))} {_sequence(places, found)}")
    return lines
