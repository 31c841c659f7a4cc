"""Prometheus's HTTP API over the central store."""

import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import numpy as np
import orjson

from aggregator import __version__
from aggregator.api import encode, schemas
from aggregator.api.errors import bad_data, bad_parameter
from aggregator.api.exchange import Parameter, Reply, Request, Route, Schema
from aggregator.api.paths import label_name
from aggregator.api.times import MAX_MS, MIN_MS, parse_step_ms, parse_time_ms
from aggregator.errors import QuerySyntaxError
from aggregator.model.labels import LabelTable, Matcher
from aggregator.model.stepmatrix import StepMatrix, StepRange
from aggregator.promql.context import Read
from aggregator.promql.engine import Engine
from aggregator.promql.parse import parse_selector
from aggregator.promql.result import QueryResult, ResultKind
from aggregator.store.interface import LabelReader, SeriesReader

PREFIX: Final = "/prometheus/api/v1"
# What we behave as; clients choose features by it.
COMPATIBLE_VERSION: Final = "3.5.0"
_CUT = "results truncated due to limit"

_READ = ("GET", "POST")
_QUERY = Parameter("query", "PromQL expression", required=True, example="up")
_TIME = "seconds since 1970, or RFC 3339"
_START = Parameter("start", f"first time, {_TIME}")
_END = Parameter("end", f"last time, {_TIME}")
_MATCH = Parameter("match[]", "series selector; several are joined by or", repeated=True)
_LIMIT = Parameter("limit", "most entries to return, 0 for all", kind="integer")
_OPTIONS = (
    _LIMIT,
    Parameter("timeout", "most time the query may take, as 30s or seconds"),
    Parameter("lookback_delta", "how far back a sample counts, as 5m or seconds"),
    Parameter("stats", "all: add how much was read, and how long it took"),
)


class Catalog(SeriesReader, LabelReader, Protocol):
    """The part of a store that label and series answers need."""


class PrometheusApi:
    """Handlers of the Prometheus API. *freshness* words what the data read by a query lacks."""

    def __init__(
        self,
        engine: Engine,
        store: Catalog,
        freshness: Callable[[Sequence[Read], int], Sequence[str]],
        now_ms: Callable[[], int],
    ) -> None:
        self._engine, self._store = engine, store
        self._freshness, self._now_ms = freshness, now_ms

    def routes(self) -> tuple[Route, ...]:
        """Return every path."""
        step = Parameter("step", "distance of points, as 30s or seconds", required=True)
        span = (
            Parameter("start", f"first time, {_TIME}", required=True),
            Parameter("end", f"last time, {_TIME}", required=True),
        )
        moment = Parameter("time", f"when to evaluate, {_TIME}; now if left out")
        name = Parameter("name", "label name; in the U__ form if not a plain one", required=True)
        catalog = (_MATCH, _START, _END, _LIMIT)
        query = (422, 503)
        return (
            _route("query", self.query, "Evaluate at one time", (_QUERY, moment, *_OPTIONS),
                   schema=schemas.RESULT, errors=query),
            _route("query_range", self.query_range, "Evaluate over a range of time",
                   (_QUERY, *span, step, *_OPTIONS), schema=schemas.RESULT, errors=query),
            _route("series", self.series, "Label sets of the series that match", catalog,
                   schema=schemas.LABEL_SETS),
            _route("labels", self.labels, "Label names", catalog, schema=schemas.STRINGS),
            _route("label/{name}/values", self.label_values, "Values of a label",
                   (name, *catalog), schema=schemas.STRINGS, methods=("GET",)),
            _route("status/buildinfo", self.build_info, "What this server is", (),
                   schema=schemas.BUILD, methods=("GET",)),
        )  # fmt: skip

    def query(self, request: Request) -> Reply:
        """Answer an instant query."""
        began = time.perf_counter()
        now_ms = self._now_ms()
        limit = _limit(request)
        text = request.first("time")
        try:
            time_ms = parse_time_ms(text) if text else now_ms
        except ValueError as error:
            message = f"Invalid time value for 'time': {error}"
            raise bad_parameter("time", message) from error
        lookback_ms = _options(request)
        try:
            result = self._engine.instant(
                request.first("query"), time_ms, request.budget, lookback_ms=lookback_ms
            )
        except QuerySyntaxError as error:
            raise _query_error(error) from error
        return self._result(request, result, limit, now_ms, began)

    def query_range(self, request: Request) -> Reply:
        """Answer a range query."""
        began = time.perf_counter()
        now_ms = self._now_ms()
        limit = _limit(request)
        steps = _steps(request)
        lookback_ms = _options(request)
        try:
            result = self._engine.range(
                request.first("query"), steps, request.budget, lookback_ms=lookback_ms
            )
        except QuerySyntaxError as error:
            raise _query_error(error) from error
        return self._result(request, result, limit, now_ms, began)

    def series(self, request: Request) -> Reply:
        """Answer with the label sets of the series that match."""
        limit = _limit(request)
        texts = request.all("match[]")
        if not texts:
            raise bad_data("no match[] parameter provided")
        start_ms, end_ms = _span(request)
        try:
            selectors = [parse_selector(text) for text in texts]
        except QuerySyntaxError as error:
            raise bad_parameter("match[]", error) from error
        strings = self._store.strings()
        found = [self._store.select(selector, start_ms, end_ms, strings) for selector in selectors]
        request.budget.check()
        table = LabelTable.concat([selection.labels for selection in found], strings)
        _, first = np.unique(
            np.concatenate([selection.ids for selection in found]), return_index=True
        )
        request.budget.spend_series(first.size)
        cut = 0 < limit < first.size
        data = encode.label_sets(table.take(first), limit or first.size)
        return self._listed(request, data, selectors, cut)

    def labels(self, request: Request) -> Reply:
        """Answer with the label names."""
        limit = _limit(request)
        start_ms, end_ms = _span(request)
        selectors = _selectors(request)
        names = self._store.label_names(selectors, start_ms, end_ms)
        return self._strings(request, names, selectors, limit)

    def label_values(self, request: Request) -> Reply:
        """Answer with the values of a label."""
        name = label_name(request.path["name"])
        if name is None:
            raise bad_data(f'invalid label name: "{request.path["name"]}"')
        limit = _limit(request)
        start_ms, end_ms = _span(request)
        selectors = _selectors(request)
        values = self._store.label_values(name, selectors, start_ms, end_ms)
        return self._strings(request, values, selectors, limit)

    def build_info(self, _request: Request) -> Reply:
        """Answer with what we are; without `features`, which would make Grafana ask for more."""
        build = {
            "version": COMPATIBLE_VERSION,
            "revision": f"fleet-aggregator-{__version__}",
            "branch": "",
            "buildUser": "",
            "buildDate": "",
            "goVersion": "",
        }
        return Reply(_envelope(orjson.dumps(build), (), ()))

    def _result(
        self, request: Request, result: QueryResult, limit: int, now_ms: int, began: float
    ) -> Reply:
        body, cut = _rendered(result, limit, request)
        stats = _stats(request, time.perf_counter() - began) if request.first("stats") else b""
        kind = result.kind.value.encode()
        data = b"".join((b'{"resultType":"', kind, b'","result":', body, stats, b"}"))
        warnings = [*result.warnings, *self._freshness(result.reads, now_ms)]
        return Reply(_envelope(data, [*warnings, *([_CUT] if cut else [])], result.infos))

    def _strings(
        self,
        request: Request,
        texts: Sequence[str],
        selectors: Sequence[Sequence[Matcher]],
        limit: int,
    ) -> Reply:
        data = orjson.dumps(texts[: limit or None])
        return self._listed(request, data, selectors, 0 < limit < len(texts))

    def _listed(
        self, request: Request, data: bytes, selectors: Sequence[Sequence[Matcher]], cut: bool
    ) -> Reply:
        now_ms = self._now_ms()
        start_ms, end_ms = _span(request)
        reads = [Read(tuple(each), start_ms, min(end_ms, now_ms)) for each in selectors or ((),)]
        warnings = self._freshness(reads, now_ms)
        return Reply(_envelope(data, [*warnings, *([_CUT] if cut else [])], ()))


def _route(
    path: str,
    handler: Callable[[Request], Reply],
    summary: str,
    parameters: tuple[Parameter, ...],
    *,
    schema: Schema,
    methods: tuple[str, ...] = _READ,
    errors: tuple[int, ...] = (422, 503),
) -> Route:
    return Route(
        f"{PREFIX}/{path}",
        handler,
        summary,
        tag="prometheus",
        methods=methods,
        parameters=parameters,
        schema=schema,
        errors=errors,
    )


def _rendered(result: QueryResult, limit: int, request: Request) -> tuple[bytes, bool]:
    """Return the `result` part of an answer, and whether *limit* cut it."""
    if result.ranges is not None:
        return encode.ranges(result.ranges.labels, result.ranges.samples, request.budget), False
    if result.kind in (ResultKind.STRING, ResultKind.SCALAR):
        stamp = encode.second(result.steps.start_ms)
        value = (
            orjson.dumps(result.text).decode()
            if result.matrix is None
            else f'"{encode.number(float(result.matrix.values[0, 0]))}"'
        )
        return f"[{stamp},{value}]".encode(), False
    if result.matrix is None:
        return b"[]", False
    matrix, cut = _limited(result.matrix, limit)
    if result.kind is ResultKind.VECTOR:
        return encode.vector(matrix, result.steps.start_ms, request.budget), cut
    return encode.matrix(matrix, result.steps.times(), request.budget), cut


def _limited(matrix: StepMatrix, limit: int) -> tuple[StepMatrix, bool]:
    """Return at most *limit* (0: all) of the series that have a point, and whether any is cut."""
    rows = np.flatnonzero(matrix.present.any(axis=1))
    if not 0 < limit < rows.size:
        return matrix, False
    rows = rows[:limit]
    kept = StepMatrix(
        matrix.series.take(rows), matrix.values[rows], matrix.present[rows], matrix.drop_name[rows]
    )
    return kept, True


def _stats(request: Request, seconds: float) -> bytes:
    samples = {
        "totalQueryableSamples": request.budget.samples,
        "peakSamples": request.budget.peak_samples,
    }
    timings = {"evalTotalTime": seconds, "execTotalTime": seconds}
    return b',"stats":' + orjson.dumps({"timings": timings, "samples": samples})


def _envelope(data: bytes, warnings: Sequence[str], infos: Sequence[str]) -> bytes:
    parts = [b'{"status":"success","data":', data]
    if warnings:
        parts += [b',"warnings":', orjson.dumps(list(dict.fromkeys(warnings)))]
    if infos:
        parts += [b',"infos":', orjson.dumps(list(infos))]
    return b"".join((*parts, b"}"))


def _query_error(error: QuerySyntaxError) -> Exception:
    """Return the error of a query: what has a place in the text is the parameter's fault."""
    text = str(error)
    return bad_parameter("query", text) if text[:1].isdigit() else bad_data(text)


def _limit(request: Request) -> int:
    text = request.first("limit")
    if not text:
        return 0
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise bad_parameter("limit", f'"{text}" is not a number from 0')
    return int(text)


def _options(request: Request) -> int | None:
    """Apply `timeout` to the budget and return `lookback_delta` in ms, None if left out."""
    timeout, lookback = request.first("timeout"), request.first("lookback_delta")
    if timeout:
        request.budget.lower_timeout(_duration("timeout", timeout) / 1000)
    if not lookback:
        return None
    lookback_ms = _duration("lookback_delta", lookback)
    if lookback_ms <= 0:
        raise bad_parameter("lookback_delta", "it must be positive")
    return lookback_ms


def _steps(request: Request) -> StepRange:
    start_ms, end_ms = _time(request, "start"), _time(request, "end")
    if end_ms < start_ms:
        raise bad_parameter("end", "end timestamp must not be before start time")
    step_ms = _duration("step", request.first("step"))
    if step_ms <= 0:
        raise bad_parameter(
            "step",
            "zero or negative query resolution step widths are not accepted. "
            "Try a positive integer",
        )
    return StepRange.between(start_ms, end_ms, step_ms)


def _span(request: Request) -> tuple[int, int]:
    """Return the time range of a label or series request; all time if left out."""
    start_ms = _time(request, "start") if request.first("start") else MIN_MS
    end_ms = _time(request, "end") if request.first("end") else MAX_MS
    if end_ms < start_ms:
        raise bad_parameter("end", "end timestamp must not be before start time")
    return start_ms, end_ms


def _selectors(request: Request) -> list[tuple[Matcher, ...]]:
    try:
        return [parse_selector(text) for text in request.all("match[]")]
    except QuerySyntaxError as error:
        raise bad_data(str(error)) from error


def _time(request: Request, name: str) -> int:
    try:
        return parse_time_ms(request.first(name))
    except ValueError as error:
        raise bad_parameter(name, error) from error


def _duration(name: str, text: str) -> int:
    try:
        return parse_step_ms(text)
    except ValueError as error:
        raise bad_parameter(name, error) from error
