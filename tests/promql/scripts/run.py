"""Runs scripts against a store and says what was expected and what came."""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np

from aggregator.errors import QueryError
from aggregator.model.budget import Budget
from aggregator.model.samples import SampleBlock
from aggregator.model.stepmatrix import StepRange
from aggregator.promql.check import matches
from aggregator.promql.engine import Engine
from aggregator.promql.result import QueryResult, RangeSamples, ResultKind
from aggregator.store.interface import Store
from tests.promql.scripts.notation import (
    Clear,
    Eval,
    Labels,
    Load,
    Series,
    Unreadable,
    read_script,
)

EPSILON = 1e-6
_PLACE = re.compile(r" \(\d+:\d+\)$")
_REFUSED = re.compile(r"parse error: .* (?:is|are) not supported$")

# What these are depends on the query's own range.
_OF_THE_QUERY = re.compile(r"(?:start|end|range|step)\(\)")

Points = dict[int, float]


class Verdict(Enum):
    """What became of one eval."""

    PASSED = "passed"
    FAILED = "failed"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One eval's line, query and verdict; `detail` says what was expected and what came."""

    line: int
    query: str
    verdict: Verdict
    detail: str = ""


class MismatchError(Exception):
    """The result is not what the script expects."""


def run_script(text: str, new_store: Callable[[], Store]) -> Iterator[Outcome]:
    """Yield the outcome of each eval of the script *text*."""
    store = new_store()
    engine = Engine(store)
    native: list[Labels] = []
    try:
        for command in read_script(text):
            match command:
                case Clear():
                    store.close()
                    store, native = new_store(), []
                    engine = Engine(store)
                case Load():
                    native += [series.labels for series in command.series if series.native]
                    load(store, command)
                case Eval():
                    yield _outcome(command, engine, native)
                case Unreadable():
                    yield Outcome(command.line, command.query, Verdict.FAILED, command.reason)
    finally:
        store.close()


def load(store: Store, command: Load) -> None:
    """Write the samples of *command*."""
    series = [one for one in command.series if any(v is not None for v in one.values)]
    if not series:
        return
    ids = store.series_ids([dict(one.labels) for one in series])
    rows = [
        (int(series_id), position * command.step_ms, value)
        for series_id, one in zip(ids, series, strict=True)
        for position, value in enumerate(one.values)
        if value is not None
    ]
    numbers, times, values = zip(*rows, strict=True)
    store.write(SampleBlock(np.array(numbers, np.uint32), np.array(times), np.array(values)))


def _outcome(command: Eval, engine: Engine, native: list[Labels]) -> Outcome:
    def outcome(verdict: Verdict, detail: str = "") -> Outcome:
        return Outcome(command.line, command.query, verdict, detail)

    if any(series.native for series in command.series):
        return outcome(Verdict.UNSUPPORTED, "native histograms")
    result: QueryResult | None = None
    try:
        try:
            result = evaluate(command, engine)
        except QueryError as error:
            _check_failure(command, str(error))
        else:
            check(command, result)
            check_range_form(command, result, engine)
    except MismatchError as error:
        if isinstance(error.__context__, QueryError) and _REFUSED.search(str(error.__context__)):
            return outcome(Verdict.UNSUPPORTED, str(error.__context__))
        if result is not None and _reads_native(result, native):
            return outcome(Verdict.UNSUPPORTED, "native histograms")
        return outcome(Verdict.FAILED, str(error))
    return outcome(Verdict.PASSED)


def evaluate(command: Eval, engine: Engine) -> QueryResult:
    """Return what *engine* answers to *command*."""
    if not command.step_ms:
        return engine.instant(command.query, command.start_ms, Budget())
    steps = StepRange.between(command.start_ms, command.end_ms, command.step_ms)
    return engine.range(command.query, steps, Budget())


def check(command: Eval, result: QueryResult) -> None:
    """Raise `MismatchError` unless *result* is what *command* expects."""
    if command.fail:
        raise MismatchError(f"expected a failure, got {describe(result)}")
    _check_annotations("warn", command.warn, command.no_warn, result.warnings)
    _check_annotations("info", command.info, command.no_info, result.infos)
    if result.kind is ResultKind.STRING:
        if result.text != command.text:
            raise MismatchError(f"expected string {command.text!r}, got {result.text!r}")
        return
    if result.kind is ResultKind.SCALAR or command.scalar is not None:
        _check_scalar(command, result)
        return
    _check_series(command, list(points(result)), describe(result))


def check_range_form(command: Eval, result: QueryResult, engine: Engine) -> None:
    """Raise `MismatchError` unless a range query has the same at the time of an instant one.

    The range goes from a minute before to a minute after, as in Prometheus's own runner.
    """
    depends = command.ordered or _OF_THE_QUERY.search(command.query)
    if command.step_ms or depends or result.kind not in {ResultKind.VECTOR, ResultKind.SCALAR}:
        return
    at = command.start_ms
    steps = StepRange.between(at - 60_000, at + 60_000, 60_000)
    try:
        ranged = engine.range(command.query, steps, Budget())
    except QueryError:  # another step may well be ambiguous
        return
    middle = {labels: found[at] for labels, found in points(ranged) if at in found}
    wanted = {labels: found[at] for labels, found in points(result)}
    if set(middle) != set(wanted) or not all(
        almost_equal(middle[labels], value) for labels, value in wanted.items()
    ):
        raise MismatchError(f"expected {describe(result)}, got in a range query {describe(ranged)}")


def _check_failure(command: Eval, message: str) -> None:
    if not command.fail:
        raise MismatchError(f"expected {_expected(command)}, got error: {message}")
    if not all(accepts(message) for accepts in command.fail_checks):
        raise MismatchError(f"expected another error, got: {message}")


def _check_annotations(
    kind: str, wanted: list[Callable[[str], bool]], none: bool, texts: Iterable[str]
) -> None:
    plain = [_PLACE.sub("", text) for text in texts]
    if none and plain:
        raise MismatchError(f"expected no {kind}, got {plain}")
    if wanted and not plain:
        raise MismatchError(f"expected {kind}, got none")
    if not all(any(accepts(text) for text in plain) for accepts in wanted):
        raise MismatchError(f"expected another {kind}, got {plain}")
    if wanted and not all(any(accepts(text) for accepts in wanted) for text in plain):
        raise MismatchError(f"expected no other {kind} than given, got {plain}")


def _check_scalar(command: Eval, result: QueryResult) -> None:
    if command.scalar is None or result.kind is not ResultKind.SCALAR or result.matrix is None:
        raise MismatchError(f"expected {_expected(command)}, got {describe(result)}")
    value = float(result.matrix.values[0, 0])
    if not almost_equal(value, command.scalar):
        raise MismatchError(f"expected scalar {command.scalar}, got {value}")


def _check_series(command: Eval, got: list[tuple[Labels, Points]], shown: str) -> None:
    start, step = command.start_ms, command.step_ms
    if command.window is not None:
        start, _, step = command.window
    wanted: dict[Labels, Points] = {}
    for series in command.series:
        numbered = enumerate(series.values)
        wanted[series.labels] = {start + i * step: v for i, v in numbered if v is not None}
    complaint = f"expected {_expected(command)}, got {shown}"
    if len(got) != len(wanted) or {labels for labels, _ in got} != set(wanted):
        raise MismatchError(complaint)
    if command.ordered and [labels for labels, _ in got] != list(wanted):
        raise MismatchError(f"expected another order: {complaint}")
    for labels, found in got:
        expected = wanted[labels]
        if set(found) != set(expected):
            raise MismatchError(complaint)
        if not all(almost_equal(found[time], expected[time]) for time in found):
            raise MismatchError(complaint)


def points(result: QueryResult) -> Iterator[tuple[Labels, Points]]:
    """Yield each series of *result* with its values by time in ms."""
    if result.ranges is not None:
        yield from _range_points(result.ranges)
    if result.matrix is not None:
        times = result.steps.times().tolist()
        matrix = result.matrix
        for row, labels in enumerate(matrix.series.dicts()):
            cells = zip(times, matrix.values[row].tolist(), matrix.present[row], strict=True)
            yield frozenset(labels.items()), {time: value for time, value, there in cells if there}


def _range_points(ranges: RangeSamples) -> Iterator[tuple[Labels, Points]]:
    samples = ranges.samples
    for row, labels in enumerate(ranges.labels.dicts()):
        part = slice(samples.offsets[row], samples.offsets[row + 1])
        pairs = zip(samples.times[part].tolist(), samples.values[part].tolist(), strict=True)
        yield frozenset(labels.items()), dict(pairs)


def almost_equal(got: float, wanted: float) -> bool:
    """Compare as promqltest does: NaN equals NaN, else to a relative error."""
    if math.isnan(got) or math.isnan(wanted):
        return math.isnan(got) and math.isnan(wanted)
    if got == wanted:
        return True
    size = abs(got) + abs(wanted)
    if got == 0 or wanted == 0 or size < 2.3e-308:
        return abs(got - wanted) < EPSILON * 2.3e-308
    return abs(got - wanted) / min(size, 1.79e308) < EPSILON


def describe(result: QueryResult) -> str:
    """Return *result* in the notation, on one line."""
    if result.kind is ResultKind.STRING:
        return f"string {result.text!r}"
    rows = (f"{_named(labels)} {list(found.values())}" for labels, found in points(result))
    return f"{result.kind.value}: {'; '.join(rows) or 'nothing'}"


def _expected(command: Eval) -> str:
    if command.scalar is not None:
        return f"scalar {command.scalar}"
    if command.text is not None:
        return f"string {command.text!r}"
    rows = (f"{_named(series.labels)} {series.values}" for series in command.series)
    return "; ".join(rows) or "nothing"


def _named(labels: Labels) -> str:
    return "{" + ", ".join(f'{name}="{value}"' for name, value in sorted(labels)) + "}"


def _reads_native(result: QueryResult, native: list[Labels]) -> bool:
    return any(
        all(matches(matcher, dict(labels).get(matcher.name, "")) for matcher in read.matchers)
        for read in result.reads
        for labels in native
    )


__all__ = ["Outcome", "Series", "Verdict", "run_script"]
