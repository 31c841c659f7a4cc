"""Liveness, readiness and our own metrics; none of them waits for a query."""

from collections.abc import Callable, Sequence

from prometheus_client import CONTENT_TYPE_LATEST

from aggregator import telemetry
from aggregator.api.exchange import (
    TEXT,
    Access,
    Handler,
    Lane,
    Reach,
    Reply,
    Request,
    Route,
)

_SHOWN = 10


def routes(waiting: Callable[[], Sequence[str]]) -> tuple[Route, ...]:
    """Return the paths; *waiting* says, from memory, what readiness still waits for."""

    def live(_request: Request) -> Reply:
        return Reply(b"ok\n", content_type=TEXT)

    def ready(request: Request) -> Reply:
        things = waiting()
        if not things:
            return Reply(b"ready\n", content_type=TEXT)
        if request.caller is None or request.scope:  # the names of clusters are not for everybody
            return Reply(b"waiting for %d\n" % len(things), 503, TEXT)
        more = f"\nand {len(things) - _SHOWN} more" if len(things) > _SHOWN else ""
        text = "waiting for:\n" + "\n".join(things[:_SHOWN]) + more + "\n"
        return Reply(text.encode(), 503, TEXT)

    def metrics(_request: Request) -> Reply:
        return Reply(telemetry.render(), content_type=CONTENT_TYPE_LATEST)

    return (
        _probe("/healthz", live, "Whether the process answers"),
        _probe("/readyz", ready, "Whether the store is open and every cluster was tried", (503,)),
        Route(
            "/metrics",
            metrics,
            "Our own metrics in Prometheus's text format",
            tag="health",
            lane=Lane.ASIDE,
            content_type=CONTENT_TYPE_LATEST,
        ),
    )


def _probe(path: str, handler: Handler, summary: str, errors: tuple[int, ...] = ()) -> Route:
    return Route(
        path,
        handler,
        summary,
        tag="health",
        methods=("GET", "HEAD"),
        access=Access.PUBLIC,
        reach=Reach.SAME,
        lane=Lane.EVENT_LOOP,
        content_type=TEXT,
        errors=errors,
    )
