"""`aggregator clusters`: the clusters a running server watches, and all about one of them."""

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer

from aggregator.cli import output
from aggregator.cli.options import SERVER, ServerUrl, TokenFile
from aggregator.cli.output import Format
from aggregator.client.connection import Connection

app = typer.Typer(help="The clusters a running server watches.")
_COLUMNS = ("cluster", "region", "state", "age", "coverage", "series", "error")
_METRIC_COLUMNS = ("metric", "group", "state", "candidates", "quality", "age", "reason")
_SUBJECT_COLUMNS = ("data", "state", "age", "note")


@app.callback(invoke_without_command=True)
def clusters(
    context: typer.Context,
    region: Annotated[str, typer.Option(help="Only the clusters of this region.")] = "",
    format: Annotated[Format, typer.Option("-o", "--output")] = Format.TABLE,  # noqa: A002  the option's value
    server: ServerUrl = SERVER,
    token_file: TokenFile = None,
) -> int:
    """List the clusters: region, state, age of their data, last error."""
    if context.invoked_subcommand is not None:  # options may stand before `show` too
        place = {"server": server, "token_file": token_file}
        context.default_map = {context.invoked_subcommand: place}
        return 0
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


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the cluster.")],
    format: Annotated[Format, typer.Option("-o", "--output")] = Format.TABLE,  # noqa: A002  the option's value
    server: ServerUrl = SERVER,
    token_file: TokenFile = None,
) -> int:
    """Show one cluster: the state of each part of its data, what serves each metric, gaps."""
    with Connection(server, token_file=token_file) as connection:
        answer = connection.fleet(f"clusters/{quote(name, safe='')}")
    cluster = answer.document["cluster"]
    subjects = [
        [str(each["subject"]), str(each["state"]), _known_age(each), str(each["note"])]
        for each in cluster["subjects"]
    ]
    bindings = [_metric(each) for each in cluster["bindings"]]
    groups = [[str(name), _share(each)] for name, each in cluster["groups"].items()]
    dropped = [[str(each["subject"]), str(each["text"])] for each in cluster["dropped"]]
    gaps = [
        [
            str(each["subject"]),
            output.clock(each["start"]),
            output.clock(each["end"]),
            each["reason"],
        ]
        for each in cluster["gaps"]
    ]
    match format:
        case Format.JSON:
            output.json(answer.document)
        case Format.CSV:
            output.comma_separated(_SUBJECT_COLUMNS, subjects)
        case Format.TABLE:
            output.table(_COLUMNS, [_row(cluster)])
            output.warn([cluster["place"]] if cluster.get("place") else [])
            for columns, rows in (
                (_SUBJECT_COLUMNS, subjects),
                (_METRIC_COLUMNS, bindings),
                (("group", "served"), groups),
                (("left out of", "what"), dropped),
                (("gap in", "from", "to", "reason"), gaps),
            ):
                if rows:
                    print()
                    output.table(columns, rows)
    return 0


def _row(cluster: Mapping[str, Any]) -> list[str]:
    return [
        str(cluster["cluster"]),
        str(cluster["region"]),
        str(cluster["state"]),
        _known_age(cluster),
        _share(cluster["coverage"]),
        str(sum(cluster.get("series", {}).values())),
        str(cluster["error"]),
    ]


def _metric(binding: Mapping[str, Any]) -> list[str]:
    reason = str(binding["reason"])
    if binding["previous"]:
        at, before = output.clock(binding["since"]), ", ".join(binding["previous"])
        reason = f"{reason}; " if reason else ""
        reason += f"since {at}, before that {before}"
    return [
        str(binding["metric"]),
        str(binding["group"]),
        str(binding["state"]),
        ", ".join(binding["candidates"]),
        str(binding["quality"]),
        _known_age(binding),
        reason,
    ]


def _share(coverage: Mapping[str, Any]) -> str:
    return f"{coverage['served']}/{coverage['metrics']}"


def _known_age(part: Mapping[str, Any]) -> str:
    return "-" if part["age_seconds"] is None else _age(part["age_seconds"])


def _age(seconds: float) -> str:
    """Return an age as people say it: `12 s`, `4 min`, `3 h`, `2 d`."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
