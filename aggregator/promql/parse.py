"""Query text to a checked plan: a Pratt parser that knows where it is and what it expects."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from aggregator.model.labels import Matcher
from aggregator.promql.check import check
from aggregator.promql.cursor import Cursor, QueryTimes
from aggregator.promql.functions import FUNCTIONS
from aggregator.promql.lex import Kind
from aggregator.promql.places import syntax_error
from aggregator.promql.plan import (
    SET_OPERATORS,
    Aggregate,
    Binary,
    Call,
    Cardinality,
    Matching,
    Node,
    NumberLiteral,
    Paren,
    StringLiteral,
    Unary,
    VectorSelector,
    children,
)
from aggregator.promql.selectors import postfix, selector
from aggregator.promql.strings import quoted, readable

# Brackets within brackets cost the parser five stack frames each; a chain of operators costs it
# none, but the evaluation two. Both together stay well below Python's limit of 1,000.
MAX_NESTING: Final = 100
MAX_DEPTH: Final = 250
# Reading costs time before any limit of the above can tell: some 20 µs a token.
MAX_CHARACTERS: Final = 100_000
_TOO_NESTED: Final = f"expression is nested deeper than {MAX_NESTING} levels"
_TOO_LONG: Final = f"query is longer than {MAX_CHARACTERS} characters"
_TOO_DEEP: Final = f"expression has more than {MAX_DEPTH} operators in a row"

# How tightly each operator binds; only the power operator is right-associative.
_BINDING: Final = {
    "or": 1, "and": 2, "unless": 2, "==": 3, "!=": 3, "<": 3, ">": 3, "<=": 3, ">=": 3,
    "+": 4, "-": 4, "*": 5, "/": 5, "%": 5, "atan2": 5, "^": 6,
}  # fmt: skip
_POWER: Final = 6
_WITH_PARAMETER: Final = frozenset(
    {"topk", "bottomk", "quantile", "count_values", "limitk", "limit_ratio"}
)


def parse(query: str, times: QueryTimes | None = None) -> Node:
    """Return the plan of *query*, or raise `QuerySyntaxError` with line, column and expectation.

    Durations with `step()` or `range()` need *times*; without, the plan is only good for printing.
    """
    if len(query) > MAX_CHARACTERS:
        raise syntax_error(query, MAX_CHARACTERS, _TOO_LONG)
    cursor = Cursor(query, times)
    if cursor.on(Kind.END):
        raise cursor.error(0, "no expression found in input")
    node = _expression(cursor, 0, 1)
    if not cursor.on(Kind.END):
        raise cursor.unexpected("", "an operator or end of input")
    _check_depth(node, query)
    check(node, query)
    return node


def parse_selector(query: str) -> tuple[Matcher, ...]:
    """Return the matchers of a series selector such as `up{job="a"}` (what `match[]` takes)."""
    node = parse(query)
    if not isinstance(node, VectorSelector) or node.offset_ms or node.at is not None:
        raise syntax_error(query, 0, "expected a series selector without modifiers")
    return node.matchers


def _check_depth(root: Node, query: str) -> None:
    level: Sequence[Node] = (root,)
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in children(node)]
        if not level:
            return
    raise syntax_error(query, level[0].start, _TOO_DEEP)


def _expression(cursor: Cursor, minimum: int, depth: int) -> Node:
    if depth > MAX_NESTING:
        raise cursor.error(cursor.token.start, _TOO_NESTED)
    lhs = _prefix(cursor, depth)
    while cursor.on(Kind.OPERATOR):
        binding = _BINDING.get(cursor.token.word, -1)
        if binding < max(minimum, 0):
            break
        operator = cursor.advance()
        return_bool = cursor.skip("bool")
        matching = _matching(cursor, operator.word)
        rhs = _expression(cursor, binding if binding == _POWER else binding + 1, depth + 1)
        lhs = Binary(
            op=operator.word,
            lhs=lhs,
            rhs=rhs,
            matching=matching,
            return_bool=return_bool,
            start=lhs.start,
            end=rhs.end,
            op_start=operator.start,
        )
    return lhs


def _matching(cursor: Cursor, operator: str) -> Matching:
    set_operator = operator in SET_OPERATORS
    matching = Matching(Cardinality.MANY_TO_MANY if set_operator else Cardinality.ONE_TO_ONE)
    if cursor.at("on", "ignoring"):
        on = cursor.advance().word == "on"
        matching = replace(matching, on=on, labels=cursor.labels())
        if cursor.at("group_left", "group_right"):
            left = cursor.advance().word == "group_left"
            matching = replace(
                matching,
                cardinality=Cardinality.MANY_TO_ONE if left else Cardinality.ONE_TO_MANY,
                include=cursor.labels() if cursor.at("(") else (),
            )
    while cursor.at("fill", "fill_left", "fill_right") and cursor.following.text == "(":
        word = cursor.advance().word
        cursor.advance()
        value = cursor.signed_number(word, "a number")
        cursor.expect(")", word)
        if word != "fill_right":
            matching = replace(matching, fill_many=value)
        if word != "fill_left":
            matching = replace(matching, fill_one=value)
    return matching


def _prefix(cursor: Cursor, depth: int) -> Node:
    if not cursor.at("+", "-"):
        return postfix(cursor, _primary(cursor, depth))
    sign = cursor.advance()
    operand = _expression(cursor, _POWER, depth + 1)
    if isinstance(operand, NumberLiteral):
        value = -operand.value if sign.text == "-" else operand.value
        return NumberLiteral(value, sign.start, operand.end)
    return Unary(sign.text, operand, sign.start, operand.end)


def _primary(cursor: Cursor, depth: int) -> Node:
    token = cursor.token
    node: Node
    if token.kind in {Kind.NUMBER, Kind.DURATION}:
        node = NumberLiteral(cursor.number(), token.start, token.end)
    elif token.kind is Kind.STRING:
        raw = cursor.raw_string()
        node = StringLiteral(readable(raw), token.start, token.end, quoted(raw))
    elif cursor.skip("("):
        inner = _expression(cursor, 0, depth + 1)
        cursor.expect(")", "parenthesised expression", 'an operator or ")"')
        node = Paren(inner, token.start, cursor.end)
    elif cursor.at("{"):
        node = selector(cursor, token, "")
    elif token.kind is Kind.AGGREGATION and cursor.following.word in {"(", "by", "without"}:
        node = _aggregation(cursor, depth)
    elif token.kind in {Kind.IDENTIFIER, Kind.KEYWORD} and cursor.following.text == "(":
        node = _call(cursor, depth)
    elif token.is_metric:
        node = selector(cursor, cursor.advance(), token.text)
    else:
        raise cursor.unexpected("", "an expression")
    return node


def _call(cursor: Cursor, depth: int) -> Node:
    name = cursor.advance()
    function = FUNCTIONS.get(name.text if name.kind is Kind.IDENTIFIER else name.word)
    if function is None:
        raise cursor.error(name.start, f'unknown function with name "{name.text}"')
    args = _arguments(cursor, depth)
    return Call(function, args, name.start, cursor.end)


def _arguments(cursor: Cursor, depth: int) -> tuple[Node, ...]:
    cursor.expect("(", "call")
    args: list[Node] = []
    while not cursor.at(")"):
        args.append(_expression(cursor, 0, depth + 1))
        comma = cursor.token
        if not cursor.skip(","):
            break
        if cursor.at(")"):
            raise cursor.error(comma.start, "trailing commas not allowed in function call args")
    cursor.expect(")", "arguments", '"," or ")"')
    return tuple(args)


def _aggregation(cursor: Cursor, depth: int) -> Node:
    op = cursor.advance()
    without = False
    grouping: tuple[str, ...] = ()
    modified = cursor.at("by", "without")
    if modified:
        without, grouping = cursor.advance().word == "without", cursor.labels()
    args = _arguments(cursor, depth)
    if not modified and cursor.at("by", "without"):
        without, grouping = cursor.advance().word == "without", cursor.labels()
    if not args:
        raise cursor.error(op.start, "no arguments for aggregate expression provided")
    wanted = 2 if op.word in _WITH_PARAMETER else 1
    if len(args) != wanted:
        message = (
            "wrong number of arguments for aggregate expression provided, "
            f"expected {wanted}, got {len(args)}"
        )
        raise cursor.error(op.start, message)
    param = args[0] if wanted == 2 else None
    return Aggregate(op.word, args[-1], param, grouping, without, op.start, cursor.end)
