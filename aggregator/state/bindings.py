"""Which candidate serves each fleet metric in each cluster, so that a restart need not probe."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import column, delete, select, table
from sqlalchemy.dialects.sqlite import insert

from aggregator.state.database import Database

_TABLE = table(
    "bindings",
    column("cluster"),
    column("metric"),
    column("candidates"),
    column("quality"),
    column("reason"),
    column("probed_ms"),
    column("standing"),
    column("since_ms"),
    column("previous"),
)


class Standing(StrEnum):
    """What is known of a metric in a cluster: served, or why not."""

    BOUND = "bound"
    NOT_NOW = "not_now"  # a candidate had data within the last hour
    NEVER = "never"
    FAILED = "failed"  # the cluster could not be asked


@dataclass(frozen=True, slots=True)
class Binding:
    """The candidates that serve a metric, in order of precedence; none if nothing has data.

    `reason` says why there is none. `since_ms` is when these candidates took over, and `previous`
    are those from which they did.
    """

    metric: str
    candidates: tuple[str, ...]
    quality: str
    reason: str
    probed_ms: int
    standing: Standing = Standing.BOUND
    since_ms: int = 0
    previous: tuple[str, ...] = ()


class Bindings:
    """The bindings of all clusters. Any thread may use it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._bindings: dict[str, dict[str, Binding]] = {}
        with database.transaction() as connection:
            for row in connection.execute(select(_TABLE)):
                self._bindings.setdefault(row.cluster, {})[row.metric] = Binding(
                    row.metric,
                    tuple(row.candidates.split()),
                    row.quality,
                    row.reason,
                    row.probed_ms,
                    Standing(row.standing),
                    row.since_ms,
                    tuple(row.previous.split()),
                )

    def of(self, cluster: str) -> dict[str, Binding]:
        """Return a cluster's bindings by metric."""
        with self._lock:
            return dict(self._bindings.get(cluster, {}))

    def save(self, cluster: str, bindings: Sequence[Binding]) -> None:
        """Keep *bindings*, replacing those of the same metrics, in one transaction."""
        if not bindings:
            return
        rows = [
            {
                "cluster": cluster,
                "metric": binding.metric,
                "candidates": " ".join(binding.candidates),
                "quality": binding.quality,
                "reason": binding.reason,
                "probed_ms": binding.probed_ms,
                "standing": binding.standing.value,
                "since_ms": binding.since_ms,
                "previous": " ".join(binding.previous),
            }
            for binding in bindings
        ]
        with self._lock, self._database.transaction() as connection:
            connection.execute(insert(_TABLE).prefix_with("OR REPLACE"), rows)
            known = self._bindings.setdefault(cluster, {})
            known.update({binding.metric: binding for binding in bindings})

    def forget(self, cluster: str) -> None:
        """Drop a cluster that left the registry."""
        with self._lock, self._database.transaction() as connection:
            connection.execute(delete(_TABLE).where(_TABLE.c.cluster == cluster))
            self._bindings.pop(cluster, None)
