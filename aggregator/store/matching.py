"""Matchers on dictionary-encoded columns: regexes are RE2 and see each distinct value once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aggregator.errors import QuerySyntaxError
from aggregator.model.arrays import Bools, Codes, Ints
from aggregator.model.labels import Matcher, MatchOp, Strings
from aggregator.store.columns import flags
from aggregator.store.tables import TableView

_META = frozenset("\\.+*?()|[]{}^$")
_UNKNOWN, _NO, _YES = 0, 1, 2
# above this many rows a lookup table is cheaper than sorting the codes
_LOOKUP_ROWS = 2_048
_FEW_LITERALS = 8
# so many matchers are kept ready, none of them longer than that
_KEPT_TESTS, _KEPT_CHARACTERS = 256, 1_000


@dataclass(frozen=True, slots=True)
class Test:
    """A matcher made ready: a set of literals, or a regex for the values it is needed for.

    `accepts_absent` tells whether a series without the label matches; `cost` is the order of
    evaluation: what is cheap and selective comes first.
    """

    name: str
    negated: bool
    literals: frozenset[str] | None
    pattern: str
    accepts_absent: bool
    cost: int

    def accepts(self, texts: Sequence[str]) -> Bools:
        """Tell which values match."""
        if self.literals is not None:
            hits = np.fromiter((text in self.literals for text in texts), np.bool_, len(texts))
        else:
            hits = _matched(self.pattern, texts)
        return ~hits if self.negated else hits


def compiled(matcher: Matcher) -> Test:
    """Return *matcher* as a test. Raises `QuerySyntaxError` for what RE2 does not understand."""
    short = len(matcher.name) + len(matcher.value) <= _KEPT_CHARACTERS
    return _kept_test(matcher) if short else _test(matcher)


def _test(matcher: Matcher) -> Test:
    negated = matcher.op in (MatchOp.NOT_EQUAL, MatchOp.NOT_REGEX)
    literals: frozenset[str] | None = frozenset((matcher.value,))
    if matcher.op in (MatchOp.REGEX, MatchOp.NOT_REGEX):
        literals = literal_alternatives(matcher.value)
    if literals is not None:
        return Test(matcher.name, negated, literals, "", ("" in literals) is not negated, negated)
    pattern = f"^(?s:{matcher.value})$"
    try:
        _matched(matcher.value, [""])  # alone as well: `a)|(b` is only whole in brackets
        absent = bool(_matched(pattern, [""])[0])
    except (pa.ArrowInvalid, UnicodeEncodeError) as error:
        reason = str(error).removeprefix("Invalid regular expression: ")
        raise QuerySyntaxError(f"invalid regular expression in {matcher}: {reason}") from error
    return Test(matcher.name, negated, None, pattern, absent is not negated, 2 + negated)


_kept_test = lru_cache(maxsize=_KEPT_TESTS)(_test)


def _matched(pattern: str, texts: Sequence[str]) -> Bools:
    values = pa.array(texts, pa.large_string())
    return flags(pc.match_substring_regex(values, pattern=pattern))


def literal_alternatives(regex: str) -> frozenset[str] | None:
    """Return the strings of a regex that is nothing but literals (`a`, `a|b`, `(a|b)`)."""
    body = regex
    if body.startswith("(") and body.endswith(")"):
        body = body.removeprefix("(?:") if body.startswith("(?:") else body[1:]
        body = body[:-1]
    texts, text, position = [], "", 0
    while position < len(body):
        character = body[position]
        if character == "|":
            texts.append(text)
            text = ""
        elif character == "\\":
            position += 1
            if position == len(body) or body[position] not in _META:
                return None
            text += body[position]
        elif character in _META:
            return None
        else:
            text += character
        position += 1
    return frozenset((*texts, text))


class Matching:
    """The tests of one selection, with what is already known about each value."""

    def __init__(self, tests: Sequence[Test], strings: Strings) -> None:
        self._tests = sorted(tests, key=lambda test: test.cost)
        self._strings = strings
        self._codes: dict[int, list[int]] = {}
        self._verdicts: dict[int, np.ndarray] = {}
        self._seen = 0
        for place, test in enumerate(self._tests):
            if test.literals is not None:
                found = (strings.find(text) for text in test.literals)
                self._codes[place] = [code for code in found if code is not None]

    def rows(self, view: TableView, rows: Ints | None = None) -> Ints:
        """Return the rows of *view* (of *rows*, if given) that pass every test, ascending."""
        for place, test in enumerate(self._tests):
            column = view.column(test.name)
            if column is None:
                if not test.accepts_absent:
                    return np.empty(0, np.int64)
                continue
            codes = column if rows is None else column[rows]
            hits = np.flatnonzero(self._accepted(place, test, codes))
            rows = hits if rows is None else rows[hits]
            if not rows.size:
                break
        return np.arange(view.ids.size) if rows is None else rows

    def _accepted(self, place: int, test: Test, codes: Codes) -> Bools:
        wanted = self._codes.get(place)
        if wanted is None:
            return self._accepted_by_regex(place, test, codes)
        if len(wanted) > _FEW_LITERALS:
            hits = np.isin(codes, wanted)
        else:
            hits = codes == (wanted[0] if wanted else -1)
            for code in wanted[1:]:
                hits |= codes == code
        return ~hits if test.negated else hits

    def _accepted_by_regex(self, place: int, test: Test, codes: Codes) -> Bools:
        self._seen += codes.size
        if self._seen < _LOOKUP_ROWS:  # not worth a table of all values' verdicts
            few, values = np.unique(codes, return_inverse=True)
            return test.accepts(self._strings.texts(few))[values]
        size = int(codes.max(initial=0)) + 1
        verdicts = self._verdicts.get(place)
        if verdicts is None or verdicts.size < size:
            known = np.zeros(max(size, len(self._strings)), np.int8)
            if verdicts is not None:
                known[: verdicts.size] = verdicts
            verdicts = self._verdicts[place] = known
        unknown = codes[verdicts[codes] == _UNKNOWN]
        if unknown.size:
            fresh = distinct(unknown)
            accepted = test.accepts(self._strings.texts(fresh))
            verdicts[fresh] = np.where(accepted, _YES, _NO)
        hits: Bools = verdicts[codes] == _YES
        return hits


def distinct(codes: Codes) -> Codes:
    """Return the different codes, ascending."""
    if codes.size < _LOOKUP_ROWS:
        return np.unique(codes)
    seen = np.zeros(int(codes.max()) + 1, np.bool_)
    seen[codes] = True
    return np.flatnonzero(seen).astype(np.int32)
