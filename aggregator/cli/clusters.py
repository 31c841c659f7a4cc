"""`aggregator clusters`: the clusters a running server watches."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from aggregator.cli import output
from aggregator.cli.options import SERVER, ServerUrl, TokenFile
from aggregator.cli.output import Format
from aggregator.client.connection import Connection

_COLUMNS = ("cluster", "region", "state", "age", "series", "error")


def clusters(
    region: Annotated[str, typer.Option(help="Only the clusters of this region.")] = "",
    format: Annotated[Format, typer.Option("-o", "--output")] = Format.TABLE,  # noqa: A002  the option's value
    server: ServerUrl = SERVER,
    token_file: TokenFile = None,
) -> int:
    """List the clusters: region, state, age of their data, last error."""
    with Connection(server, token_file=token_file) as connection:
        answer = connection.fleet("clusters", {"region": region} if region else None)
    output.warn(answer.warnings)
    rows = [_row(cluster) for cluster in answer.document["clusters"]]
    match format:
        case Format.JSON:
            output.json(answer.document)
        case Format.CSV:
            output.comma_separated(_COLUMNS, rows)
        case Format.TABLE:
            output.table(_COLUMNS, rows)
    return 0


def _row(cluster: Mapping[str, Any]) -> list[str]:
    age = cluster["age_seconds"]
    return [
        str(cluster["cluster"]),
        str(cluster["region"]),
        str(cluster["state"]),
        "-" if age is None else _age(age),
        str(sum(cluster.get("series", {}).values())),
        str(cluster["error"]),
    ]


def _age(seconds: float) -> str:
    """Return an age as people say it: `12 s`, `4 min`, `3 h`, `2 d`."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
