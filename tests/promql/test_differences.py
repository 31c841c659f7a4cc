"""Every difference to Prometheus 3 that is written down is one."""

import pytest

from aggregator.store.memory import MemoryStore
from tests.promql.differences import DIFFERENCES
from tests.promql.scripts.run import Verdict, run_script


def verdict(difference, answer):
    """Return what becomes of the eval of *difference* if *answer* is expected."""
    text = f"load 1m\n  {difference.samples}\n\neval {difference.eval}\n  {answer}\n"
    (outcome,) = run_script(text, MemoryStore)
    return outcome


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda one: one.subject)
def test_difference_is_as_written(difference):
    """We answer what is written as ours, and not what is written as Prometheus's."""
    ours = verdict(difference, difference.ours)
    assert ours.verdict is Verdict.PASSED, ours.detail
    theirs = verdict(difference, difference.prometheus)
    assert theirs.verdict in {Verdict.FAILED, Verdict.UNSUPPORTED}


def test_differences_are_named_once():
    """No difference is written down twice."""
    assert len({one.subject for one in DIFFERENCES}) == len(DIFFERENCES)
