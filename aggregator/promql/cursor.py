"""A position in the tokens of a query, and the small things that are read there."""

from dataclasses import dataclass

from aggregator.errors import QuerySyntaxError
from aggregator.model.stepmatrix import StepRange
from aggregator.promql.lex import Kind, Token, tokens
from aggregator.promql.numbers import parse_duration, parse_number
from aggregator.promql.places import syntax_error
from aggregator.promql.strings import is_label_name, quoted, readable, unquote


@dataclass(frozen=True, slots=True)
class QueryTimes:
    """The step of a query, 0 if instant, and the time from its first to its last step, in ms."""

    step_ms: int
    range_ms: int

    @staticmethod
    def of(steps: StepRange) -> "QueryTimes":
        """Return those of a query with *steps*."""
        instant = steps == StepRange.instant(steps.start_ms)
        return QueryTimes(0 if instant else steps.step_ms, steps.end_ms - steps.start_ms)


class Cursor:
    """Reads the tokens of *query* one after the other; *times* are its times where known."""

    def __init__(self, query: str, times: QueryTimes | None = None) -> None:
        self._query = query
        self.times = times
        self._tokens = list(tokens(query))
        self._position = 0

    @property
    def token(self) -> Token:
        """The token at the cursor."""
        return self._tokens[self._position]

    @property
    def following(self) -> Token:
        """The token after that."""
        return self._tokens[min(self._position + 1, len(self._tokens) - 1)]

    @property
    def end(self) -> int:
        """Where the token before the cursor ends."""
        return self._tokens[max(self._position - 1, 0)].end

    def since(self, start: int) -> str:
        """Return the text of the query from *start* to the token before the cursor."""
        return self._query[start : self.end]

    def advance(self) -> Token:
        """Return the token at the cursor and go on to the next."""
        token = self.token
        self._position = min(self._position + 1, len(self._tokens) - 1)
        return token

    def on(self, *kinds: Kind) -> bool:
        """Tell whether the token is of one of *kinds*."""
        return self.token.kind in kinds

    def at(self, *texts: str) -> bool:
        """Tell whether the token is one of the symbols or (lower-case) words *texts*."""
        token = self.token
        return token.kind not in {Kind.STRING, Kind.ERROR} and token.word in texts

    def skip(self, text: str) -> bool:
        """Go past *text* if it is there, and tell whether it was."""
        found = self.at(text)
        if found:
            self.advance()
        return found

    def expect(self, text: str, context: str, expected: str = "") -> Token:
        """Return the token *text* and go past it; anything else is an error in *context*."""
        if not self.at(text):
            raise self.unexpected(context, expected or f'"{text}"')
        return self.advance()

    def error(self, position: int, message: str) -> QuerySyntaxError:
        """Return the error that says *message* of *position*."""
        return syntax_error(self._query, position, message)

    def unexpected(self, context: str, expected: str) -> QuerySyntaxError:
        """Return the error that the token at the cursor is not what was *expected*."""
        token = self.token
        if token.kind is Kind.ERROR:
            return self.error(token.start, token.text)
        where = f" in {context}" if context else ""
        message = f"unexpected {token.describe()}{where}, expected {expected}"
        return self.error(token.start, message)

    def raw_string(self) -> str:
        """Return the string literal at the cursor as `unquote` does, and go past it."""
        token = self.advance()
        try:
            return unquote(token.text)
        except ValueError as error:
            raise self.error(token.start, str(error)) from error

    def string(self) -> str:
        """Return the readable text of the string literal at the cursor and go past it."""
        return readable(self.raw_string())

    def number(self) -> float:
        """Return the number (a duration counts as seconds) at the cursor and go past it."""
        token = self.advance()
        try:
            if token.kind is Kind.DURATION:
                return parse_duration(token.text) / 1000
            return parse_number(token.text)
        except (ValueError, OverflowError) as error:
            raise self.error(token.start, str(error)) from error

    def signed_number(self, context: str, expected: str) -> float:
        """Return a number with an optional sign."""
        sign = -1.0 if self.at("-") else 1.0
        if self.at("-", "+"):
            self.advance()
        if not self.on(Kind.NUMBER, Kind.DURATION):
            raise self.unexpected(context, expected)
        return sign * self.number()

    def labels(self) -> tuple[str, ...]:
        """Return the label names of `(a, b, "c")`."""
        self.expect("(", "grouping opts")
        names: list[str] = []
        while not self.at(")"):
            if self.on(Kind.STRING):
                names.append(self._quoted_label())
            elif self.token.is_label:
                names.append(self.advance().text)
            else:
                raise self.unexpected("grouping opts", "label")
            if not self.skip(","):
                break
        self.expect(")", "grouping opts", '"," or ")"')
        return tuple(names)

    def _quoted_label(self) -> str:
        start, raw = self.token.start, self.raw_string()
        name = readable(raw)
        if not is_label_name(name):
            raise self.error(start, f"invalid label name for grouping: {quoted(raw)}")
        return name
