"""`aggregator demo`: a simulated fleet to look at, and what happens in it."""

import time
from pathlib import Path
from typing import Annotated

import typer

from aggregator.cli.options import server_packages

_DIRECTORY = Path("data/demo")
_LISTEN = "127.0.0.1:9494"

app = typer.Typer(help="Run a simulated fleet of four clusters and collect it.")
_DATA = typer.Option("--data", metavar="DIR", help="Where the demo lives.")


@app.callback(invoke_without_command=True)
def demo(
    context: typer.Context,
    directory: Annotated[Path, _DATA] = _DIRECTORY,
    listen: Annotated[str, typer.Option(help="Where to serve.")] = _LISTEN,
) -> int:
    """Run a simulated fleet of four clusters in three regions, and collect it."""
    if context.invoked_subcommand is not None:
        context.obj = directory
        return 0
    with server_packages():
        from aggregator.cli.logging import configure_logging
        from aggregator.cli.serve import run
        from aggregator.demo.run import DemoFiles, begin_story, simulated_fleet
    configure_logging(json=False)
    files = DemoFiles(directory)
    begin_story(files, int(time.time() * 1000))
    print(f"starting four simulated clusters; the fleet will be at http://{listen}", flush=True)
    with simulated_fleet(files, listen) as config:
        return run(config)


@app.command("scenario")
def scenario(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="europe-slow|calm", help="What to play.")],
    directory: Annotated[Path | None, _DATA] = None,
) -> int:
    """Change what happens in the running demo, from now on."""
    with server_packages():
        from aggregator.demo.run import DemoFiles
        from aggregator.demo.scenario import Scenario, Switch, add_switch
    names = [known.value for known in Scenario]
    if name not in names:
        raise typer.BadParameter(f"choose one of {', '.join(names)}")
    now_ms = int(time.time() * 1000)
    files = DemoFiles(directory or context.obj)
    add_switch(files.switches, Switch(now_ms, Scenario(name)))
    print(f"the demo plays {name} from now on; its effects unfold over some minutes")
    return 0
