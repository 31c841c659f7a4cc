"""How matchers are made ready."""

import pytest

from aggregator.model.labels import Matcher, MatchOp
from aggregator.store.matching import compiled, literal_alternatives


@pytest.mark.parametrize(
    ("regex", "expected"),
    [
        ("", {""}),
        ("abc", {"abc"}),
        ("a|b|", {"a", "b", ""}),
        ("(a|b)", {"a", "b"}),
        ("(?:a|b\\.c)", {"a", "b.c"}),
        ("a\\|b", {"a|b"}),
        ("a.c", None),
        ("(a)|(b)", None),
        ("(?i:a)", None),
        ("\\d", None),
        ("a\\", None),
        ("a{2}", None),
    ],
)
def test_regexes_of_literals_need_no_regex_engine(regex, expected):
    """Everything else does."""
    assert literal_alternatives(regex) == (None if expected is None else frozenset(expected))


@pytest.mark.parametrize(
    ("op", "value", "accepted"),
    [
        ("=", "", True),
        ("=", "x", False),
        ("!=", "", False),
        ("=~", "x*", True),
        ("=~", "x+", False),
        ("!~", "x+", True),
        ("!~", "", False),
    ],
)
def test_matchers_know_whether_absent_labels_match(op, value, accepted):
    """An absent label is the empty string."""
    assert compiled(Matcher("a", MatchOp(op), value)).accepts_absent is accepted
