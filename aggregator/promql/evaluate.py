"""Plan node to operator: the one place that tells nodes apart to compute them."""

from functools import partial
from typing import assert_never

import numpy as np

from aggregator.model.arrays import Floats
from aggregator.model.labels import METRIC_NAME, LabelTable, Matcher
from aggregator.model.stepmatrix import StepMatrix, StepRange
from aggregator.promql.annotations import Annotations
from aggregator.promql.context import Context
from aggregator.promql.functions import Call as FunctionCall
from aggregator.promql.functions import ValueType
from aggregator.promql.operators.aggregate import aggregate
from aggregator.promql.operators.arithmetic import scalar_scalar, vector_scalar
from aggregator.promql.operators.binary import vector_vector
from aggregator.promql.operators.choose import choose_k, choose_ratio, count_values, quantile
from aggregator.promql.operators.info import add_info
from aggregator.promql.operators.leaf import Leaf, leaf_matrix
from aggregator.promql.operators.pushdown import aggregate_leaf
from aggregator.promql.operators.rows import compact
from aggregator.promql.operators.selector import (
    RangeVector,
    instant_leaf,
    instant_vector,
    range_vector,
    windows_leaf,
)
from aggregator.promql.operators.sets import combine_sets
from aggregator.promql.operators.subquery import subquery_vector
from aggregator.promql.operators.unary import negate
from aggregator.promql.plan import (
    SET_OPERATORS,
    Aggregate,
    Binary,
    Call,
    Matching,
    MatrixSelector,
    Node,
    NumberLiteral,
    Paren,
    StepInvariant,
    StringLiteral,
    Subquery,
    Unary,
    VectorSelector,
    unwrap,
    value_type,
)
from aggregator.promql.strings import quoted

_COUNTER_SUFFIXES = ("_total", "_sum", "_count", "_bucket")


def evaluate(node: Node, context: Context) -> StepMatrix:
    """Return the value of a scalar or instant-vector *node* at each step of *context*."""
    context.budget.check()
    match node:
        case NumberLiteral():
            result = _scalar(node.value, context)
        case VectorSelector():
            result = instant_vector(node, context)
        case Call():
            result = _call(node, context)
        case Aggregate():
            result = _aggregate(node, context)
        case Binary():
            result = _binary(node, context)
        case Unary():
            matrix = evaluate(node.expr, context)
            result = negate(matrix) if node.op == "-" else matrix
        case Paren():
            result = evaluate(node.expr, context)
        case StepInvariant():
            result = _once(node.expr, context)
        case StringLiteral() | MatrixSelector() | Subquery():
            raise TypeError(f"a {value_type(node).value} has no value at a step")
        case _:
            assert_never(node)
    return result


def evaluate_range(node: MatrixSelector | Subquery, context: Context) -> RangeVector:
    """Return the range vector of *node*."""
    if isinstance(node, MatrixSelector):
        return range_vector(node, context)
    return subquery_vector(node, context, lambda inner: evaluate(node.expr, inner))


def _scalar(value: float, context: Context) -> StepMatrix:
    shape = (1, context.steps.count)
    labels = LabelTable.empty(context.strings, rows=1)
    return StepMatrix(
        labels, np.full(shape, value), np.ones(shape, np.bool_), np.zeros(1, np.bool_)
    )


def _once(node: Node, context: Context) -> StepMatrix:
    """Evaluate *node* at the first step and repeat it for the others."""
    steps = context.steps
    if steps.count == 1:
        return evaluate(node, context)
    matrix = evaluate(node, context.at_steps(StepRange(steps.start_ms, steps.step_ms, 1)))
    context.spend_matrix(len(matrix.series))
    values = np.repeat(matrix.values, steps.count, axis=1)
    present = np.repeat(matrix.present, steps.count, axis=1)
    return StepMatrix(matrix.series, values, present, matrix.drop_name)


def _binary(node: Binary, context: Context) -> StepMatrix:
    left, right = evaluate(node.lhs, context), evaluate(node.rhs, context)
    scalars = (
        value_type(node.lhs) is ValueType.SCALAR,
        value_type(node.rhs) is ValueType.SCALAR,
    )
    matching = node.matching or Matching()
    match scalars:
        case (True, True):
            return scalar_scalar(node.op, left, right)
        case (False, True):
            result = vector_scalar(
                node.op, left, right, swapped=False, return_bool=node.return_bool
            )
            return compact(result)
        case (True, False):
            result = vector_scalar(node.op, right, left, swapped=True, return_bool=node.return_bool)
            return compact(result)
        case _ if node.op in SET_OPERATORS:
            return combine_sets(node.op, matching, left, right)
        case _:
            return vector_vector(node, matching, left, right, context.budget)


def _aggregate(node: Aggregate, context: Context) -> StepMatrix:
    op, grouping, without = node.op, node.grouping, node.without
    if node.param is None:
        leaf = _leaf(node.expr, context)
        if leaf is None:
            return aggregate(op, evaluate(node.expr, context), grouping, without=without)
        result = aggregate_leaf(op, leaf, grouping, context, without=without)
        if result is None:
            result = aggregate(op, leaf_matrix(leaf, context), grouping, without=without)
        return result
    matrix = evaluate(node.expr, context)
    label = unwrap(node.param)
    if isinstance(label, StringLiteral):
        return count_values(matrix, grouping, label, context.budget, without=without)
    param = evaluate(node.param, context).values[0]
    annotations = context.annotate(node.param)
    if op == "quantile":
        return quantile(matrix, grouping, param, annotations, without=without)
    if op == "limit_ratio":
        return choose_ratio(matrix, param, annotations)
    return choose_k(op, matrix, grouping, param, without=without)


def _call(node: Call, context: Context) -> StepMatrix:
    function = node.function
    if function.name == "info":
        labels = node.args[1] if len(node.args) == 2 else None
        selector = labels if isinstance(labels, VectorSelector) else None
        return add_info(evaluate(node.args[0], context), selector, context)
    if function.name == "timestamp":
        argument = unwrap(node.args[0])
        if isinstance(argument, VectorSelector):
            return instant_vector(argument, context, sample_times=True)
    if function.kernel is not None:
        matrix = leaf_matrix(_windows_leaf(node, context), context)
        result = matrix if function.run is None else _run(node, [matrix], context)
    else:
        args = [_argument(argument, context) for argument in node.args]
        result = _run(node, args, context)
    return result if function.returns is ValueType.SCALAR else compact(result)


def _argument(node: Node, context: Context) -> StepMatrix | str:
    inner = unwrap(node)
    return inner.value if isinstance(inner, StringLiteral) else evaluate(node, context)


def _leaf(node: Node, context: Context) -> Leaf | None:
    """Return the leaf that *node* is, None if it is anything else.

    At one step a selector has its values as soon as it has its series.
    """
    match node:
        case Paren():
            return _leaf(node.expr, context)
        case VectorSelector() if context.steps.count > 1:
            return instant_leaf(node, context)
        case Call(function=function) if function.kernel is not None and function.run is None:
            return _windows_leaf(node, context)
        case _:
            return None


def _windows_leaf(node: Call, context: Context) -> Leaf:
    """Return the leaf of a function of a range vector, whose other arguments are scalars."""
    function = node.function
    ranged: MatrixSelector | Subquery | None = None
    params: list[Floats] = []
    for argument in node.args:
        inner = unwrap(argument)
        if isinstance(inner, MatrixSelector | Subquery):
            ranged = inner
        else:
            params.append(evaluate(argument, context).values[0])
    if ranged is None:
        raise TypeError(f"{function.name} without a range vector passed the check")
    annotations = context.annotate(node.args[0])
    if function.check is not None:
        function.check(params, annotations)
    vector = evaluate_range(ranged, context)
    note = partial(_note_gauges, annotations) if function.counter else None
    return windows_leaf(function, vector, params, context, note)


def _run(node: Call, args: list[StepMatrix | str], context: Context) -> StepMatrix:
    function = node.function
    if function.run is None:
        raise TypeError(f"{function.name} has nothing to run")
    return function.run(
        FunctionCall(
            name=function.name,
            steps=context.steps,
            args=args,
            strings=context.strings,
            annotations=[context.annotate(argument) for argument in node.args],
            matchers=_matchers(node),
            query_steps=context.query_steps,
            spend_rows=context.spend_matrix,
        )
    )


def _matchers(node: Call) -> tuple[Matcher, ...]:
    """Return the matchers of the selector that is the only argument, if it is one."""
    match unwrap(node.args[0]) if len(node.args) == 1 else None:
        case VectorSelector(matchers=matchers):
            return matchers
        case MatrixSelector(selector=selector):
            return selector.matchers
        case _:
            return ()


def _note_gauges(annotations: Annotations, series: LabelTable) -> None:
    """Annotate counter functions of names that do not look like a counter's."""
    for name in series.strings.texts(series.distinct(METRIC_NAME)):
        if name and not name.endswith(_COUNTER_SUFFIXES):
            annotations.info(
                "metric might not be a counter, name does not end in "
                f"_total/_sum/_count/_bucket: {quoted(name)}"
            )
