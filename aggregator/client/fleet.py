"""`FleetClient`: the fleet's metrics as pandas frames."""

import warnings
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pandas as pd

from aggregator.client import frames
from aggregator.client.connection import Answer, Connection


class FleetWarning(UserWarning):
    """The answer is not complete, or not quite what was asked for; the text says why."""


class FleetClient(Connection):
    """Asks a running aggregator; also has every method of `PrometheusConnect`.

    What an answer warns of is shown through `warnings.warn` and kept in `frame.attrs["warnings"]`.
    """

    def query(self, expression: str, *, time: datetime | None = None) -> pd.DataFrame:
        """Evaluate *expression* at one time (default: now).

        Returns a row a sample: time (UTC) as index, labels as columns, and `value`.
        """
        parameters = {"query": expression}
        if time is not None:
            parameters["time"] = _seconds(time)
        answer = self.prometheus("query", parameters)
        return _surfaced(frames.long_frame(answer.document["data"]), answer)

    def query_range(
        self,
        expression: str,
        *,
        range: timedelta | str = "1h",  # noqa: A002  the word PromQL and our command line use
        end: datetime | None = None,
        step: str | float = "30s",
    ) -> pd.DataFrame:
        """Evaluate *expression* every *step* over *range* up to *end* (default: now).

        Returns a row a step (UTC) that has points, a column a series; the columns' levels are the
        labels.
        """
        last = datetime.now(UTC) if end is None else end
        parameters = {
            "query": expression,
            "start": _seconds(last - pd.Timedelta(range).to_pytimedelta()),
            "end": _seconds(last),
            "step": str(step),
        }
        answer = self.prometheus("query_range", parameters)
        return _surfaced(frames.wide_frame(answer.document["data"]), answer)

    def series(
        self,
        match: str | Sequence[str],
        *,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> pd.DataFrame:
        """Return the label sets of the series that match a selector, or any of several."""
        parameters: dict[str, str | list[str]] = {
            "match[]": [match] if isinstance(match, str) else list(match)
        }
        if start is not None:
            parameters["start"] = _seconds(start)
        if end is not None:
            parameters["end"] = _seconds(end)
        answer = self.prometheus("series", parameters)
        return _surfaced(frames.label_frame(answer.document["data"]), answer)

    def clusters(self) -> pd.DataFrame:
        """Return every cluster by name: region, state, end and age of its data, last error."""
        answer = self.fleet("clusters")
        return _surfaced(frames.cluster_frame(answer.document["clusters"]), answer)


def _surfaced(frame: pd.DataFrame, answer: Answer) -> pd.DataFrame:
    texts = [*answer.warnings, *answer.infos]
    for text in texts:
        warnings.warn(text, FleetWarning, stacklevel=3)
    frame.attrs["warnings"] = texts
    return frame


def _seconds(moment: datetime) -> str:
    """Return *moment* to the millisecond; one without a zone is in local time."""
    return f"{moment.timestamp():.3f}"
