"""`aggregator serve`: the server itself."""

import queue
import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from aggregator.cli.options import server_packages

_LOOK_SECONDS = 2.0

ConfigFile = Annotated[
    Path, typer.Option("--config", "-c", metavar="FILE", help="The configuration.")
]
DEFAULT_FILE = Path("fleet.yaml")


def serve(
    config: ConfigFile = DEFAULT_FILE,
    log_json: Annotated[bool, typer.Option("--log-json", help="Log JSON lines.")] = False,
) -> int:
    """Collect the fleet and answer queries until stopped; SIGHUP reloads the configuration."""
    with server_packages():
        from aggregator.cli.logging import configure_logging
    configure_logging(json=log_json)
    return run(config)


def run(file: Path) -> int:
    """Serve the configuration in *file* until SIGTERM or SIGINT. Logging is set up already."""
    with server_packages():
        import structlog

        from aggregator.config.load import load_config
        from aggregator.config.watch import ConfigWatch
        from aggregator.runtime import Runtime
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()

    def remember(number: int, _frame: FrameType | None) -> None:
        signals.put(number)

    for watched in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(watched, remember)
    log = structlog.get_logger(__name__)
    loaded = load_config(file)
    watch = ConfigWatch(file, loaded)
    runtime = Runtime(loaded.config, file.parent)
    try:
        runtime.start()
        log.info("serving", address=loaded.config.api.external_address, config=str(file))
        while True:
            try:
                number = signals.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                if watch.changed():
                    watch.reload(runtime.apply)
                continue
            if number != signal.SIGHUP:
                break
            watch.reload(runtime.apply)
        log.info("stopping")
    finally:
        runtime.stop()
    return 0
