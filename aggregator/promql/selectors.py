"""Reads selectors and what may follow an expression: ranges, subqueries, `offset` and `@`."""

import math
from dataclasses import replace

from aggregator.errors import QuerySyntaxError
from aggregator.model.labels import METRIC_NAME, Matcher, MatchOp
from aggregator.promql.cursor import Cursor
from aggregator.promql.durations import offset_duration, window_duration
from aggregator.promql.lex import Kind, Token
from aggregator.promql.plan import AtEdge, MatrixSelector, Node, Subquery, VectorSelector
from aggregator.promql.regex import compile_regex

_MULTIPLE_TIMES = "may not be set multiple times"


def selector(cursor: Cursor, first: Token, name: str) -> VectorSelector:
    """Return the selector of the metric *name* (empty if none) whose braces may follow."""
    end = first.end
    matchers: list[Matcher] = []
    if cursor.skip("{"):
        while not cursor.at("}"):
            matchers.append(_matcher(cursor))
            if not cursor.skip(","):
                break
        end = cursor.expect("}", "label matching", '"," or "}"').end
    if name:
        matchers.append(Matcher(METRIC_NAME, MatchOp.EQUAL, name))
    return VectorSelector(name, tuple(matchers), start=first.start, end=end)


def postfix(cursor: Cursor, node: Node) -> Node:
    """Return *node* with the ranges and modifiers that follow it."""
    while True:
        if cursor.at("["):
            node = _bracket(cursor, node)
        elif cursor.skip("offset"):
            node = _offset(cursor, node)
        elif cursor.skip("@"):
            node = _at(cursor, node)
        elif cursor.at("anchored", "smoothed"):
            token = cursor.token
            raise cursor.error(token.start, f"the {token.word} modifier is not supported")
        else:
            return node


def _matcher(cursor: Cursor) -> Matcher:
    first = cursor.token
    match first.kind:
        case Kind.STRING:
            name = cursor.string()
            if cursor.at(",", "}"):
                return Matcher(METRIC_NAME, MatchOp.EQUAL, name)
        case Kind.IDENTIFIER:
            name = cursor.advance().text
        case _:
            raise cursor.unexpected("label matching", 'identifier or "}"')
    if not cursor.on(Kind.OPERATOR):
        raise cursor.unexpected("label matching", "label matching operator")
    operator = MatchOp(cursor.advance().text)
    if not cursor.on(Kind.STRING):
        raise cursor.unexpected("label matching", "string")
    value = cursor.string()
    if operator in {MatchOp.REGEX, MatchOp.NOT_REGEX}:
        try:
            compile_regex(value)
        except QuerySyntaxError as error:
            raise cursor.error(first.start, str(error)) from error
    return Matcher(name, operator, value)


def _bracket(cursor: Cursor, node: Node) -> Node:
    opening = cursor.advance()
    window = window_duration(cursor, "subquery or range selector", "")
    range_ms, range_text = window.milliseconds, window.text
    if cursor.skip("]"):
        if not isinstance(node, VectorSelector):
            raise cursor.error(opening.start, "ranges only allowed for vector selectors")
        if node.offset_ms or node.offset_text:
            raise cursor.error(opening.start, "no offset modifiers allowed before range")
        if node.at is not None:
            raise cursor.error(opening.start, "no @ modifiers allowed before range")
        return MatrixSelector(node, range_ms, range_text, node.start, cursor.end)
    cursor.expect(":", "subquery or range selector", '":" or "]"')
    if cursor.at(":"):
        raise cursor.error(cursor.token.start, "aligned subqueries are not supported")
    subquery = Subquery(node, range_ms, range_text=range_text, start=node.start)
    if not cursor.at("]"):
        step = window_duration(cursor, "subquery selector", ' or "]"')
        subquery = replace(subquery, step_ms=step.milliseconds, step_text=step.text)
    cursor.expect("]", "subquery selector")
    return replace(subquery, end=cursor.end)


def _offset(cursor: Cursor, node: Node) -> Node:
    offset = offset_duration(cursor)
    target = _target(cursor, node, "offset modifier")
    if target.offset_ms or target.offset_text:
        raise cursor.error(node.start, f"offset {_MULTIPLE_TIMES}")
    target = replace(target, offset_ms=offset.milliseconds, offset_text=offset.text)
    return _modified(node, replace(target, end=cursor.end))


def _at(cursor: Cursor, node: Node) -> Node:
    at: int | AtEdge
    if cursor.at("start", "end"):
        at = AtEdge(cursor.advance().word)
        cursor.expect("(", "@")
        cursor.expect(")", "@")
    else:
        seconds = cursor.signed_number("@", "timestamp, start() or end()")
        if not math.isfinite(seconds) or abs(seconds) >= 2**63 / 1000:
            message = f"timestamp out of bounds for @ modifier: {seconds:f}"
            raise cursor.error(node.start, message)
        at = math.floor(seconds * 1000 + 0.5)
    target = _target(cursor, node, "@ modifier")
    if target.at is not None:
        raise cursor.error(node.start, f"@ <timestamp> {_MULTIPLE_TIMES}")
    return _modified(node, replace(target, at=at, end=cursor.end))


def _target(cursor: Cursor, node: Node, modifier: str) -> VectorSelector | Subquery:
    match node:
        case VectorSelector() | Subquery():
            return node
        case MatrixSelector():
            return node.selector
        case _:
            message = (
                f"{modifier} must be preceded by an instant vector selector or range vector "
                "selector or a subquery"
            )
            raise cursor.error(node.start, message)


def _modified(node: Node, target: VectorSelector | Subquery) -> Node:
    if isinstance(node, MatrixSelector) and isinstance(target, VectorSelector):
        return replace(node, selector=target, end=target.end)
    return target
