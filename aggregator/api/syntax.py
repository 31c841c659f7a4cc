"""Query texts: formatted, and as a tree. Nothing here reads data."""

import json
from collections.abc import Sequence
from typing import Final

import orjson

from aggregator.api import parameters, schemas
from aggregator.api.envelope import route, success
from aggregator.api.errors import bad_parameter
from aggregator.api.exchange import Reach, Reply, Request, Route
from aggregator.errors import QuerySyntaxError
from aggregator.model.labels import Matcher
from aggregator.promql.functions import Function, ValueType
from aggregator.promql.numbers import format_plain
from aggregator.promql.parse import parse
from aggregator.promql.plan import (
    Aggregate,
    AtEdge,
    Binary,
    Call,
    Matching,
    MatrixSelector,
    Node,
    NumberLiteral,
    Paren,
    StepInvariant,
    StringLiteral,
    Subquery,
    Unary,
    VectorSelector,
    value_type,
)
from aggregator.promql.pretty import pretty

_TYPES: Final = {
    ValueType.SCALAR: "scalar",
    ValueType.VECTOR: "vector",
    ValueType.RANGE: "matrix",
    ValueType.STRING: "string",
}


def routes() -> tuple[Route, ...]:
    """Return every path."""
    return (
        route("format_query", formatted, "A query as Prometheus formats it", (parameters.QUERY,),
              schema=schemas.TEXT, reach=Reach.SAME),
        route("parse_query", parsed, "A query as a tree", (parameters.QUERY,),
              schema=schemas.TREE, reach=Reach.SAME),
        route("query_exemplars", exemplars, "Exemplars: always none",
              (parameters.QUERY, parameters.FIRST, parameters.LAST),
              schema=schemas.EXEMPLARS, reach=Reach.SAME,
              description="Traces stay in their cluster, and with them exemplars."),
    )  # fmt: skip


def formatted(request: Request) -> Reply:
    """Answer with the query's formatted text."""
    return success(orjson.dumps(pretty(_parsed(request))))


def parsed(request: Request) -> Reply:
    """Answer with the query's tree."""
    # orjson gives up below the depth that a query may have
    return success(json.dumps(tree(_parsed(request)), ensure_ascii=False).encode())


def exemplars(request: Request) -> Reply:
    """Answer that there are none; Grafana asks with milliseconds where seconds are meant."""
    start_ms = parameters.time_ms(request, "start")
    if parameters.time_ms(request, "end") < start_ms:
        raise bad_parameter("end", "end timestamp must not be before start timestamp")
    _parsed(request)
    return success(b"[]")


def tree(node: Node) -> dict[str, object]:
    """Return *node* as the object that Prometheus 3 answers; durations and times are in ms."""
    match node:
        case NumberLiteral() | StringLiteral() | VectorSelector() | MatrixSelector():
            found = _leaf(node)
        case Subquery():
            found = {"type": "subquery", "expr": tree(node.expr), "range": node.range_ms}
            found["step"] = 0 if node.step_ms is None else node.step_ms
            found |= _modifiers(node.offset_ms, node.at)
        case Call():
            args = [tree(argument) for argument in node.args]
            found = {"type": "call", "func": _function(node.function), "args": args}
        case Aggregate():
            found = {"type": "aggregation", "op": node.op, "expr": tree(node.expr)}
            found["param"] = None if node.param is None else tree(node.param)
            found |= {"grouping": node.grouping, "without": node.without}
        case Binary():
            sides = {"lhs": tree(node.lhs), "rhs": tree(node.rhs)}
            found = {"type": "binaryExpr", "op": node.op, **sides}
            found |= {"matching": _matching(node), "bool": node.return_bool}
        case Unary():
            found = {"type": "unaryExpr", "op": node.op, "expr": tree(node.expr)}
        case Paren():
            found = {"type": "parenExpr", "expr": tree(node.expr)}
        case StepInvariant():
            found = tree(node.expr)
    return found


def _leaf(
    node: NumberLiteral | StringLiteral | VectorSelector | MatrixSelector,
) -> dict[str, object]:
    match node:
        case NumberLiteral():
            return {"type": "numberLiteral", "val": format_plain(node.value)}
        case StringLiteral():
            return {"type": "stringLiteral", "val": node.value}
        case VectorSelector():
            return {"type": "vectorSelector", **_selector(node)}
        case MatrixSelector():
            return {"type": "matrixSelector", "range": node.range_ms, **_selector(node.selector)}


def _parsed(request: Request) -> Node:
    try:
        return parse(request.first("query"))
    except QuerySyntaxError as error:
        raise parameters.query_error(error) from error


def _selector(node: VectorSelector) -> dict[str, object]:
    return {
        "name": node.name,
        "matchers": _matchers(node.matchers),
        **_modifiers(node.offset_ms, node.at),
    }


def _matchers(matchers: Sequence[Matcher]) -> list[dict[str, object]]:
    return [
        {"name": each.name, "value": each.value, "type": each.op.value} for each in matchers
    ]  # fmt: skip


def _modifiers(offset_ms: int, at: int | AtEdge | None) -> dict[str, object]:
    edge = at.value if isinstance(at, AtEdge) else None
    return {
        "offset": offset_ms,
        "timestamp": None if edge else at,
        "startOrEnd": edge,
    }


def _function(function: Function) -> dict[str, object]:
    """Return a signature; `variadic` counts optional arguments, and is -1 for any number."""
    return {
        "name": function.name,
        "argTypes": [_TYPES[each] for each in function.arguments],
        "variadic": -1 if function.variadic else function.optional,
        "returnType": _TYPES[function.returns],
    }


def _matching(node: Binary) -> dict[str, object] | None:
    """Return how vectors are matched, None if a side is no vector."""
    if {value_type(node.lhs), value_type(node.rhs)} != {ValueType.VECTOR}:
        return None
    matching = node.matching or Matching()
    return {
        "card": matching.cardinality.value,
        "labels": matching.labels,
        "on": matching.on,
        "include": matching.include,
        "fillValues": {"lhs": matching.fill_many, "rhs": matching.fill_one},
    }
