"""The command line as a whole: its commands, its exit status, its errors."""

import sys

import click
import typer

from aggregator import __version__
from aggregator.cli import clusters, query
from aggregator.errors import AggregatorError, ConfigError, QuerySyntaxError

FINE, PROBLEMS, MISUSED = 0, 1, 2

app = typer.Typer(
    name="aggregator",
    help="Observability of a whole fleet of Kubernetes clusters in one place.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("query")(query.query)
app.command("clusters")(clusters.clusters)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 0 if all is fine, 1 for problems, 2 for wrong use."""
    try:
        result = app(args=arguments, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (ConfigError, QuerySyntaxError) as error:
        print(f"error: {error}", file=sys.stderr)
        return MISUSED
    except AggregatorError as error:
        print(f"error: {error}", file=sys.stderr)
        return PROBLEMS
    except (KeyboardInterrupt, click.Abort):
        return 130
    return result if isinstance(result, int) else FINE


@app.callback(invoke_without_command=True)
def _options(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        print(f"fleet-aggregator {__version__}")
        raise typer.Exit
