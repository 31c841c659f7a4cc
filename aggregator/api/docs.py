"""The documentation page, rendered here from the OpenAPI document; it loads nothing from afar."""

import re
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

import jinja2
import orjson

from aggregator.api.exchange import HTML, JSON, TEXT, Access, Lane, Reply, Request, Route, Schema
from aggregator.api.schemas import ERROR

_STYLE_PATH = "/docs/style.css"
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
        "description": f"{route.description} Open to {route.access.value}.".strip(),
        "tags": [route.tag],
    }


def routes(openapi: Callable[[], Mapping[str, Any]]) -> tuple[Route, ...]:
    """Return the paths of the documentation; *openapi* builds the document when it is asked for."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("aggregator.api"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = resources.files("aggregator.api").joinpath("templates/docs.css").read_bytes()

    def page(_request: Request) -> Reply:
        template = environment.get_template("docs.html")
        html = template.render(document=openapi(), style=_STYLE_PATH, methods=_METHODS)
        return Reply(html.encode(), content_type=HTML)

    def document(_request: Request) -> Reply:
        return Reply(orjson.dumps(openapi()))

    def stylesheet(_request: Request) -> Reply:
        return Reply(style, content_type="text/css; charset=utf-8")

    return (
        Route("/docs", page, "This page", tag="documentation", lane=Lane.ASIDE, content_type=HTML),
        Route("/openapi.json", document, "The OpenAPI document", tag="documentation",
              lane=Lane.ASIDE, schema={"type": "object"}),
        Route(_STYLE_PATH, stylesheet, "How the documentation looks", tag="documentation",
              lane=Lane.EVENT_LOOP, content_type="text/css; charset=utf-8"),
    )  # fmt: skip


_METHODS = ("get", "post", "delete")
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
