"""Copies chosen series as they are: every sample with the source's value and timestamp.

A cycle asks for the window from a little before the watermark, since a scrape is stamped at its
start and appended at its end. What was stored already is recognised by its count, so that only
new samples reach the writer.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from aggregator.collect.context import Context, gap_reason, partial_reason
from aggregator.collect.identity import RawLayout, SeriesCache
from aggregator.collect.staleness import markers, vanished
from aggregator.errors import SourceError, SourceMalformedError
from aggregator.fleet.registry import Cluster
from aggregator.fleet.settings import RawSelector
from aggregator.fleet.subjects import raw_subject
from aggregator.model.arrays import Bools, Ids, Ints
from aggregator.model.samples import SampleBlock
from aggregator.promql.parse import parse_selector
from aggregator.sources.failures import Kind, failure
from aggregator.sources.prometheus import Answer, PrometheusSource

OVERLAP_MS = 15_000
# As long as a lookback: the first window brings every series that an instant query would show.
LONGEST_WINDOW_MS = 300_000
_HALVED_BY = frozenset({"too_large", "execution", "timeout", "query_timeout"})


@dataclass(frozen=True, slots=True)
class Sent:
    """What the store has of the last window that is durable, which ended at `time_ms`.

    For each row of `layout`: the time of its newest sample, and how many of its samples the next
    window will show again.
    """

    time_ms: int
    layout: RawLayout
    newest: Ints
    repeated: Ints

    def rows_of(self, layout: RawLayout, left_ms: int) -> tuple[Ints, Ints]:
        """Return `newest` and `repeated` for the rows of *layout*; rows new to it have none."""
        if layout is self.layout:
            return self.newest, self.repeated
        newest = np.full(layout.ids.size, left_ms, np.int64)
        repeated = np.zeros(layout.ids.size, np.int64)
        rows = np.flatnonzero(self.layout.kept)
        order = rows[np.argsort(self.layout.ids[rows])]
        known = self.layout.ids[order]
        if known.size:
            place = np.minimum(np.searchsorted(known, layout.ids), known.size - 1)
            same = layout.kept & (known[place] == layout.ids)
            newest[same] = self.newest[order[place[same]]]
            repeated[same] = self.repeated[order[place[same]]]
        return newest, repeated


@dataclass(frozen=True, slots=True)
class Window:
    """The samples of one answer within (left_ms, time_ms] that the store does not have yet."""

    block: SampleBlock
    sent: Sent
    fresh: Bools
    beyond: int


def take(
    answer: Answer, layout: RawLayout, span: tuple[int, int], fresh_from_ms: int, sent: Sent | None
) -> Window:
    """Return what is new in *answer*, whose window is *span* = (left_ms, time_ms].

    Rows with a sample later than *fresh_from_ms* are `fresh`; samples later than the window, which
    no honest server sends, are left out and counted in `beyond`.
    """
    left_ms, time_ms = span
    times, counts = answer.times, np.diff(answer.offsets)
    rows = np.repeat(np.arange(counts.size), counts)
    inside = (times > left_ms) & (times <= time_ms) & layout.kept[rows]
    wanted = inside
    if sent is not None:
        newest, repeated = sent.rows_of(layout, left_ms)
        again = inside & (times <= newest[rows])
        unchanged = np.bincount(rows[again], minlength=counts.size) == repeated
        wanted = inside & ~(again & unchanged[rows])
    last = np.full(counts.size, left_ms, np.int64)
    filled = counts > 0
    last[filled] = np.clip(times[answer.offsets[1:][filled] - 1], left_ms, time_ms)
    next_left = inside & (times > time_ms - OVERLAP_MS)
    shown = np.bincount(rows[next_left], minlength=counts.size)
    block = SampleBlock(layout.ids[rows[wanted]], times[wanted], answer.values[wanted])
    beyond = int(np.count_nonzero(times > time_ms))
    return Window(block, Sent(time_ms, layout, last, shown), last > fresh_from_ms, beyond)


@dataclass(slots=True)
class RawCopy:
    """The copy of one selector of one cluster.

    `_alive` are the ids (ascending) of the series that the source showed last at an instant.
    """

    cluster: Cluster
    selector: RawSelector
    context: Context
    cache: SeriesCache
    expr: str = field(init=False)
    count: int = 0
    _asked_ms: int = 0
    _longest_ms: int = LONGEST_WINDOW_MS
    _window: RawLayout | None = None
    _instant: RawLayout | None = None
    _sent: Sent | None = None
    _alive: Ids = field(default_factory=lambda: np.empty(0, np.uint32))
    _settled: tuple[RawLayout, Bools] | None = None

    def __post_init__(self) -> None:
        matchers = parse_selector(self.selector.match)
        own = self.cluster.prometheus.selector
        matchers += parse_selector(f"{{{own}}}") if own else ()
        self.expr = "{" + ",".join(map(str, matchers)) + "}"

    @property
    def subject(self) -> str:
        """How the copy is called where freshness is kept."""
        return raw_subject(self.selector.match)

    def time(self, time_ms: int) -> int | None:
        """Return the newest instant of the selector's own grid, or None if it was asked for."""
        interval = self.selector.interval or self.cluster.collect.interval
        own = time_ms // interval * interval
        return own if own > self._asked_ms else None

    def collect(self, source: PrometheusSource, time_ms: int, limit: int) -> str:
        """Copy the window that ends at *time_ms*; return why something is missing, if it is.

        Raises `SourceError`, and `StoreError` or `QueueFullError` with nothing stored.
        """
        self._asked_ms = time_ms
        until = self._until(time_ms)
        oldest = time_ms - self._longest_ms
        left_ms = oldest if until is None else max(until - OVERLAP_MS, oldest)
        expr = f"{self.expr}[{time_ms - left_ms}ms]"
        try:
            answer = source.instant(expr, time_ms, known=self.cache.digest(self._window))
        except SourceError as error:
            raise self._shortened(error, time_ms - left_ms) from error
        self._longest_ms = min(2 * self._longest_ms, LONGEST_WINDOW_MS)
        self._window = layout = self._layout(answer, self._window, limit)
        sent = self._sent if self._sent is not None and self._sent.time_ms == until else None
        window = take(answer, layout, (left_ms, time_ms), until or left_ms, sent)
        self.context.reject(self.cluster.name, {"ahead_of_time": window.beyond})
        partial = partial_reason(answer)
        if self._sent is None and until is not None and until > oldest:
            self._remember_alive(source, until, limit)
        self._store(source, window, partial, limit)
        if until is not None and oldest > until and not partial:
            self._record_gap(until, oldest)
        self.count = layout.count
        dropped = layout.dropped
        self.context.health.drop(self.cluster.name, self.subject, dropped, time_ms)
        return partial or ("" if dropped is None else dropped.text)

    def ids(self) -> Ids:
        """Return the ids that may be visible: of the last answers, complete or not."""
        layout = self._window
        if layout is None or self.cache.digest(layout) is None:
            return self._alive
        return np.union1d(self._alive, layout.ids[layout.kept])

    def restart(self) -> None:
        """Go on at any time: the clock was set back."""
        self._asked_ms = 0

    def _until(self, time_ms: int) -> int | None:
        """Return where the last window before *time_ms* ended, None if there was none.

        A watermark may lie later if the clock was set back; then only what was sent since counts.
        """
        mark = self.context.watermarks.get(self.cluster.name, self.subject)
        if mark is None or mark.answered_ms <= time_ms:
            return None if mark is None else mark.answered_ms
        sent = self._sent
        return sent.time_ms if sent is not None and sent.time_ms < time_ms else None

    def _store(self, source: PrometheusSource, window: Window, partial: str, limit: int) -> None:
        time_ms, layout = window.sent.time_ms, window.sent.layout
        block, alive = window.block, self._alive
        if not (partial or layout.dropped or self._is_settled(layout, window.fresh)):
            there = self._ask_alive(source, time_ms, limit)
            if there is not None:
                candidates = np.union1d(alive, layout.ids[window.fresh & layout.kept])
                gone = vanished(candidates, there)
                block = SampleBlock.concat([block, markers(gone, time_ms)])
                alive = there
        self.context.store(block, self._stored(window, alive, partial))

    def _is_settled(self, layout: RawLayout, fresh: Bools) -> bool:
        """Tell whether the series with new samples are those that were alive, neither more."""
        settled = self._settled
        if settled is not None and settled[0] is layout and np.array_equal(settled[1], fresh):
            return True
        if not np.array_equal(np.sort(layout.ids[fresh & layout.kept]), self._alive):
            return False
        self._settled = (layout, fresh)
        return True

    def _ask_alive(self, source: PrometheusSource, time_ms: int, limit: int) -> Ids | None:
        """Return the ids that the source shows at *time_ms*, None if it shows only a part."""
        answer = source.instant(self.expr, time_ms, known=self.cache.digest(self._instant))
        self._instant = layout = self._layout(answer, self._instant, limit)
        if layout.dropped is not None or partial_reason(answer):
            return None
        return np.sort(layout.ids[layout.kept])

    def _remember_alive(self, source: PrometheusSource, until_ms: int, limit: int) -> None:
        """Learn what an earlier process saw last, so that what vanished since then ends now."""
        there = self._ask_alive(source, until_ms, limit)
        if there is not None:
            self._alive = there

    def _layout(self, answer: Answer, known: RawLayout | None, limit: int) -> RawLayout:
        if answer.metrics is None and known is not None:
            return known
        if answer.metrics is None:
            raise SourceMalformedError(self.cluster.name, "no label sets", kind="wrong_json")
        layout, names = self.cache.layout(answer.digest, answer.metrics, limit)
        if names:
            seen = self.context.health.get(self.cluster.name).names.get(self.subject, frozenset())
            if not names <= seen:
                self.context.health.saw_names(self.cluster.name, self.subject, seen | names)
        return layout

    def _shortened(self, error: SourceError, span_ms: int) -> SourceError:
        """Ask for less next time if the window was too much for the source or for us.

        Returns what to raise: what helps where the window, *span_ms* long, is as short as it gets.
        """
        if error.kind not in _HALVED_BY:
            return error
        shortest = 2 * (self.selector.interval or self.cluster.collect.interval)
        self._longest_ms = max(self._longest_ms // 2, shortest)
        if error.kind != Kind.TOO_LARGE or span_ms > shortest:
            return error
        message = (
            f"the answer for {self.subject} passes limits.response_bytes even for its last "
            f"{span_ms // 1000} s; narrow its match, cut it into several (by a label with =~), or "
            "raise limits.response_bytes"
        )
        return failure(self.cluster.name, Kind.TOO_LARGE, message)

    def _record_gap(self, start_ms: int, end_ms: int) -> None:
        context, cluster = self.context, self.cluster.name
        reason = gap_reason(context, cluster, started=self._sent is not None)
        context.gaps.record(cluster, [(self.subject, start_ms, end_ms)], reason, context.now())

    def _stored(self, window: Window, alive: Ids, partial: str) -> Callable[[], None]:
        """Return what to do once the window is durable."""
        there = alive.size > 0 or bool(window.fresh.any())

        def stored() -> None:
            if partial:
                return
            self._sent, self._alive = window.sent, alive
            self.context.watermarks.advance(
                self.cluster.name,
                window.sent.time_ms,
                with_data=[self.subject] if there else [],
                without=[] if there else [self.subject],
            )

        return stored
