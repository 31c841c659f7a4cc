"""What this server is and holds: build, metadata of metrics, cardinality."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from aggregator import __version__
from aggregator.api import schemas
from aggregator.api.envelope import route, success
from aggregator.api.errors import bad_data
from aggregator.api.exchange import Parameter, Reach, Reply, Request, Route
from aggregator.store.cardinality import Ranking
from aggregator.store.interface import LabelReader

# What we behave as; clients choose features by it.
COMPATIBLE_VERSION: Final = "3.5.0"
_TOP: Final = 10
_MOST_TOP: Final = 10_000


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a metric is: Prometheus's word for its type, its meaning, and its unit."""

    type: str
    help: str
    unit: str


class StatusApi:
    """Handlers of what is said about the data, not read from it."""

    def __init__(
        self, store: LabelReader, metadata: Callable[[], Mapping[str, Sequence[Metadata]]]
    ) -> None:
        self._store, self._metadata = store, metadata

    def routes(self) -> tuple[Route, ...]:
        """Return every path."""
        return (
            route("metadata", self.metadata, "Types, units and meanings of metrics", (
                Parameter("metric", "only this metric"),
                Parameter("limit", "most metrics to return, 0 for all", kind="integer"),
                Parameter("limit_per_metric", "most entries of one metric, 0 for all",
                          kind="integer"),
            ), schema=schemas.METADATA, reach=Reach.SAME,
                description="Known for fleet metrics, whether there are any, not for copies."),
            route("status/buildinfo", self.build_info, "What this server is", (),
                  schema=schemas.BUILD, reach=Reach.SAME),
            route("status/tsdb", self.cardinality, "How many series there are, and of what", (
                Parameter("limit", f"most entries of each list, {_TOP} if left out",
                          kind="integer"),
            ), schema=schemas.CARDINALITY, reach=Reach.SCOPED),
        )  # fmt: skip

    def metadata(self, request: Request) -> Reply:
        """Answer with what is known of metrics."""
        limit = _whole(request, "limit")
        each = _whole(request, "limit_per_metric")
        known = self._metadata()
        wanted = request.first("metric")
        names = sorted(known.keys() & {wanted} if wanted else known)
        chosen = {name: list(known[name][: each or None]) for name in names[: limit or None]}
        return success(orjson.dumps(chosen))

    def build_info(self, _request: Request) -> Reply:
        """Answer with what we are; without `features`, which would make Grafana ask for more."""
        build = {
            "version": COMPATIBLE_VERSION,
            "revision": f"fleet-aggregator-{__version__}",
            "branch": "",
            "buildUser": "",
            "buildDate": "",
            "goVersion": "",
        }
        return success(orjson.dumps(build))

    def cardinality(self, request: Request) -> Reply:
        """Answer with the number of series, and the names and values that most of them have.

        There are no chunks here, so none are counted.
        """
        limit = _TOP
        if request.first("limit"):
            limit = _whole(request, "limit", message="limit must be a positive number")
        if not 0 < limit <= _MOST_TOP:
            raise bad_data(f"limit must be a positive number up to {_MOST_TOP}")
        found = self._store.cardinality(request.scope, limit, request.budget)
        document = {
            "headStats": {
                "numSeries": found.series,
                "numLabelPairs": found.pairs,
                "chunkCount": 0,
                "minTime": found.first_ms,
                "maxTime": found.last_ms,
            },
            "seriesCountByMetricName": _ranked(found.by_metric),
            "labelValueCountByLabelName": _ranked(found.values_of_label),
            "memoryInBytesByLabelName": _ranked(found.bytes_of_label),
            "seriesCountByLabelValuePair": _ranked(found.by_pair),
            "seriesCountByCluster": _ranked(found.by_cluster),
        }
        return success(orjson.dumps(document))


def _ranked(ranking: Ranking) -> list[dict[str, object]]:
    return [{"name": name, "value": count} for name, count in ranking]


def _whole(request: Request, name: str, message: str = "") -> int:
    """Return a whole number in Prometheus's way; 0 if left out or below, which means no limit."""
    text = request.first(name)
    digits = text.removeprefix("-").removeprefix("+")
    if text and not (digits.isascii() and digits.isdecimal() and len(digits) <= 18):
        raise bad_data(message or f"{name} must be a number")
    return max(0, int(text or "0"))
