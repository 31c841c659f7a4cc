"""Query text to tokens, with the same words for mistakes as Prometheus's lexer."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from aggregator.promql.strings import quoted


class Kind(Enum):
    """What a token is."""

    END = "end of input"
    ERROR = "error"
    IDENTIFIER = "identifier"
    METRIC = "metric identifier"
    NUMBER = "number"
    DURATION = "duration"
    STRING = "string"
    AGGREGATION = "aggregation"
    KEYWORD = "keyword"
    OPERATOR = "operator"
    PUNCTUATION = "punctuation"


AGGREGATIONS = frozenset(
    {
        "avg", "bottomk", "count", "count_values", "group", "limit_ratio", "limitk", "max", "min",
        "quantile", "stddev", "stdvar", "sum", "topk",
    }
)  # fmt: skip
_OPERATOR_WORDS = frozenset({"and", "or", "unless", "atan2"})
_KEYWORDS = frozenset(
    {
        "anchored", "bool", "by", "end", "fill", "fill_left", "fill_right", "group_left",
        "group_right", "ignoring", "offset", "on", "smoothed", "start", "without",
    }
)  # fmt: skip

_RESERVED = frozenset({"bool", "on", "ignoring", "group_left", "group_right", "atan2"})

_BLANK = re.compile(r"(?:[ \t\r\n]+|\#[^\n]*)+")
_NUMBER_START = re.compile(r"\.?[0-9]")
_NUMBER = re.compile(
    r"0[xX](?:_?[0-9a-fA-F])+"
    r"|(?:[0-9](?:_?[0-9])*(?:\.(?:[0-9](?:_?[0-9])*)?)?|\.[0-9](?:_?[0-9])*)(?:[eE][+-]?[0-9]+)?"
)
_DURATION = re.compile(r"(?:[0-9]+(?:ms|[smhdwy]))+")
_WORD_REST = re.compile(r"[0-9A-Za-z_.:]*")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_METRIC = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_STRING = re.compile(r"""\"(?:[^"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|`[^`]*`""")
_TRIM = re.compile(r"</|>/")
_SYMBOL = re.compile(r"==|!=|<=|>=|[-+*/%^<>=,()@]")
_BRACE_SYMBOL = re.compile(r"=~|!~|!=|[=,]")
_PUNCTUATION = frozenset("=,()[]{}:@")
_MATCH_OPERATORS = frozenset({"=", "!=", "=~", "!~"})


@dataclass(frozen=True, slots=True)
class Token:
    """One token: its kind, its text as written and where it starts; an error holds its message."""

    kind: Kind
    text: str
    start: int

    @property
    def end(self) -> int:
        """Position after the token."""
        return self.start + len(self.text)

    @property
    def word(self) -> str:
        """The text as compared with keywords and operators, which ignore case."""
        return self.text.lower()

    @property
    def is_label(self) -> bool:
        """Whether the token can be a label name in `by (…)`: keywords can."""
        word = self.kind is Kind.OPERATOR and self.text.isalnum()
        return word or self.kind in {Kind.IDENTIFIER, Kind.AGGREGATION, Kind.KEYWORD}

    @property
    def is_metric(self) -> bool:
        """Whether the token can be a metric name: the words of operators' modifiers cannot."""
        return self.kind is Kind.METRIC or (self.is_label and self.word not in _RESERVED)

    def describe(self) -> str:
        """Return the token as error messages name it."""
        match self.kind:
            case Kind.END:
                text = "end of input"
            case Kind.AGGREGATION:
                text = f"<aggr:{self.text}>"
            case Kind.KEYWORD:
                text = f"<{self.text}>"
            case Kind.OPERATOR:
                text = f"<op:{self.text}>"
            case Kind.PUNCTUATION:
                text = f'"{self.text}"'
            case Kind.STRING if len(self.text) > 10:
                text = f"string {quoted(self.text[:10])}..."
            case _:
                text = f"{self.kind.value} {quoted(self.text)}"
        return text


def _shown(character: str) -> str:
    return f"'{character}'" if character.isprintable() else repr(character)


def tokens(query: str) -> Iterator[Token]:
    """Yield the tokens of *query*; the last is END, or ERROR where no token could be read."""
    lexer = _Lexer(query)
    while True:
        token = lexer.next()
        yield token
        if token.kind in (Kind.END, Kind.ERROR):
            return


class _Lexer:
    """What is open at the current position: braces and brackets have rules of their own."""

    def __init__(self, query: str) -> None:
        self._query = query
        self._position = 0
        self._parentheses = 0
        self._brace = False
        self._bracket = False

    def next(self) -> Token:
        """Return the next token."""
        blank = _BLANK.match(self._query, self._position)
        if blank is not None:
            self._position = blank.end()
        if self._position >= len(self._query):
            return self._at_end()
        return self._in_braces() if self._brace else self._outside()

    def _outside(self) -> Token:
        character = self._query[self._position]
        if character in "[]{}()":
            token = self._bracket_token(character)
        elif character == ":" and self._bracket:
            token = self._take(Kind.PUNCTUATION, ":")
        elif _NUMBER_START.match(self._query, self._position):
            token = self._number()
        elif character in "\"'`":
            token = self._string()
        else:
            token = self._symbol_or_word(character)
        return token

    def _symbol_or_word(self, character: str) -> Token:
        if _TRIM.match(self._query, self._position):
            return self._error("operators that trim native histograms are not supported")
        symbol = _SYMBOL.match(self._query, self._position)
        if symbol is not None:
            text = symbol.group()
            kind = Kind.PUNCTUATION if text in _PUNCTUATION else Kind.OPERATOR
            return self._take(kind, text)
        word = (_IDENTIFIER if self._bracket else _METRIC).match(self._query, self._position)
        if word is not None:
            return self._word(word.group())
        if character == "!":
            return self._error("unexpected character after '!', expected '='")
        return self._error(f"unexpected character: {_shown(character)}")

    def _at_end(self) -> Token:
        if self._brace:
            return self._error("unexpected end of input inside braces, expected '}'")
        if self._parentheses > 0:
            return self._error("unclosed left parenthesis")
        if self._bracket:
            return self._error("unclosed left bracket")
        return Token(Kind.END, "", self._position)

    def _in_braces(self) -> Token:
        character = self._query[self._position]
        if character == "}":
            self._brace = False
            return self._take(Kind.PUNCTUATION, "}")
        if character in "\"'`":
            return self._string()
        symbol = _BRACE_SYMBOL.match(self._query, self._position)
        if symbol is not None:
            text = symbol.group()
            kind = Kind.OPERATOR if text in _MATCH_OPERATORS else Kind.PUNCTUATION
            return self._take(kind, text)
        word = _IDENTIFIER.match(self._query, self._position)
        if word is not None:
            return self._take(Kind.IDENTIFIER, word.group())
        if character == "!":
            return self._error("unexpected character after '!' inside braces, expected '=' or '~'")
        return self._error(f"unexpected character inside braces: {_shown(character)}")

    def _bracket_token(self, character: str) -> Token:
        match character:
            case "(":
                self._parentheses += 1
            case ")":
                self._parentheses -= 1
                if self._parentheses < 0:
                    return self._error("unexpected right parenthesis ')'")
            case "{":
                self._brace = True
            case "}":
                return self._error("unexpected character: '}'")
            case "[":
                if self._bracket:
                    return self._error("unexpected left bracket '['")
                self._bracket = True
            case _:
                if not self._bracket:
                    return self._error("unexpected right bracket ']'")
                self._bracket = False
        return self._take(Kind.PUNCTUATION, character)

    def _number(self) -> Token:
        rest = _WORD_REST.match(self._query, self._position)
        written = "" if rest is None else rest.group()
        if self._bracket:
            written = written.split(":")[0]
        duration = _DURATION.match(self._query, self._position)
        if duration is not None and duration.group() == written:
            return self._take(Kind.DURATION, written)
        number = _NUMBER.match(self._query, self._position)
        text = "" if number is None else number.group()
        if len(text) < len(written) or not text:
            return self._error(f"bad number or duration syntax: {quoted(written)}")
        return self._take(Kind.NUMBER, text)

    def _string(self) -> Token:
        string = _STRING.match(self._query, self._position)
        if string is None:
            raw = self._query[self._position] == "`"
            return self._error(f"unterminated {'raw' if raw else 'quoted'} string")
        return self._take(Kind.STRING, string.group())

    def _word(self, text: str) -> Token:
        word = text.lower()
        if ":" in text:
            kind = Kind.METRIC
        elif word in AGGREGATIONS:
            kind = Kind.AGGREGATION
        elif word in _OPERATOR_WORDS:
            kind = Kind.OPERATOR
        elif word in _KEYWORDS:
            kind = Kind.KEYWORD
        else:
            kind = Kind.NUMBER if word in {"inf", "nan"} else Kind.IDENTIFIER
        return self._take(kind, text)

    def _take(self, kind: Kind, text: str) -> Token:
        token = Token(kind, text, self._position)
        self._position += len(text)
        return token

    def _error(self, message: str) -> Token:
        return Token(Kind.ERROR, message, self._position)
