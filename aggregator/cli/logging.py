"""How the server's log looks: one line an event on standard error, key=value or JSON.

Tracebacks show code, never the values of variables: these include secrets.
"""

import logging
import sys

import structlog

from aggregator.cli.output import printable


def configure_logging(*, json: bool) -> None:
    """Send our events and the libraries' warnings to standard error."""
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        stamp,
        _on_one_line,
    ]
    render: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if json
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s [%(levelname)s] %(message)s"
    )
    # A missed run is a fact we count ourselves; the library's own line adds nothing.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)


def _on_one_line(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Write out what would start a new line or act on a terminal: clusters choose label values."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = printable(value)
    return event
