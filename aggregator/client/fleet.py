"""`FleetClient`: the fleet's metrics as pandas frames."""

import math
import warnings
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, TypeAlias

import pandas as pd

from aggregator.client import frames
from aggregator.client.connection import Answer, Connection
from aggregator.client.durations import duration_seconds

# A text is whatever pandas reads as a time; without a zone a time is UTC, as frames are.
Moment: TypeAlias = datetime | str
# A text is a duration as in PromQL, a number is seconds.
Span: TypeAlias = timedelta | str | float

# How fine a range is asked for where nobody says: one point for each pixel of a chart, but none
# between two collections.
_POINTS: Final = 1_000
_FINEST_SECONDS: Final = 30


class FleetWarning(UserWarning):
    """The answer is not complete; the text says what is missing."""


class FleetInfo(FleetWarning):
    """The answer may not be what was meant, for example the rate of what is no counter."""


class FleetClient(Connection):
    """Asks a running aggregator; also has every method of `PrometheusConnect`.

    What an answer warns of is shown through `warnings.warn` and kept in `frame.attrs["warnings"]`
    and `frame.attrs["infos"]`. Raises `QueryError`s with the server's words, and `ServerError`
    for everything else that goes wrong; ValueError for a time or a span that is none.
    """

    def query(self, expression: str, *, time: Moment | None = None) -> pd.DataFrame:
        """Evaluate *expression* at one time (default: the server's now).

        Returns a row a sample: time (UTC) as index, labels as columns (empty where a series lacks
        one), and `value`. A range selector (`up[5m]`) gives its samples as they are stored.
        """
        parameters = {"query": expression}
        if time is not None:
            parameters["time"] = _seconds(_instant(time))
        answer = self.prometheus("query", parameters)
        return _surfaced(frames.long_frame(answer.document["data"]), answer)

    def query_range(
        self,
        expression: str,
        *,
        range: Span | None = None,  # noqa: A002  the word PromQL and our command line use
        start: Moment | None = None,
        end: Moment | None = None,
        step: Span | None = None,
    ) -> pd.DataFrame:
        """Evaluate *expression* every *step* from *start*, or *range* back, to *end*.

        The default is the last hour, in at most 1,000 steps that are 30 s or longer. Without *end*
        it is the last multiple of the step, so that the frames of several queries have equal rows.
        Returns a row a step (UTC) at which any series has a point, and a column a series; the
        columns' levels are the labels, a plain index where there is only one.
        """
        if range is not None and start is not None:
            raise ValueError("give range or start, not both")
        now = pd.Timestamp.now("UTC")
        last = now if end is None else _instant(end)
        first = last - _span("1h" if range is None else range) if start is None else _instant(start)
        every = _step(last - first) if step is None else _span(step)
        if every <= pd.Timedelta(0):
            raise ValueError(f"the step is {step!r}, but has to be longer than nothing")
        if end is None:
            moved = last - last.floor(every)
            last, first = last - moved, first - moved if start is None else first
        parameters = {
            "query": expression,
            "start": _seconds(first),
            "end": _seconds(last),
            "step": f"{every.total_seconds():.3f}",
        }
        answer = self.prometheus("query_range", parameters)
        return _surfaced(frames.wide_frame(answer.document["data"]), answer)

    def series(
        self,
        match: str | Sequence[str],
        *,
        start: Moment | None = None,
        end: Moment | None = None,
    ) -> pd.DataFrame:
        """Return the label sets of the series that match a selector, or any of several.

        A row a series, labels as columns, empty where a series lacks one.
        """
        parameters: dict[str, str | list[str]] = {
            "match[]": [match] if isinstance(match, str) else list(match)
        }
        if start is not None:
            parameters["start"] = _seconds(_instant(start))
        if end is not None:
            parameters["end"] = _seconds(_instant(end))
        answer = self.prometheus("series", parameters)
        return _surfaced(frames.label_frame(answer.document["data"]), answer)

    def clusters(self) -> pd.DataFrame:
        """Return every cluster by name: region, state, end and age of its data, last error."""
        answer = self.fleet("clusters")
        return _surfaced(frames.cluster_frame(answer.document["clusters"]), answer)


def _surfaced(frame: pd.DataFrame, answer: Answer) -> pd.DataFrame:
    """Attach to *frame* what the answer says beside it, and warn whoever called our caller."""
    for text in answer.warnings:
        warnings.warn(text, FleetWarning, stacklevel=3)
    for text in answer.infos:
        warnings.warn(text, FleetInfo, stacklevel=3)
    frame.attrs |= {"warnings": list(answer.warnings), "infos": list(answer.infos)}
    return frame


def _instant(moment: Moment) -> pd.Timestamp:
    time = pd.Timestamp(moment)
    return time.tz_localize("UTC") if time.tzinfo is None else time.tz_convert("UTC")


def _span(span: Span) -> pd.Timedelta:
    match span:
        case str():
            return pd.Timedelta(seconds=duration_seconds(span))
        case timedelta():
            return pd.Timedelta(span)
        case _:
            return pd.Timedelta(seconds=span)


def _step(span: pd.Timedelta) -> pd.Timedelta:
    seconds = math.ceil(span.total_seconds() / _POINTS)
    return pd.Timedelta(seconds=max(_FINEST_SECONDS, seconds))


def _seconds(time: pd.Timestamp) -> str:
    """Return *time* to the millisecond."""
    return f"{time.timestamp():.3f}"
