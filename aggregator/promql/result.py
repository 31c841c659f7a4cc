"""What a query answers."""

from dataclasses import dataclass
from enum import StrEnum

from aggregator.model.arrays import Ints
from aggregator.model.labels import LabelTable
from aggregator.model.record import record
from aggregator.model.samples import SeriesSamples
from aggregator.model.stepmatrix import StepMatrix, StepRange
from aggregator.promql.context import Read


class ResultKind(StrEnum):
    """The type of a result, in the words of Prometheus's API."""

    VECTOR = "vector"
    MATRIX = "matrix"
    SCALAR = "scalar"
    STRING = "string"


@dataclass(frozen=True, slots=True)
class RangeSamples:
    """The result of an instant query of a range selector: label sets and each one's samples."""

    labels: LabelTable
    samples: SeriesSamples

    def take(self, rows: Ints) -> "RangeSamples":
        """Return the chosen series, in that order."""
        return RangeSamples(self.labels.take(rows), self.samples.take(rows))


@record
class QueryResult:
    """The result of one query.

    `matrix` holds a vector (one step), a matrix of a range query, or a scalar as its one row;
    `ranges` the matrix of an instant query of a range selector; `text` a string. Metric names that
    an operation dropped are gone from the labels. `reads` tells what the selectors read.
    """

    kind: ResultKind
    steps: StepRange
    matrix: StepMatrix | None = None
    ranges: RangeSamples | None = None
    text: str = ""
    warnings: tuple[str, ...] = ()
    infos: tuple[str, ...] = ()
    reads: tuple[Read, ...] = ()
