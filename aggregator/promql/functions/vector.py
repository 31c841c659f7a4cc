"""absent, scalar, vector, time, timestamp, pi, and what tells of the query's own steps.

Each follows the function of the same name in Prometheus 3's promql/functions.go.
"""

import numpy as np

from aggregator.model.arrays import Bools
from aggregator.model.labels import METRIC_NAME, LabelTable, Matcher, MatchOp
from aggregator.model.stepmatrix import StepMatrix
from aggregator.promql.cursor import QueryTimes
from aggregator.promql.functions.dates import constant_vector
from aggregator.promql.functions.elementwise import larger, smaller, with_values
from aggregator.promql.functions.function import Call


def absent(call: Call) -> StepMatrix:
    """Return 1 at the steps where the vector is empty (`funcAbsent`).

    The labels are those that the argument's selector fixes (`createLabelsForAbsentFunction`).
    """
    present: Bools = np.logical_or.reduce(call.matrix(0).present, axis=0)
    labels = LabelTable.from_dicts([_fixed_labels(call.matchers)], call.strings)
    return StepMatrix(
        labels, np.ones((1, present.size)), ~present[None, :], np.zeros(1, dtype=np.bool_)
    )


def scalar(call: Call) -> StepMatrix:
    """Return the value where the vector has one element, else NaN (`funcScalar`)."""
    matrix = call.matrix(0)
    single = np.count_nonzero(matrix.present, axis=0) == 1
    values = np.where(matrix.present & single, matrix.values, 0.0).sum(axis=0)
    return constant_vector(call, np.where(single, values, np.nan))


def vector(call: Call) -> StepMatrix:
    """Return the scalar as a vector of one element without labels (`funcVector`)."""
    return constant_vector(call, call.scalar(0))


def time(call: Call) -> StepMatrix:
    """Return the evaluation time in seconds (`funcTime`)."""
    return constant_vector(call, call.steps.times() / 1000)


def timestamp(call: Call) -> StepMatrix:
    """Return the evaluation time in seconds for each element (`funcTimestamp`).

    Where the argument is a plain selector the evaluator answers with the samples' own times.
    """
    matrix = call.matrix(0)
    times = np.broadcast_to(call.steps.times() / 1000, matrix.values.shape)
    return with_values(matrix, times.copy())


def step(call: Call) -> StepMatrix:
    """Return the step of the query in seconds, 0 for an instant query."""
    return _of_the_query(call, QueryTimes.of(call.query_steps).step_ms)


def query_range(call: Call) -> StepMatrix:
    """Return the time from the first to the last step of the query in seconds."""
    return _of_the_query(call, QueryTimes.of(call.query_steps).range_ms)


def start(call: Call) -> StepMatrix:
    """Return the time of the query's first step in seconds."""
    return _of_the_query(call, call.query_steps.start_ms)


def end(call: Call) -> StepMatrix:
    """Return the time of the query's last step in seconds."""
    return _of_the_query(call, call.query_steps.end_ms)


def min_of(call: Call) -> StepMatrix:
    """Return the smaller of two scalars."""
    return constant_vector(call, smaller(call.scalar(0), call.scalar(1)))


def max_of(call: Call) -> StepMatrix:
    """Return the larger of two scalars."""
    return constant_vector(call, larger(call.scalar(0), call.scalar(1)))


def pi(call: Call) -> StepMatrix:
    """Return π (`funcPi`)."""
    return constant_vector(call, np.full(call.steps.count, np.pi))


def _of_the_query(call: Call, milliseconds: int) -> StepMatrix:
    return constant_vector(call, np.full(call.steps.count, milliseconds / 1000))


def _fixed_labels(matchers: tuple[Matcher, ...]) -> dict[str, str]:
    """Return the labels with exactly one matcher that comes first and is an equality.

    As Prometheus does it: any further matcher of a name takes the label away again.
    """
    labels: dict[str, str] = {}
    seen: set[str] = set()
    for matcher in matchers:
        if matcher.name == METRIC_NAME:
            continue
        if matcher.op is MatchOp.EQUAL and matcher.name not in seen:
            labels[matcher.name] = matcher.value
            seen.add(matcher.name)
        else:
            labels.pop(matcher.name, None)
    return labels
