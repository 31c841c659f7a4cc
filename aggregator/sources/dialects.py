"""What speaks Prometheus's API and how it differs, as far as that changes what is asked."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

import msgspec

from aggregator.sources.answer import HttpAnswer


class DialectName(StrEnum):
    """What answers; `auto` stands for finding out."""

    AUTO = "auto"
    PROMETHEUS = "prometheus"
    THANOS = "thanos"
    MIMIR = "mimir"
    VICTORIAMETRICS = "victoriametrics"
    GMP = "gmp"
    AZURE = "azure"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a server differs from Prometheus.

    `params` go with every query. A sample can be seen `lag_ms` after its time at the latest. With
    `exact_names` every selector has to name its metric, without a pattern.
    """

    name: DialectName
    params: tuple[tuple[str, str], ...] = ()
    lag_ms: int = 0
    exact_names: bool = False


PROMETHEUS = Dialect(DialectName.PROMETHEUS)
DIALECTS: Mapping[DialectName, Dialect] = {
    dialect.name: dialect
    for dialect in (
        PROMETHEUS,
        # Replicas are one series; a part that does not answer becomes a warning, not an error.
        Dialect(
            DialectName.THANOS,
            params=(("dedup", "true"), ("partial_response", "true")),
        ),
        Dialect(DialectName.MIMIR),
        # Without nocache samples are hidden for 30 s (-search.latencyOffset), and range queries of
        # more than 50 points are aligned to their step. With it 1.79 shows a sample after a second,
        # but a new series after 10 s only.
        Dialect(DialectName.VICTORIAMETRICS, params=(("nocache", "1"),), lag_ms=15_000),
        # Google's selectors have to name one metric. It has no staleness either: what vanished
        # stays in instant vectors for five minutes, and ends here by as much later.
        Dialect(DialectName.GMP, exact_names=True),
        # Its limits are not documented: what Google refuses is not asked here either.
        Dialect(DialectName.AZURE, exact_names=True),
    )
}
_HOSTS = (
    (re.compile(r"(^|\.)monitoring\.googleapis\.com$"), DialectName.GMP),
    (re.compile(r"\.prometheus\.monitor\.azure\.com$"), DialectName.AZURE),
)
_VICTORIAMETRICS_HEADER = "X-Server-Hostname"
_THANOS_VERSION = re.compile(r"0\.\d+\.")


class _Data(msgspec.Struct):
    application: str = ""
    version: str = ""
    revision: str = ""


class _Build(msgspec.Struct):
    data: _Data


def of_address(url: str) -> Dialect | None:
    """Return the dialect of a managed service, by its address alone."""
    host = urlsplit(url).hostname or ""
    return next((DIALECTS[name] for pattern, name in _HOSTS if pattern.search(host)), None)


def of_build(answer: HttpAnswer) -> Dialect:
    """Return what says this of itself at `/api/v1/status/buildinfo`; Prometheus if in doubt.

    VictoriaMetrics pretends to be a Prometheus but for a header; Thanos is at version 0.
    """
    try:
        build = msgspec.json.decode(answer.body, type=_Build).data
    except (ValueError, RecursionError):  # msgspec's own errors are ValueErrors
        build = _Data()
    if "mimir" in build.application.lower():
        return DIALECTS[DialectName.MIMIR]
    if _VICTORIAMETRICS_HEADER in answer.headers:
        return DIALECTS[DialectName.VICTORIAMETRICS]
    if build.revision and _THANOS_VERSION.match(build.version):
        return DIALECTS[DialectName.THANOS]
    return PROMETHEUS
