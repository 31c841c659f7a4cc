"""Exceptions as answers, in the envelope of Prometheus's API; never with a `data` field.

`answer` runs and compresses for every lane, and is the API's last handler: what nobody expected is
logged here with its traceback.
"""

import orjson
import structlog

from aggregator.api.exchange import TEXT, Handler, Reply, Request, RequestError
from aggregator.api.sending import compressed
from aggregator.errors import (
    AggregatorError,
    QueryExecutionError,
    QuerySyntaxError,
    QueryTimeoutError,
)

_LOG = structlog.get_logger(__name__)
INTERNAL = "internal error; the aggregator's log has the details"


def bad_data(message: str) -> RequestError:
    """Return the error for a parameter that cannot be used."""
    return RequestError(400, "bad_data", message)


def bad_parameter(name: str, message: object) -> RequestError:
    """Return the error for the parameter *name*, worded as Prometheus words it."""
    return bad_data(f'invalid parameter "{name}": {message}')


def reply(status: int, kind: str, message: str) -> Reply:
    """Return an error in Prometheus's envelope."""
    document = {"status": "error", "errorType": kind, "error": message}
    return Reply(orjson.dumps(document), status)


def not_routed(path: str, status: int) -> Reply:
    """Return the answer for a path (404) or a method (405) that there is none for."""
    if path.startswith("/prometheus/"):
        text = "404 page not found\n" if status == 404 else "Method Not Allowed\n"
        return Reply(text.encode(), status, TEXT)
    if status == 404:
        return reply(404, "not_found", "no such page; /docs lists what there is")
    return reply(status, "bad_data", "this path does not take this method; see /docs")


def answer(handler: Handler, request: Request, *, gzip: bool) -> Reply:
    """Run *handler*, compress what it answers, and make an answer of whatever it raises."""
    try:
        request.budget.check()
        return compressed(handler(request), gzip=gzip)
    except AggregatorError as error:
        return of(error)
    except Exception:  # noqa: BLE001  the API's last handler: a request must be answered
        _LOG.exception("a request failed unexpectedly")
        return reply(500, "internal", INTERNAL)


def of(error: AggregatorError) -> Reply:
    """Return the answer that an exception of ours stands for."""
    match error:
        case RequestError():
            answered = reply(error.status, error.kind, str(error))
            return Reply(answered.body, answered.status, answered.content_type, error.headers)
        case QuerySyntaxError():
            return reply(400, "bad_data", str(error))
        case QueryExecutionError():
            return reply(422, "execution", str(error))
        case QueryTimeoutError():
            return reply(503, "timeout", str(error))
        case _:
            # its text names our paths and quotes the engine: for the log, not for clients
            _LOG.error("a request failed", error=str(error), kind=type(error).__name__)
            return reply(500, "internal", INTERNAL)
