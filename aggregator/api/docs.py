"""The OpenAPI document, and what it says of a route."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from aggregator.api.exchange import (
    HTML,
    JSON,
    TEXT,
    Access,
    Lane,
    Reach,
    Reply,
    Request,
    Route,
    Schema,
)
from aggregator.api.schemas import ERROR

_PLACEHOLDER = re.compile(r"\{(\w+)(?::\w+)?\}")
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9]+")


def operation(route: Route, method: str) -> dict[str, Any]:
    """Return what the OpenAPI document says of *method* on *route*, in FastAPI's words."""
    placeholders = set(_PLACEHOLDER.findall(route.path))
    in_path = [each for each in route.parameters if each.name in placeholders]
    in_query = [each for each in route.parameters if each not in in_path]
    extra: dict[str, Any] = {
        "parameters": [
            {
                "name": each.name,
                "in": "path" if each in in_path else "query",
                "required": each.required and (each in in_path or method != "POST"),
                "description": each.description,
                "schema": each.schema,
            }
            for each in (*in_path, *in_query)
        ]
    }
    if method == "POST" and in_query:
        extra["requestBody"] = {"content": {"application/x-www-form-urlencoded": _form(in_query)}}
    answers: dict[int | str, dict[str, Any]] = {
        200: {"description": "Done", "content": {route.content_type: _schema(route.schema)}}
    }
    guarded = () if route.access is Access.PUBLIC else (401, 403)
    for status in sorted({400, *guarded, *route.errors}):
        plain = status in route.errors and route.content_type == TEXT
        answers[status] = {
            "description": _STATUS[status],
            "content": {TEXT: {}} if plain else {JSON: _schema(ERROR)},
        }
    name = _NOT_IN_NAMES.sub("_", route.path).strip("_") or "root"
    return {
        "operation_id": f"{method.lower()}_{name}",
        "openapi_extra": extra,
        "responses": answers,
        "summary": route.summary,
        "description": " ".join(
            filter(None, (route.description, f"Open to {route.access.value}.", route.reach.value))
        ),
        "tags": [route.tag],
    }


def routes(
    openapi: Callable[[], Mapping[str, Any]], page: Callable[[Mapping[str, Any]], bytes] | None
) -> tuple[Route, ...]:
    """Return the paths; *openapi* builds the document when it is asked for, *page* renders it."""

    def document(_request: Request) -> Reply:
        return Reply(orjson.dumps(openapi()))

    found = Route(
        "/openapi.json",
        document,
        "The OpenAPI document",
        tag="documentation",
        reach=Reach.SAME,
        lane=Lane.ASIDE,
        schema={"type": "object"},
    )
    if page is None:
        return (found,)
    render = page

    def documentation(_request: Request) -> Reply:
        return Reply(render(openapi()), content_type=HTML)

    shown = Route(
        "/docs",
        documentation,
        "This page",
        tag="documentation",
        reach=Reach.SAME,
        lane=Lane.ASIDE,
        content_type=HTML,
    )
    return (found, shown)


_STATUS: Mapping[int, str] = {
    400: "A parameter is missing or malformed",
    401: "A token is needed",
    403: "The caller may not do this",
    404: "There is no such thing",
    422: "The query cannot be carried out",
    503: "Out of time, too busy, or not ready; try again",
}


def _form(parameters: list[Any]) -> dict[str, Any]:
    properties = {
        each.name: {**each.schema, "description": each.description} for each in parameters
    }
    return {"schema": {"type": "object", "properties": properties}}


def _schema(schema: Schema) -> dict[str, Any]:
    return {"schema": dict(schema)} if schema else {}
