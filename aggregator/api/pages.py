"""Routes of the web pages and of the overview they refresh from."""

from collections.abc import Callable
from dataclasses import asdict
from enum import Enum

from aggregator.api.exchange import (
    HTML,
    Lane,
    Parameter,
    Reach,
    Reply,
    Request,
    RequestError,
    Route,
    json_reply,
)
from aggregator.diagnose.overview import Overview

_SECONDS_CACHED = 300


def routes(
    overview: Callable[[Request], Overview],
    fleet: Callable[[Overview], bytes],
    static: Callable[[str], tuple[bytes, str] | None],
) -> tuple[Route, ...]:
    """Return the routes.

    *overview* keeps to the scope of the request, *fleet* renders the first page, *static* finds a
    file by its name.
    """

    def page(request: Request) -> Reply:
        return Reply(fleet(overview(request)), content_type=HTML)

    def regions(request: Request) -> Reply:
        return json_reply(_plain(asdict(overview(request))))

    def static_file(request: Request) -> Reply:
        found = static(request.path["name"])
        if found is None:
            raise RequestError(404, "not_found", "no such file")
        cached = {"cache-control": f"max-age={_SECONDS_CACHED}"}
        return Reply(found[0], content_type=found[1], headers=cached)

    return (
        Route("/", page, "The fleet page", tag="pages", content_type=HTML),
        Route(
            "/static/{name:path}",
            static_file,
            "Scripts, styles and images of the pages",
            tag="pages",
            reach=Reach.SAME,
            lane=Lane.EVENT_LOOP,
            parameters=(Parameter("name", "the file", required=True),),
            content_type="application/octet-stream",
        ),
        Route(
            "/api/v1/regions",
            regions,
            "Every region with its clusters, worst first",
            "One sentence about the whole fleet, then each cluster's freshness and the signal "
            "that is in most trouble.",
            reach=Reach.SCOPED,
        ),
    )


def _plain(value: object) -> object:
    """Return *value* with enumerations as their words."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.value if isinstance(value, Enum) else value
