"""What the evaluation of one query shares."""

from collections.abc import Sequence
from dataclasses import field, replace

import numpy as np

from aggregator.model.arrays import Ints
from aggregator.model.budget import Budget
from aggregator.model.labels import Matcher, Strings
from aggregator.model.record import record
from aggregator.model.stepmatrix import StepRange
from aggregator.promql.annotations import Annotations
from aggregator.promql.places import line_and_column
from aggregator.promql.plan import AtEdge, Node
from aggregator.promql.windows import PROMETHEUS_3, WindowRules
from aggregator.store.interface import GridReader, SeriesReader, SeriesSelection


@record
class Read:
    """What one selector read: its matchers (scope included) and the window (start, end] in ms."""

    matchers: tuple[Matcher, ...]
    start_ms: int
    end_ms: int


@record
class Context:
    """One query: its text, its steps, where it reads, what it may cost, what it has to say.

    `steps` are those of the node at hand, which a subquery has of its own; `query_steps` are what
    `@ start()` and `@ end()` refer to. `scope` are matchers added to every selector.
    `grids` is the reader if it computes values itself.
    """

    query: str
    steps: StepRange
    query_steps: StepRange
    reader: SeriesReader
    grids: GridReader | None
    strings: Strings
    budget: Budget
    lookback_ms: int
    scope: tuple[Matcher, ...] = ()
    rules: WindowRules = PROMETHEUS_3
    annotations: Annotations = field(default_factory=Annotations)
    reads: list[Read] = field(default_factory=list)

    def at_steps(self, steps: StepRange) -> "Context":
        """Return the context for evaluating a part of the query at other *steps*."""
        return replace(self, steps=steps)

    def ends(self, offset_ms: int, at: int | AtEdge | None) -> Ints:
        """Return the time in ms that a selector looks back from at each step, `[T]`."""
        if at is None:
            times = self.steps.times()
            return times - offset_ms if offset_ms else times
        if isinstance(at, AtEdge):
            edges = self.query_steps
            at = edges.start_ms if at is AtEdge.START else edges.end_ms
        return np.full(self.steps.count, at - offset_ms, dtype=np.int64)

    def annotate(self, node: Node) -> Annotations:
        """Return the annotations for what is to be said about *node*."""
        return self.annotations.at(*line_and_column(self.query, node.start))

    def spend_matrix(self, rows: int) -> None:
        """Account for a matrix of *rows* series at this context's steps before it is allocated."""
        self.budget.check()
        self.budget.spend_bytes(rows * self.steps.count * 9)

    def select(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> SeriesSelection:
        """Return the series that match, within the scope, for samples in (start_ms, end_ms].

        The leaf planner: every read of a query gets its series here, so that none escapes the
        scope, and what was read is known to who words the warnings.
        """
        within = (*matchers, *self.scope)
        self.reads.append(Read(within, start_ms, end_ms))
        selection = self.reader.select(within, start_ms + 1, end_ms, self.strings, self.budget)
        self.budget.spend_series(selection.ids.size)
        return selection
