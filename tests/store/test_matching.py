"""How matchers are made ready."""

import pytest

from aggregator.errors import QuerySyntaxError
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


def test_matchers_are_made_ready_once():
    """Equal ones share what was made; very long ones are made anew, bad ones refused again."""
    short, long = (Matcher("a", MatchOp.REGEX, text) for text in ("x.", "x." * 600))
    assert compiled(short) is compiled(Matcher("a", MatchOp.REGEX, "x."))
    assert compiled(long) is not compiled(long)
    for _ in range(2):
        with pytest.raises(QuerySyntaxError, match="invalid regular expression"):
            compiled(Matcher("a", MatchOp.REGEX, "("))
