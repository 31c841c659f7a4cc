"""Reads the label sets of an answer, which a cluster may have made up."""

from collections.abc import Sequence

import orjson

Labels = dict[str, str]

# Prometheus has no such limits of its own; these are wider than what Mimir allows by default.
MAX_VALUE_LENGTH = 4_096
MAX_LABELS = 64

_TEXT = frozenset({str})


def parsed_labels(metrics: Sequence[bytes]) -> list[Labels | None]:
    """Return each JSON object of text to text as a dictionary, None for what is something else."""
    try:
        rows = orjson.loads(b"[%b]" % b",".join(metrics))
    except orjson.JSONDecodeError:
        rows = []
    if len(rows) != len(metrics):  # one of them is broken: find out which
        rows = [_parsed(metric) for metric in metrics]
    return [row if _is_labels(row) else None for row in rows]


def _parsed(metric: bytes) -> object:
    try:
        return orjson.loads(metric)
    except orjson.JSONDecodeError:
        return None


def _is_labels(row: object) -> bool:
    return type(row) is dict and _TEXT.issuperset(map(type, row.values()))
