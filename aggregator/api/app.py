"""Puts the HTTP interface together from what it is given."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import fastapi
from fastapi.responses import Response

from aggregator import __version__
from aggregator.api import docs, health, syntax
from aggregator.api.alerting import AlertingApi
from aggregator.api.auth import Authenticator
from aggregator.api.edge import Edge
from aggregator.api.exchange import Route
from aggregator.api.fleet import FleetApi
from aggregator.api.gate import Gate
from aggregator.api.prometheus import Catalog, PrometheusApi
from aggregator.api.scope import Freshness
from aggregator.api.settings import ApiSettings
from aggregator.api.status import Metadata, StatusApi
from aggregator.fleet.view import ClusterView
from aggregator.promql.engine import Engine
from aggregator.rules.runner import GroupReport

_TAGS = {
    "prometheus": "Prometheus's HTTP API over the central store.",
    "fleet": "What the fleet is and how fresh its data is. Every answer names its sources.",
    "pages": "What people open in a browser.",
    "health": "Whether this process is well.",
    "documentation": "This documentation.",
}
_DESCRIPTION = (
    "Metrics of every cluster of the fleet in one place. Where tokens are configured, a request "
    "carries the header Authorization: Bearer TOKEN. Errors are JSON: status, errorType, error."
)


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What the interface answers from.

    *freshness* words what the data read by a query lacks; *clusters* returns the state of every
    registered cluster; *waiting* says, from memory, what readiness waits for;
    *metadata* is what is known of metrics, and *rules* the last evaluation of every group;
    *routes* are further pages, which get the same access checks; *docs_page* renders the OpenAPI
    document as a page.
    """

    settings: ApiSettings
    engine: Engine
    store: Catalog
    freshness: Freshness
    clusters: Callable[[], Sequence[ClusterView]]
    waiting: Callable[[], Sequence[str]]
    now_ms: Callable[[], int]
    metadata: Callable[[], Mapping[str, Sequence[Metadata]]] = dict
    rules: Callable[[], Sequence[GroupReport]] = tuple
    routes: Sequence[Route] = ()
    docs_page: Callable[[Mapping[str, Any]], bytes] | None = None


def create_app(dependencies: Dependencies) -> Gate:
    """Return the application. Raises `ConfigError` for a token that cannot be read."""
    settings = dependencies.settings
    authenticator = Authenticator(settings)
    edge = Edge(settings, authenticator)
    app = fastapi.FastAPI(
        title="fleet aggregator",
        version=__version__,
        description=_DESCRIPTION,
        openapi_tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
        lifespan=edge.lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )

    @cache
    def openapi() -> Mapping[str, Any]:
        return app.openapi()

    prometheus = PrometheusApi(
        dependencies.engine, dependencies.store, dependencies.freshness, dependencies.now_ms
    )
    for route in (
        *prometheus.routes(),
        *StatusApi(dependencies.store, dependencies.metadata).routes(),
        *AlertingApi(dependencies.rules).routes(),
        *syntax.routes(),
        *FleetApi(dependencies.clusters).routes(),
        *health.routes(dependencies.waiting),
        *docs.routes(openapi, dependencies.docs_page),
        *dependencies.routes,
    ):
        endpoint = edge.endpoint(route)
        for method in route.methods:
            app.add_api_route(
                route.path,
                endpoint,
                methods=[method],
                response_class=Response,
                response_model=None,
                include_in_schema=method != "HEAD",
                **docs.operation(route, method),
            )
    edge.install(app)
    return Gate(app, authenticator, edge, https=settings.tls is not None)
