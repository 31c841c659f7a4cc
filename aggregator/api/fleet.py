"""The fleet API: the clusters, and what is missing from the store."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Final

import orjson

from aggregator.api import schemas
from aggregator.api.exchange import Parameter, Reach, Reply, Request, RequestError, Route
from aggregator.api.scope import visible
from aggregator.fleet.view import ClusterView

PREFIX: Final = "/api/v1"
# Of one cluster these are everything; of five hundred they would be megabytes.
_DETAILS = frozenset({"subjects", "gaps", "details"})


class FleetApi:
    """Handlers of the fleet API; *views* returns every registered cluster as it is now."""

    def __init__(self, views: Callable[[], Sequence[ClusterView]]) -> None:
        self._views = views

    def routes(self) -> tuple[Route, ...]:
        """Return every path."""
        name = Parameter("name", "name of a cluster", required=True)
        region = Parameter("region", "only the clusters of this region")
        return (
            Route(
                f"{PREFIX}/clusters",
                self.clusters,
                "Every cluster: state, age of its data, coverage, last error",
                reach=Reach.SCOPED,
                parameters=(region,),
                schema=schemas.CLUSTERS,
            ),
            Route(
                f"{PREFIX}/clusters/{{name}}",
                self.cluster,
                "One cluster: subjects, what serves each fleet metric, coverage, gaps",
                reach=Reach.SCOPED,
                parameters=(name,),
                schema=schemas.CLUSTER,
                errors=(404,),
            ),
            Route(
                f"{PREFIX}/gaps",
                self.gaps,
                "What is known to be missing from the store, by cluster and subject",
                reach=Reach.SCOPED,
                parameters=(region,),
                schema=schemas.GAPS,
            ),
        )

    def clusters(self, request: Request) -> Reply:
        """Answer with every cluster, without its details."""
        views = self._chosen(request)
        return _reply(views, "clusters", [_summary(view) for view in views])

    def cluster(self, request: Request) -> Reply:
        """Answer with all there is to know about one cluster."""
        name = request.path["name"]
        for view in visible(request, self._views()):
            if view.cluster == name:
                details = view.details()
                parts = {name: getattr(view, name) for name in ("subjects", "gaps")}
                more = {"bindings": details.bindings, "groups": details.groups}
                return _reply([view], "cluster", {**_summary(view), **parts, **more})
        raise RequestError(404, "not_found", "no cluster of this name in the configuration")

    def gaps(self, request: Request) -> Reply:
        """Answer with the open gaps."""
        views = self._chosen(request)
        gaps = [
            {"cluster": view.cluster, "region": view.region, **asdict(gap)}
            for view in views
            for gap in view.gaps
        ]
        return _reply(views, "gaps", gaps)

    def _chosen(self, request: Request) -> list[ClusterView]:
        region = request.first("region")
        known = visible(request, self._views())
        return [view for view in known if region in ("", view.region)]


def _reply(views: Sequence[ClusterView], name: str, content: object) -> Reply:
    document = {name: content, "sources": [_source(view) for view in views]}
    return Reply(orjson.dumps(document, default=_plain))


def _source(view: ClusterView) -> dict[str, object]:
    return {
        "cluster": view.cluster,
        "region": view.region,
        "state": view.state,
        "data_until": view.data_until,
        "age_seconds": view.age_seconds,
        "error": view.error,
    }


def _summary(view: ClusterView) -> dict[str, object]:
    names = [name for name in ClusterView.__dataclass_fields__ if name not in _DETAILS]
    return {name: getattr(view, name) for name in names}


def _plain(value: object) -> object:
    """Turn what orjson does not know into what it does."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(type(value).__name__)
