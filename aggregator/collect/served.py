"""Makes the record of which candidates serve a metric, since when, and what did before."""

from collections.abc import Sequence

import structlog

from aggregator import telemetry
from aggregator.profile.format import Bound, FleetMetric, Quality
from aggregator.state.bindings import Binding, Standing

_LOG = structlog.get_logger(__name__)
_QUALITIES = tuple(Quality)


def binding_record(
    cluster: str,
    metric: FleetMetric,
    items: Sequence[Bound],
    last: Binding | None,
    *,
    old: tuple[str, ...],
    now_ms: int,
    unserved: tuple[Standing, str],
) -> Binding:
    """Return the binding of *metric* to *items*, where the candidates *old* served it until now.

    *unserved* is what to say without items. A change from one candidate to another is logged and
    counted.
    """
    ids = tuple(item.candidate.id for item in items)
    since, previous = (now_ms, old) if last is None else (last.since_ms, last.previous)
    if ids != old:
        since, previous = now_ms, old
        if old:
            _note_move(cluster, metric.name, old, ids)
    standing, reason = (Standing.BOUND, "") if items else unserved
    ranks = [_QUALITIES.index(item.candidate.quality) for item in items]
    quality = str(_QUALITIES[max(ranks)]) if ranks else ""
    return Binding(metric.name, ids, quality, reason, now_ms, standing, since, previous)


def _note_move(cluster: str, metric: str, old: tuple[str, ...], new: tuple[str, ...]) -> None:
    telemetry.BINDING_CHANGES.labels(cluster).inc()
    _LOG.warning(
        "a fleet metric is served by another candidate",
        cluster=cluster,
        metric=metric,
        before=list(old),
        now=list(new),
    )
