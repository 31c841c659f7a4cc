"""What PromQL operators exchange: one value, or none, for each series and step."""

import numpy as np

from aggregator.model.arrays import Bools, Floats, Ints
from aggregator.model.labels import LabelTable
from aggregator.model.record import record


@record
class StepRange:
    """Evaluation times: `count` steps of `step_ms` from `start_ms`; an instant has one step."""

    start_ms: int
    step_ms: int
    count: int

    @staticmethod
    def between(start_ms: int, end_ms: int, step_ms: int) -> "StepRange":
        """Return the steps from *start_ms* up to and including *end_ms*."""
        return StepRange(start_ms, step_ms, (end_ms - start_ms) // step_ms + 1)

    @staticmethod
    def instant(time_ms: int) -> "StepRange":
        """Return the single step of an instant query."""
        return StepRange(time_ms, 1, 1)

    @property
    def end_ms(self) -> int:
        """Time of the last step."""
        return self.start_ms + (self.count - 1) * self.step_ms

    def times(self) -> Ints:
        """Return the time of each step in ms, int64 `[steps]`."""
        if self.count == 1:
            return np.array([self.start_ms], np.int64)
        return self.start_ms + self.step_ms * np.arange(self.count, dtype=np.int64)


@record
class StepMatrix:
    """Values of `[series, steps]`; `present` tells which exist, since NaN is a legal value.

    `drop_name` marks the series whose metric name is dropped when the query ends (Prometheus 3's
    delayed name removal), bool `[series]`. Values where `present` is False are undefined.
    """

    series: LabelTable
    values: Floats
    present: Bools
    drop_name: Bools
