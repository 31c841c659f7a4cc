"""What the answers look like, as JSON Schema for the OpenAPI document."""

from collections.abc import Mapping

from aggregator.api.exchange import Schema

_STRINGS: Schema = {"type": "array", "items": {"type": "string"}}
_TEXT: Schema = {"type": "string"}
_NUMBER_OR_NULL: Schema = {"type": ["number", "null"]}
_LABELS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_POINT: Schema = {
    "type": "array",
    "description": "seconds since 1970, and the value as text (NaN, +Inf and -Inf included)",
    "items": {"type": ["number", "string"]},
    "minItems": 2,
    "maxItems": 2,
}
_SERIES: Schema = {
    "type": "object",
    "properties": {
        "metric": _LABELS,
        "value": _POINT,
        "values": {"type": "array", "items": _POINT},
    },
    "required": ["metric"],
}


def _object(properties: Mapping[str, Schema], required: tuple[str, ...]) -> Schema:
    return {"type": "object", "properties": dict(properties), "required": list(required)}


def envelope(data: Schema) -> Schema:
    """Return the schema of Prometheus's success envelope around *data*."""
    properties = {
        "status": {"const": "success"},
        "data": data,
        "warnings": _STRINGS,
        "infos": _STRINGS,
    }
    return _object(properties, ("status", "data"))


ERROR: Schema = _object(
    {"status": {"const": "error"}, "errorType": _TEXT, "error": _TEXT},
    ("status", "errorType", "error"),
)
STRINGS = envelope(_STRINGS)
LABEL_SETS = envelope({"type": "array", "items": _LABELS})
BUILD = envelope({"type": "object", "additionalProperties": {"type": "string"}})
RESULT = envelope(
    _object(
        {
            "resultType": {"enum": ["matrix", "vector", "scalar", "string"]},
            "result": {"anyOf": [{"type": "array", "items": _SERIES}, _POINT]},
            "stats": {"type": "object"},
        },
        ("resultType", "result"),
    )
)
METADATA = envelope(
    {
        "type": "object",
        "additionalProperties": {
            "type": "array",
            "items": _object(
                {"type": _TEXT, "help": _TEXT, "unit": _TEXT}, ("type", "help", "unit")
            ),
        },
    }
)
TEXT = envelope(_TEXT)
TREE = envelope({"type": "object", "required": ["type"]})
EXEMPLARS = envelope({"type": "array", "maxItems": 0})
_RANKING: Schema = {
    "type": "array",
    "items": _object({"name": _TEXT, "value": {"type": "integer"}}, ("name", "value")),
}
_RANKINGS = (
    "seriesCountByMetricName",
    "labelValueCountByLabelName",
    "memoryInBytesByLabelName",
    "seriesCountByLabelValuePair",
    "seriesCountByCluster",
)
CARDINALITY = envelope(
    _object(
        {"headStats": {"type": "object"}, **dict.fromkeys(_RANKINGS, _RANKING)},
        ("headStats", *_RANKINGS),
    )
)
ALERTS = envelope(_object({"alerts": {"type": "array", "items": {"type": "object"}}}, ("alerts",)))
RULES = envelope(
    _object(
        {
            "groups": {"type": "array", "items": {"type": "object"}},
            "groupNextToken": _TEXT,
        },
        ("groups",),
    )
)
_SOURCE: Schema = _object(
    {
        "cluster": _TEXT,
        "region": _TEXT,
        "state": {
            "enum": ["ok", "late", "missing", "unreachable", "maintenance", "never"],
        },
        "data_until": _NUMBER_OR_NULL,
        "age_seconds": _NUMBER_OR_NULL,
        "error": _TEXT,
    },
    ("cluster", "region", "state", "data_until", "age_seconds", "error"),
)
_SOURCES: Schema = {"type": "array", "items": _SOURCE}
_COVERAGE: Schema = _object(
    {"served": {"type": "integer"}, "metrics": {"type": "integer"}}, ("served", "metrics")
)
_CLUSTER: Schema = {
    "type": "object",
    "properties": {"coverage": _COVERAGE},
    "required": ["cluster", "region", "state", "coverage"],
}
CLUSTERS = _object(
    {"clusters": {"type": "array", "items": _CLUSTER}, "sources": _SOURCES},
    ("clusters", "sources"),
)
CLUSTER = _object({"cluster": _CLUSTER, "sources": _SOURCES}, ("cluster", "sources"))
GAPS = _object(
    {"gaps": {"type": "array", "items": {"type": "object"}}, "sources": _SOURCES},
    ("gaps", "sources"),
)
