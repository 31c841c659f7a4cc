"""The command line as a whole: its commands, its exit status, its errors."""

import sys
from typing import Annotated

import typer

from aggregator import __version__
from aggregator.cli import clusters, config, demo, query, serve
from aggregator.cli.restart import is_long_lived, restart_tuned
from aggregator.errors import AggregatorError, ConfigError, QuerySyntaxError

FINE, PROBLEMS, MISUSED = 0, 1, 2


def _exit(status: object, **_options: object) -> None:
    """End with the status that a command returned."""
    raise typer.Exit(status if isinstance(status, int) else FINE)


app = typer.Typer(
    name="aggregator",
    help="Observability of a whole fleet of Kubernetes clusters in one place.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    result_callback=_exit,
)
app.command("serve")(serve.serve)
app.add_typer(demo.app, name="demo")
app.add_typer(config.app, name="config")
app.command("query")(query.query)
app.add_typer(clusters.app, name="clusters")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 0 if all is fine, 1 for problems, 2 for wrong use."""
    if arguments is None and is_long_lived(sys.argv[1:]):
        restart_tuned("aggregator", sys.argv[1:])
    try:
        app(args=arguments)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else FINE
    except (ConfigError, QuerySyntaxError) as error:
        print(f"error: {error}", file=sys.stderr)
        return MISUSED
    except AggregatorError as error:
        print(f"error: {error}", file=sys.stderr)
        return PROBLEMS
    return FINE


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(f"fleet-aggregator {__version__}")
        raise typer.Exit
