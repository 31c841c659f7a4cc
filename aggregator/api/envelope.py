"""Prometheus's envelope of a success, and how its paths are described."""

from collections.abc import Callable, Sequence
from typing import Final

import orjson

from aggregator.api.exchange import Parameter, Reach, Reply, Request, Route, Schema

PREFIX: Final = "/prometheus/api/v1"
_READ: Final = ("GET", "POST")
CUT: Final = "results truncated due to limit"


def success(
    *data: bytes | memoryview, warnings: Sequence[str] = (), infos: Sequence[str] = ()
) -> Reply:
    """Return the JSON text whose parts are *data* as a success; each warning comes once."""
    parts = [b'{"status":"success","data":', *data]
    if warnings:
        parts += [b',"warnings":', orjson.dumps(list(dict.fromkeys(warnings)))]
    if infos:
        parts += [b',"infos":', orjson.dumps(list(infos))]
    return Reply(b"".join((*parts, b"}")))


def route(
    path: str,
    handler: Callable[[Request], Reply],
    summary: str,
    parameters: tuple[Parameter, ...],
    *,
    schema: Schema,
    reach: Reach,
    description: str = "",
) -> Route:
    """Return the route of *path* below the API's prefix."""
    return Route(
        f"{PREFIX}/{path}",
        handler,
        summary,
        description,
        tag="prometheus",
        methods=_READ,
        reach=reach,
        parameters=parameters,
        schema=schema,
        errors=(422, 503),
    )
