"""What a PromQL function is: its signature, and the code that computes it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from aggregator.model.arrays import Bools, Floats
from aggregator.model.labels import Matcher, Strings
from aggregator.model.stepmatrix import StepMatrix, StepRange
from aggregator.promql.annotations import Annotations
from aggregator.promql.windows import Windows


class ValueType(Enum):
    """The type of an expression, in Prometheus's words."""

    SCALAR = "scalar"
    VECTOR = "instant vector"
    RANGE = "range vector"
    STRING = "string"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a function on evaluated arguments.

    A scalar argument is a matrix of one row, a string argument a `str`. `annotations` are for what
    is to be said of each argument. `query_steps` are those of the whole query, which the `steps`
    of a subquery are not. `spend_rows` accounts for rows beyond those of the arguments before they
    are made. `matchers` are those of the selector that is the argument of `absent` or
    `absent_over_time`, empty if it is none.
    """

    name: str
    steps: StepRange
    args: Sequence[StepMatrix | str]
    strings: Strings
    annotations: Sequence[Annotations]
    query_steps: StepRange
    spend_rows: Callable[[int], None]
    matchers: tuple[Matcher, ...] = ()

    def matrix(self, position: int) -> StepMatrix:
        """Return the vector argument at *position*."""
        value = self.args[position]
        if isinstance(value, str):
            raise TypeError(f"argument {position + 1} of {self.name} is a string")
        return value

    def scalar(self, position: int) -> Floats:
        """Return the scalar argument at *position* for each step, `[T]`."""
        values: Floats = self.matrix(position).values[0]
        return values

    def text(self, position: int) -> str:
        """Return the string argument at *position*."""
        value = self.args[position]
        if not isinstance(value, str):
            raise TypeError(f"argument {position + 1} of {self.name} is no string")
        return value


RangeKernel: TypeAlias = Callable[[Windows, Sequence[Floats]], tuple[Floats, Bools]]
VectorFunction: TypeAlias = Callable[[Call], StepMatrix]
ParameterCheck: TypeAlias = Callable[[Sequence[Floats], Annotations], None]


@dataclass(frozen=True, slots=True)
class Function:
    """One entry of the table.

    A function of a range vector has a `kernel`: it gets the windows of a run of series and each
    scalar argument as `[T]` in order of the arguments, and returns values and presence `[n, T]`.
    `check` sees those scalars once a call; it may annotate or raise `QueryExecutionError`.
    A function of anything else has a `run`. One with both (`absent_over_time`) applies `run` to
    the matrix that the kernel made.

    `optional` arguments at the end may be left out; a `variadic` function repeats its last one any
    number of times, also none. `keeps_name` leaves the metric name on the result. The use of a
    `counter` function on a name that is no counter's is annotated. The result of a
    `step_dependent` one depends on the evaluation time even where `@` fixes its arguments.
    """

    name: str
    arguments: tuple[ValueType, ...]
    kernel: RangeKernel | None = None
    run: VectorFunction | None = None
    optional: int = 0
    variadic: bool = False
    returns: ValueType = ValueType.VECTOR
    check: ParameterCheck | None = None
    keeps_name: bool = False
    counter: bool = False
    step_dependent: bool = False
    experimental: bool = False
