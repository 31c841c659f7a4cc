"""The Python client of a running aggregator; needs none of the server's packages.

    from aggregator.client import FleetClient

    with FleetClient("http://localhost:9494") as fleet:
        frame = fleet.query_range("fleet:cluster_cpu_utilisation_ratio", range="1h", step="30s")

Loads pandas only when `FleetClient` is used: the command line talks to a server without it.
"""

from typing import TYPE_CHECKING

from aggregator.errors import QueryError, ServerError

if TYPE_CHECKING:
    from aggregator.client.fleet import FleetClient, FleetInfo, FleetWarning

__all__ = ["FleetClient", "FleetInfo", "FleetWarning", "QueryError", "ServerError"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from aggregator.client import fleet  # noqa: PLC0415  pandas takes most of a second to load

    return getattr(fleet, name)
