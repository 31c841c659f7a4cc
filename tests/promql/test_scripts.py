"""The scripts of tests/promql/scripts, on every backend."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from aggregator import telemetry
from aggregator.store.chdb import ChdbStore
from aggregator.store.interface import Store
from aggregator.store.memory import MemoryStore
from aggregator.store.pages import LIMIT_BYTES
from tests.promql.scripts.notation import NotationError
from tests.promql.scripts.run import Verdict, run_script

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


@pytest.mark.parametrize("head_ms", [0, 30 * 86_400_000], ids=["disk", "head"])
@pytest.mark.parametrize("script", SCRIPTS, ids=names)
def test_script_passes_on_the_embedded_store(script, head_ms, tmp_path):
    """Every eval gives the same from the disk and from the newest samples in memory."""
    folders = (tmp_path / str(number) for number in count())

    def new_store() -> Store:
        return ChdbStore(
            next(folders),
            max_disk_bytes=1 << 40,
            head_ms=head_ms,
            pages_bytes=LIMIT_BYTES if head_ms else 0,
        )

    served = telemetry.LEAF_READS.labels("head")
    before = served._value.get()
    failures = [
        f"{script.name}:{outcome.line}: {outcome.query}\n{outcome.detail}"
        for outcome in run_script(script.read_text(), new_store)
        if outcome.verdict is not Verdict.PASSED
    ]
    assert not failures, "\n".join(failures)
    if head_ms and "load" in script.read_text():
        assert served._value.get() > before


def test_there_are_enough_evals():
    """The scripts hold at least 650 evals."""
    assert sum(script.read_text().count("\neval") for script in SCRIPTS) >= 650


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

eval instant at 1m rate(a[2m] smoothed)
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


@pytest.mark.parametrize("text", ["what 1m", "load\n", "load soon\n  a 1", "load 1m\n  a b"])
def test_notation_mistakes_name_the_line(text):
    """A line that is not in the notation is an error with its number."""
    with pytest.raises(NotationError, match=r"line 1: "):
        list(outcomes(text))


def test_an_unreadable_eval_fails_and_the_others_are_run():
    """An eval whose time or expectation cannot be read fails with its line."""
    text = (
        "eval instant at now 1\n  1\n\neval instant at 0 1\n  one of\n\neval instant at 0 1\n  1\n"
    )
    assert list(outcomes(text)) == [
        (1, Verdict.FAILED),
        (4, Verdict.FAILED),
        (7, Verdict.PASSED),
    ]


def test_the_last_of_two_equal_series_of_a_load_counts():
    """A series that a load names twice has the values given last."""
    text = 'load 1m\n  a{b="c"} 1 2\n  a{b="c"} 3 _\n\neval instant at 0 a\n  a{b="c"} 3\n'
    assert list(outcomes(text)) == [(5, Verdict.PASSED)]


def test_values_after_repeated_histograms_keep_their_time():
    """Histograms take their places, repeated ones each its own."""
    text = """
load 1m
  a 1 {{count:1}}x2 5 {{count:1}}+{{count:2}}x1 _x2 7

eval instant at 4m last_over_time(a[1m])
  a 5

eval instant at 9m last_over_time(a[1m])
  a 7
"""
    assert [verdict for _, verdict in outcomes(text)] == [Verdict.PASSED] * 2


def test_series_with_start_timestamps_are_unsupported():
    """Start timestamps, of one series or of all that follow, are not stored."""
    text = """
load 1m
  a@st -30s -30s
  a 1 2
  @st -30s
  b 1 2

eval instant at 1m a
  a 3

eval instant at 1m b
  b 3
"""
    assert [verdict for _, verdict in outcomes(text)] == [Verdict.UNSUPPORTED] * 2


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ('"Foo"', '"Foo"'),
        ('"Foo"', "expect string Foo"),
        ("`a\\d`", 'expect string "a\\\\d"'),
        ('""', "expect string"),
        ("31", "0x1f"),
        ("Inf", "+INF"),
        ("1/0 - 1/0", "nan"),
    ],
)
def test_runner_reads_every_form_of_a_value(query, expected):
    """Strings with and without quotes, and numbers as Go reads them."""
    found = [one for _, one in outcomes(f"EVAL instant at 0 {query}\n  {expected}\n")]
    assert found == [Verdict.PASSED]


def test_instant_vectors_are_compared_with_a_range_query():
    """What differs in the middle of a range query is told."""
    text = "eval instant at 5m vector(time())\n  {} 300\n"
    assert list(outcomes(text)) == [(1, Verdict.PASSED)]
