"""Finds out what an endpoint is, and that it holds one cluster: else every sum would be of all."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from aggregator.collect.bisect import PING_SECONDS
from aggregator.errors import SourceError, SourceRejectedError, SourceUnreachableError
from aggregator.fleet.registry import Cluster
from aggregator.profile.answer import Labels, parsed_labels
from aggregator.sources.failures import clean_text
from aggregator.sources.prometheus import PrometheusSource

SHARED = "shared_endpoint"
_CHECK_MS = 86_400_000
_RETRY_MS = 60_000
# External labels that tell clusters apart, in the order in which they are believed.
_LABELS = ("cluster", "cluster_name", "k8s_cluster_name", "kubernetes_cluster", "cluster_id")
_SHOWN = 10


@dataclass(slots=True)
class Endpoint:
    """What is known of one cluster's endpoint; it is looked at at first and then daily."""

    cluster: Cluster
    _checked_ms: int = 0
    _wait_ms: int = 0
    _refusal: SourceRejectedError | None = None

    def check(self, source: PrometheusSource, time_ms: int, now_ms: int) -> None:
        """Find out what answers, and raise `SourceRejectedError` if that is several clusters.

        With a selector it may be. Raises `SourceUnreachableError` as well; what the server refuses
        to say is not held against it.
        """
        if not 0 <= now_ms - self._checked_ms < self._wait_ms:
            found = source.find_dialect(PING_SECONDS)
            shared = self.cluster.prometheus.selector == ""
            self._refusal = self._look(source, time_ms) if shared else None
            self._checked_ms = now_ms
            self._wait_ms = _CHECK_MS if found and self._refusal is None else _RETRY_MS
        if self._refusal is not None:
            raise self._refusal

    def _look(self, source: PrometheusSource, time_ms: int) -> SourceRejectedError | None:
        expr = f"count by ({', '.join(_LABELS)}) (up)"
        try:
            answer = source.instant(expr, time_ms, timeout_seconds=PING_SECONDS)
        except SourceUnreachableError:
            raise
        except SourceError:
            return None
        rows = [labels for labels in parsed_labels(answer.metrics or ()) if labels is not None]
        for label in _LABELS:
            values = _values(rows, label)
            if values:
                return SourceRejectedError(self.cluster.name, _message(label, values), kind=SHARED)
        return None


def _values(rows: Sequence[Labels], label: str) -> list[str]:
    """Return the values of *label* that stand for several clusters, most rows first.

    `cluster` is what everybody calls it. The other labels count if every target has them: a
    Prometheus of one cluster may watch exporters that speak of clusters of their own.
    """
    found = Counter(row.get(label, "") for row in rows)
    without = found.pop("", 0)
    if len(found) < 2 or (without and label != _LABELS[0]):
        return []
    return [value for value, _ in found.most_common()]


def _message(label: str, values: Sequence[str]) -> str:
    shown = ", ".join(f'"{clean_text(value, 60)}"' for value in sorted(values[:_SHOWN]))
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return (
        f"several clusters are behind this endpoint: {label} is {shown}{more}; "
        f"set prometheus.selector, for example '{label}=\"…\"'"
    )
