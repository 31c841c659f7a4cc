"""What a caller whose token has a `match` may know of the fleet itself."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeAlias

from aggregator.api.exchange import Request, RequestError
from aggregator.api.times import MAX_MS, MIN_MS
from aggregator.fleet.view import ClusterView
from aggregator.promql.context import Read
from aggregator.promql.scope import admits
from aggregator.store.interface import LabelReader

# Words what the data read by a query lacks at a time in ms, naming only these clusters, if given.
Freshness: TypeAlias = Callable[[Sequence[Read], int, Collection[str] | None], Sequence[str]]

# What the registry says of every series of a cluster.
_OF_A_CLUSTER = frozenset({"cluster", "region"})


def visible(request: Request, views: Iterable[ClusterView]) -> list[ClusterView]:
    """Return those of *views* whose series the caller's match can admit.

    Raises `RequestError` (403) if the match names other labels: whether it admits something of a
    cluster then depends on the data, and the fleet's pages are about what must be there.
    """
    if _needs_data(request):
        raise RequestError(
            403, "forbidden", "this token's match is about more than the labels cluster and region"
        )
    return [
        view
        for view in views
        if admits(request.scope, {"cluster": view.cluster, "region": view.region})
    ]


def warnings(
    request: Request, freshness: Freshness, store: LabelReader, reads: Sequence[Read], now_ms: int
) -> Sequence[str]:
    """Return what *freshness* says of *reads*, naming only clusters that the caller may know of.

    The match is part of what was read, so its matchers of cluster and region are kept to. Where it
    has others, only clusters with a stored series that it admits are named.
    """
    lines = freshness(reads, now_ms, None)
    if not lines or not _needs_data(request):
        return lines
    known = store.label_values("cluster", [request.scope], MIN_MS, MAX_MS, request.budget)
    return freshness(reads, now_ms, frozenset(known))


def _needs_data(request: Request) -> bool:
    """Tell whether the registry alone cannot say what the caller's match admits."""
    return any(matcher.name not in _OF_A_CLUSTER for matcher in request.scope)
