"""What a caller whose token has a `match` may know of the fleet itself."""

from collections.abc import Iterable

from aggregator.api.exchange import Request, RequestError
from aggregator.fleet.view import ClusterView
from aggregator.promql.scope import admits

# What the registry says of every series of a cluster.
_OF_A_CLUSTER = frozenset({"cluster", "region"})


def visible(request: Request, views: Iterable[ClusterView]) -> list[ClusterView]:
    """Return those of *views* whose series the caller's match can admit.

    Raises `RequestError` (403) if the match names other labels: whether it admits something of a
    cluster then depends on the data, and the fleet's pages are about what must be there.
    """
    if any(matcher.name not in _OF_A_CLUSTER for matcher in request.scope):
        raise RequestError(
            403, "forbidden", "this token's match is about more than the labels cluster and region"
        )
    return [
        view
        for view in views
        if admits(request.scope, {"cluster": view.cluster, "region": view.region})
    ]
