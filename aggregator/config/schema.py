"""The JSON Schema of the configuration, for editors."""

from typing import Any

from aggregator.config.document import FleetConfig
from aggregator.settings import format_duration_ms, format_size


def json_schema() -> dict[str, Any]:
    """Return the schema; defaults of durations and sizes are given as they are written."""
    schema = FleetConfig.model_json_schema()
    for model in (schema, *schema["$defs"].values()):
        for field in model.get("properties", {}).values():
            default = field.get("default")
            if isinstance(default, dict):
                del field["default"]  # the parts have their own
            elif isinstance(default, int) and field.get("type") == "string":
                size = "MiB" in "".join(field["examples"])
                field["default"] = format_size(default) if size else format_duration_ms(default)
    return schema
