"""`aggregator query`: evaluate PromQL on a running server."""

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from aggregator.cli import output
from aggregator.cli.options import SERVER, ServerUrl, TokenFile
from aggregator.cli.output import Format
from aggregator.client.connection import Connection
from aggregator.client.durations import duration_seconds
from aggregator.errors import ConfigError


def query(  # noqa: PLR0917  typer reads options from parameters
    expression: Annotated[str, typer.Argument(metavar="EXPR", help="PromQL expression.")],
    span: Annotated[
        str | None, typer.Option("--range", metavar="DURATION", help="Look back this far (1h).")
    ] = None,
    step: Annotated[
        str, typer.Option("--step", metavar="DURATION", help="Distance of points with --range.")
    ] = "30s",
    format: Annotated[Format, typer.Option("-o", "--output")] = Format.TABLE,  # noqa: A002  the option's value
    server: ServerUrl = SERVER,
    token_file: TokenFile = None,
) -> int:
    """Evaluate a PromQL expression over the whole fleet."""
    with Connection(server, token_file=token_file) as connection:
        if span is None:
            answer = connection.prometheus("query", {"query": expression})
        else:
            end = time.time()
            start = end - _duration_seconds(span)
            parameters = {"start": f"{start:.3f}", "end": f"{end:.3f}", "step": step}
            answer = connection.prometheus("query_range", {"query": expression, **parameters})
    output.warn((*answer.warnings, *answer.infos))
    data = answer.document["data"]
    match format:
        case Format.JSON:
            output.json(answer.document)
        case Format.CSV:
            output.comma_separated(*_cells(data))
        case Format.TABLE:
            output.table(*_cells(data))
    return 0


def _cells(data: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return a result as columns and rows: labels, time, value; a row a sample."""
    result = data["result"]
    if data["resultType"] in ("scalar", "string"):
        result = [{"metric": {}, "value": result}]
    names = sorted({name for series in result for name in series["metric"]})
    rows = [
        [*(series["metric"].get(name, "") for name in names), output.clock(seconds), value]
        for series in result
        for seconds, value in _points(series)
    ]
    return [*names, "time", "value"], rows


def _points(series: Mapping[str, Any]) -> Sequence[tuple[float, str]]:
    return series["values"] if "values" in series else [series["value"]]


def _duration_seconds(text: str) -> float:
    try:
        return duration_seconds(text)
    except ValueError as error:
        raise ConfigError(str(error)) from error
