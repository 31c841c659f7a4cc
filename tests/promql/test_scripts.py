"""The scripts of tests/promql/scripts, on every backend."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from aggregator.errors import QueryError
from aggregator.model.budget import Budget
from aggregator.model.stepmatrix import StepRange
from aggregator.promql.engine import Engine
from aggregator.promql.result import ResultKind
from aggregator.store.interface import Store
from aggregator.store.memory import MemoryStore
from aggregator.store.open import open_store
from aggregator.store.settings import Backend, StoreSettings
from tests.promql.scripts.notation import Clear, Eval, Load, NotationError, read_script
from tests.promql.scripts.run import Verdict, almost_equal, load, points, run_script

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.test"))


def names(path: Path) -> str:
    """Return what a script is called in the test's id."""
    return path.stem


@pytest.mark.parametrize("script", SCRIPTS, ids=names)
def test_script_passes_on_the_memory_store(script):
    """Every eval of the script gives what it expects."""
    failures = [
        f"{script.name}:{outcome.line}: {outcome.query}\n{outcome.detail}"
        for outcome in run_script(script.read_text(), MemoryStore)
        if outcome.verdict is not Verdict.PASSED
    ]
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("script", SCRIPTS, ids=names)
def test_script_passes_on_the_embedded_store(script, tmp_path):
    """Every eval gives the same from the store on disk."""
    folders = (tmp_path / str(number) for number in count())

    def new_store() -> Store:
        return open_store(StoreSettings(path=next(folders), backend=Backend.CHDB))

    failures = [
        f"{script.name}:{outcome.line}: {outcome.query}\n{outcome.detail}"
        for outcome in run_script(script.read_text(), new_store)
        if outcome.verdict is not Verdict.PASSED
    ]
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("script", SCRIPTS, ids=names)
def test_instant_queries_give_the_same_as_a_step_of_a_range_query(script):
    """The middle of three steps has what the instant query at that time has."""
    store: Store = MemoryStore()
    for command in read_script(script.read_text()):
        match command:
            case Clear():
                store = MemoryStore()
            case Load():
                load(store, command)
            case Eval():
                check_range_form(command, Engine(store))


def check_range_form(command: Eval, engine: Engine) -> None:
    """Compare an instant vector with the range query from a minute before to a minute after."""
    edges = "start()" in command.query or "end()" in command.query
    if command.step_ms or command.fail or edges:
        return
    at = command.start_ms
    instant = engine.instant(command.query, at, Budget())
    if instant.kind is not ResultKind.VECTOR:
        return
    steps = StepRange.between(at - 60_000, at + 60_000, 60_000)
    try:
        ranged = engine.range(command.query, steps, Budget())
    except QueryError:  # another step may well be ambiguous
        return
    middle = {labels: found[at] for labels, found in points(ranged) if at in found}
    expected = {labels: found[at] for labels, found in points(instant)}
    assert set(middle) == set(expected), command.query
    for labels, value in expected.items():
        assert almost_equal(middle[labels], value), command.query


def outcomes(text: str) -> Iterator[tuple[int, Verdict]]:
    """Run *text* on the memory store."""
    return ((outcome.line, outcome.verdict) for outcome in run_script(text, MemoryStore))


def test_runner_tells_passed_failed_and_unsupported_apart():
    """A wrong value fails, a native histogram and refused syntax are unsupported."""
    text = """
load 1m
  a 1 2 3
  h {{schema:1 count:2}}x3

eval instant at 1m a
  a 2

eval instant at 1m a
  a 3

eval instant at 1m h
  h {{schema:1 count:2}}

eval instant at 1m sum(h)
  {} 1

eval instant at 1m rate(a[1m+1m])
  {} 1
"""
    passed, failed, unsupported = Verdict.PASSED, Verdict.FAILED, Verdict.UNSUPPORTED
    assert list(outcomes(text)) == [
        (6, passed),
        (9, failed),
        (12, unsupported),
        (15, unsupported),
        (18, unsupported),
    ]


@pytest.mark.parametrize(
    "expectation",
    [
        "a 1 2 3",
        "b 2",
        "a 2\n  b 2",
        "2",
        'expect string "a"',
        "expect fail",
        "expect warn\n  a 2",
        "expect info\n  a 2",
        "a 2.00001",
        "a NaN",
        "",
    ],
)
def test_runner_fails_what_is_not_as_expected(expectation):
    """Wrong series, values, types and annotations are failures."""
    text = f"load 1m\n  a 1 2 3\n\neval instant at 1m a\n  {expectation}\n"
    assert [verdict for _, verdict in outcomes(text)] == [Verdict.FAILED]


@pytest.mark.parametrize(
    ("expectation", "verdict"),
    [
        ("expect fail", Verdict.PASSED),
        ("expect fail msg: 1:2: parse error: unclosed left parenthesis", Verdict.PASSED),
        ("expect fail msg: something else", Verdict.FAILED),
        ("expect fail regex: unclosed", Verdict.PASSED),
        ("expected_fail_message something else", Verdict.FAILED),
        ("expected_fail_regexp unclosed.*", Verdict.PASSED),
        ("a 1", Verdict.FAILED),
    ],
)
def test_runner_compares_errors(expectation, verdict):
    """A failure passes only if it is expected, with the message given."""
    found = [one for _, one in outcomes(f"eval instant at 1m (\n  {expectation}\n")]
    assert found == [verdict]


@pytest.mark.parametrize("text", ["what 1m", "load\n", "eval instant at now a", "load 1m\n  a b"])
def test_notation_mistakes_name_the_line(text):
    """A line that is not in the notation is an error with its number."""
    with pytest.raises((NotationError, IndexError)):
        list(outcomes(text))
