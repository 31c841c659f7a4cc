"""Parameters of Prometheus's API: what they are called, and their values as we compute with them.

Whatever cannot be used raises the `RequestError` that Prometheus answers in its place.
"""

from typing import Final

from aggregator.api.errors import bad_data, bad_parameter
from aggregator.api.exchange import Parameter, Request
from aggregator.api.times import MAX_MS, MIN_MS, parse_step_ms, parse_time_ms
from aggregator.errors import QuerySyntaxError
from aggregator.model.labels import Matcher
from aggregator.model.stepmatrix import StepRange
from aggregator.promql.parse import parse_selector

MAX_SELECTORS: Final = 100
_TIME: Final = "seconds since 1970, or RFC 3339"
QUERY: Final = Parameter("query", "PromQL expression", required=True, example="up")
START: Final = Parameter("start", f"first time, {_TIME}")
END: Final = Parameter("end", f"last time, {_TIME}")
FIRST: Final = Parameter("start", f"first time, {_TIME}", required=True, example="1795305600")
LAST: Final = Parameter("end", f"last time, {_TIME}", required=True, example="1795309200")
STEP: Final = Parameter(
    "step", "distance of points, as 30s or seconds", required=True, example="30"
)
MOMENT: Final = Parameter("time", f"when to evaluate, {_TIME}; now if left out")
MATCH: Final = Parameter(
    "match[]", f"series selector; up to {MAX_SELECTORS} are joined by or", repeated=True
)
LIMIT: Final = Parameter("limit", "most entries to return, 0 for all", kind="integer")
OPTIONS: Final = (
    LIMIT,
    Parameter("timeout", "most time the query may take, as 30s or seconds"),
    Parameter("lookback_delta", "how far back a sample counts, as 5m or seconds"),
    Parameter("stats", "all: add how much was read, and how long it took"),
)
CATALOG: Final = (MATCH, START, END, LIMIT)


def limit(request: Request) -> int:
    """Return how many entries are wanted at most, 0 for all."""
    text = request.first("limit")
    if not text:
        return 0
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise bad_parameter("limit", f'"{text}" is not a number from 0')
    return int(text)


def options(request: Request) -> int | None:
    """Apply `timeout` to the budget and return `lookback_delta` in ms, None if left out."""
    timeout, lookback = request.first("timeout"), request.first("lookback_delta")
    if timeout:
        request.budget.lower_timeout(duration_ms("timeout", timeout) / 1000)
    if not lookback:
        return None
    lookback_ms = duration_ms("lookback_delta", lookback)
    if lookback_ms <= 0:
        raise bad_parameter("lookback_delta", "it must be positive")
    return lookback_ms


def moment(request: Request, now_ms: int) -> int:
    """Return the evaluation time of an instant query in ms."""
    text = request.first("time")
    try:
        return parse_time_ms(text) if text else now_ms
    except ValueError as error:
        raise bad_parameter("time", f"Invalid time value for 'time': {error}") from error


def steps(request: Request) -> StepRange:
    """Return the steps of a range query."""
    start_ms, end_ms = time_ms(request, "start"), time_ms(request, "end")
    if end_ms < start_ms:
        raise bad_parameter("end", "end timestamp must not be before start time")
    step_ms = duration_ms("step", request.first("step"))
    if step_ms <= 0:
        raise bad_parameter(
            "step",
            "zero or negative query resolution step widths are not accepted. "
            "Try a positive integer",
        )
    return StepRange.between(start_ms, end_ms, step_ms)


def span(request: Request) -> tuple[int, int]:
    """Return the time range of a label or series request; all time if left out."""
    start_ms = time_ms(request, "start") if request.first("start") else MIN_MS
    end_ms = time_ms(request, "end") if request.first("end") else MAX_MS
    if end_ms < start_ms:
        raise bad_parameter("end", "end timestamp must not be before start time")
    return start_ms, end_ms


def matches(request: Request) -> list[str]:
    """Return the texts of every `match[]`: each is a pass over the label index."""
    texts = request.all("match[]")
    if len(texts) > MAX_SELECTORS:
        raise bad_parameter("match[]", f"more than {MAX_SELECTORS} selectors")
    return texts


def matchers(request: Request) -> list[tuple[Matcher, ...]]:
    """Return the matchers of each `match[]`."""
    try:
        return [parse_selector(text) for text in matches(request)]
    except QuerySyntaxError as error:
        raise bad_data(str(error)) from error


def selectors(request: Request) -> list[tuple[Matcher, ...]]:
    """Return the matchers of each `match[]` within the request's scope; none for everything."""
    found = [(*each, *request.scope) for each in matchers(request)]
    return found or ([request.scope] if request.scope else [])


def time_ms(request: Request, name: str) -> int:
    """Return the time in the parameter *name*, in ms."""
    try:
        return parse_time_ms(request.first(name))
    except ValueError as error:
        raise bad_parameter(name, error) from error


def duration_ms(name: str, text: str) -> int:
    """Return the duration *text* of the parameter *name*, in ms."""
    try:
        return parse_step_ms(text)
    except ValueError as error:
        raise bad_parameter(name, error) from error


def query_error(error: QuerySyntaxError) -> Exception:
    """Return the error of a query: what has a place in the text is the parameter's fault."""
    text = str(error)
    return bad_parameter("query", text) if text[:1].isdigit() else bad_data(text)
