"""Prometheus's HTTP API over the central store: queries, label sets, label names and values."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import numpy as np
import orjson

from aggregator.api import encode, parameters, schemas, scope, stats
from aggregator.api.envelope import CUT, route, success
from aggregator.api.errors import bad_data, bad_parameter
from aggregator.api.exchange import Parameter, Reach, Reply, Request, Route
from aggregator.api.labelsets import label_sets
from aggregator.api.paths import label_name
from aggregator.errors import QuerySyntaxError
from aggregator.model.labels import LabelTable, Matcher, Strings
from aggregator.model.stepmatrix import StepMatrix, StepRange
from aggregator.promql.context import Read
from aggregator.promql.engine import Engine
from aggregator.promql.parse import parse_selector
from aggregator.promql.result import QueryResult, ResultKind
from aggregator.store.interface import LabelReader, SeriesReader, SeriesSelection

Selector: TypeAlias = Sequence[Matcher]


class Catalog(SeriesReader, LabelReader, Protocol):
    """The part of a store that label and series answers need."""


class PrometheusApi:
    """Handlers of what reads the store. *freshness* words what the data they read lacks."""

    def __init__(
        self,
        engine: Engine,
        store: Catalog,
        freshness: scope.Freshness,
        now_ms: Callable[[], int],
    ) -> None:
        self._engine, self._store = engine, store
        self._freshness, self._now_ms = freshness, now_ms

    def routes(self) -> tuple[Route, ...]:
        """Return every path."""
        name = Parameter("name", "label name; in the U__ form if not a plain one", required=True)
        instant = (parameters.QUERY, parameters.MOMENT, *parameters.OPTIONS)
        span = (parameters.QUERY, parameters.FIRST, parameters.LAST, parameters.STEP)
        catalog, scoped = parameters.CATALOG, Reach.SCOPED
        return (
            route("query", self.query, "Evaluate at one time", instant,
                  schema=schemas.RESULT, reach=scoped),
            route("query_range", self.query_range, "Evaluate over a range of time",
                  (*span, *parameters.OPTIONS), schema=schemas.RESULT, reach=scoped),
            route("series", self.series, "Label sets of the series that match", catalog,
                  schema=schemas.LABEL_SETS, reach=scoped),
            route("labels", self.labels, "Label names", catalog,
                  schema=schemas.STRINGS, reach=scoped),
            route("label/{name}/values", self.label_values, "Values of a label",
                  (name, *catalog), schema=schemas.STRINGS, reach=scoped),
        )  # fmt: skip

    def query(self, request: Request) -> Reply:
        """Answer an instant query."""
        now_ms = self._now_ms()
        limit = parameters.limit(request)
        time_ms = parameters.moment(request, now_ms)
        lookback_ms = parameters.options(request)
        began = time.perf_counter()
        try:
            result = self._engine.instant(
                request.first("query"),
                time_ms,
                request.budget,
                lookback_ms=lookback_ms,
                scope=request.scope,
            )
        except QuerySyntaxError as error:
            raise parameters.query_error(error) from error
        timing = self._stats(request, result.steps, lookback_ms, time.perf_counter() - began)
        return self._result(request, result, limit, now_ms, timing)

    def query_range(self, request: Request) -> Reply:
        """Answer a range query."""
        now_ms = self._now_ms()
        limit = parameters.limit(request)
        steps = parameters.steps(request)
        lookback_ms = parameters.options(request)
        began = time.perf_counter()
        try:
            result = self._engine.range(
                request.first("query"),
                steps,
                request.budget,
                lookback_ms=lookback_ms,
                scope=request.scope,
            )
        except QuerySyntaxError as error:
            raise parameters.query_error(error) from error
        timing = self._stats(request, steps, lookback_ms, time.perf_counter() - began)
        return self._result(request, result, limit, now_ms, timing)

    def series(self, request: Request) -> Reply:
        """Answer with the label sets of the series that match."""
        limit = parameters.limit(request)
        texts = parameters.matches(request)
        if not texts:
            raise bad_data("no match[] parameter provided")
        start_ms, end_ms = parameters.span(request)
        try:
            selectors = [(*parse_selector(text), *request.scope) for text in texts]
        except QuerySyntaxError as error:
            raise bad_parameter("match[]", error) from error
        strings = self._store.strings()
        found: list[SeriesSelection] = []
        for selector in selectors:
            request.budget.check()
            found.append(self._store.select(selector, start_ms, end_ms, strings, request.budget))
            request.budget.spend_series(sum(selection.ids.size for selection in found))
        request.budget.check()
        table = _together(found, strings)
        cut = 0 < limit < len(table)
        data = label_sets(table, limit or len(table))
        return self._listed(request, data, selectors, (start_ms, end_ms), cut=cut)

    def labels(self, request: Request) -> Reply:
        """Answer with the label names."""
        limit = parameters.limit(request)
        start_ms, end_ms = parameters.span(request)
        selectors = parameters.selectors(request)

        def names(some: Sequence[Selector]) -> Sequence[str]:
            return self._store.label_names(some, start_ms, end_ms, request.budget)

        return self._strings(request, names, selectors, (start_ms, end_ms), limit)

    def label_values(self, request: Request) -> Reply:
        """Answer with the values of a label."""
        name = label_name(request.path["name"])
        if name is None:
            raise bad_data(f'invalid label name: "{request.path["name"]}"')
        limit = parameters.limit(request)
        start_ms, end_ms = parameters.span(request)
        selectors = parameters.selectors(request)

        def values(some: Sequence[Selector]) -> Sequence[str]:
            return self._store.label_values(name, some, start_ms, end_ms, request.budget)

        return self._strings(request, values, selectors, (start_ms, end_ms), limit)

    def _stats(
        self, request: Request, steps: StepRange, lookback_ms: int | None, seconds: float
    ) -> bytes:
        """Return the `stats` part of an answer, empty if the request does not want it."""
        if not request.first("stats"):
            return b""
        peak = request.budget.samples
        counts = self._engine.samples_per_step(
            request.first("query"),
            steps,
            request.budget.again(),
            lookback_ms=lookback_ms,
            scope=request.scope,
        )
        return stats.part(request, seconds, steps, counts, peak)

    def _result(
        self, request: Request, result: QueryResult, limit: int, now_ms: int, timing: bytes
    ) -> Reply:
        body, cut = _rendered(result, limit, request)
        late = scope.warnings(request, self._freshness, self._store, result.reads, now_ms)
        warnings = [*result.warnings, *late, *([CUT] if cut else [])]
        data = [b'{"resultType":"', result.kind.encode(), b'","result":', *body, timing, b"}"]
        return success(*data, warnings=warnings, infos=result.infos)

    def _strings(
        self,
        request: Request,
        read: Callable[[Sequence[Selector]], Sequence[str]],
        selectors: Sequence[Selector],
        span: tuple[int, int],
        limit: int,
    ) -> Reply:
        """Answer with what *read* finds, one selector after the other."""
        texts = read(selectors[:1])
        others: set[str] = set()
        for selector in selectors[1:]:
            request.budget.check()
            others.update(read([selector]))
        request.budget.check()
        if others:
            texts = sorted(others.union(texts))
        data = orjson.dumps(texts[:limit] if limit else texts)
        return self._listed(request, data, selectors, span, cut=0 < limit < len(texts))

    def _listed(
        self,
        request: Request,
        data: bytes,
        selectors: Sequence[Selector],
        span: tuple[int, int],
        *,
        cut: bool,
    ) -> Reply:
        now_ms = self._now_ms()
        start_ms, end_ms = span[0], min(span[1], now_ms)
        reads = [Read(tuple(each), start_ms, end_ms) for each in selectors or ((),)]
        warnings = scope.warnings(request, self._freshness, self._store, reads, now_ms)
        return success(data, warnings=[*warnings, *([CUT] if cut else [])])


def _together(found: Sequence[SeriesSelection], strings: Strings) -> LabelTable:
    """Return the labels of the series that any of the selections *found*, each once."""
    if len(found) == 1:
        return found[0].labels
    table = LabelTable.concat([selection.labels for selection in found], strings)
    _, first = np.unique(np.concatenate([each.ids for each in found]), return_index=True)
    return table.take(first)


def _rendered(result: QueryResult, limit: int, request: Request) -> tuple[encode.Parts, bool]:
    """Return the `result` part of an answer, and whether *limit* cut it."""
    if result.ranges is not None:
        cut = 0 < limit < len(result.ranges.labels)
        ranges = result.ranges.take(np.arange(limit)) if cut else result.ranges
        return encode.ranges(ranges.labels, ranges.samples, request.budget), cut
    if result.kind in (ResultKind.STRING, ResultKind.SCALAR):
        stamp = encode.second(result.steps.start_ms)
        value = (
            orjson.dumps(result.text).decode()
            if result.matrix is None
            else f'"{encode.number(float(result.matrix.values[0, 0]))}"'
        )
        return [f"[{stamp},{value}]".encode()], False
    if result.matrix is None:
        return [b"[]"], False
    matrix, cut = _limited(result.matrix, limit)
    if result.kind is ResultKind.VECTOR:
        return encode.vector(matrix, result.steps.start_ms, request.budget), cut
    return encode.matrix(matrix, result.steps.times(), request.budget), cut


def _limited(matrix: StepMatrix, limit: int) -> tuple[StepMatrix, bool]:
    """Return at most *limit* (0: all) of the series that have a point, and whether any is cut."""
    if not limit:
        return matrix, False
    rows = np.flatnonzero(matrix.present.any(axis=1))
    if limit >= rows.size:
        return matrix, False
    rows = rows[:limit]
    kept = StepMatrix(
        matrix.series.take(rows), matrix.values[rows], matrix.present[rows], matrix.drop_name[rows]
    )
    return kept, True
