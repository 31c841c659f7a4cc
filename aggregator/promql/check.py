"""Types and combinations that the grammar allows but the language does not."""

from aggregator.errors import QuerySyntaxError
from aggregator.model.labels import METRIC_NAME, Matcher, MatchOp
from aggregator.promql.functions import ValueType
from aggregator.promql.places import syntax_error
from aggregator.promql.plan import (
    COMPARISONS,
    SET_OPERATORS,
    Aggregate,
    Binary,
    Call,
    Cardinality,
    Node,
    Subquery,
    Unary,
    VectorSelector,
    children,
    value_type,
)
from aggregator.promql.regex import compile_regex

_VALUES = frozenset({ValueType.SCALAR, ValueType.VECTOR})


def check(root: Node, query: str) -> None:
    """Raise `QuerySyntaxError` for the first mistake in the tree, inner nodes first."""
    _Checker(query).visit(root)


class _Checker:
    def __init__(self, query: str) -> None:
        self._query = query

    def _error(self, position: int, message: str) -> QuerySyntaxError:
        return syntax_error(self._query, position, message)

    def _require(self, node: Node, wanted: ValueType, context: str) -> None:
        found = value_type(node)
        if found is not wanted:
            message = f"expected type {wanted.value} in {context}, got {found.value}"
            raise self._error(node.start, message)

    def visit(self, node: Node) -> None:
        """Check *node* and everything below it."""
        if isinstance(node, Call) and node.function.name == "info":
            self._info(node)
        else:
            for child in children(node):
                self.visit(child)
        match node:
            case VectorSelector():
                self._selector(node)
            case Aggregate():
                self._aggregate(node)
            case Binary():
                self._binary(node)
            case Call():
                self._call(node)
            case Subquery() if value_type(node.expr) is not ValueType.VECTOR:
                found = value_type(node.expr).value
                message = f"subquery is only allowed on instant vector, got {found} instead"
                raise self._error(node.start, message)
            case Unary() if value_type(node.expr) not in _VALUES:
                message = (
                    "unary expression only allowed on expressions of type scalar or instant "
                    f'vector, got "{value_type(node.expr).value}"'
                )
                raise self._error(node.start, message)
            case _:
                pass

    def _selector(self, node: VectorSelector) -> None:
        if node.name:
            for matcher in node.matchers[:-1]:
                if matcher.name == METRIC_NAME:
                    message = (
                        f'metric name must not be set twice: "{node.name}" or "{matcher.value}"'
                    )
                    raise self._error(node.start, message)
        elif all(map(matches_empty, node.matchers)):
            message = "vector selector must contain at least one non-empty matcher"
            raise self._error(node.start, message)

    def _aggregate(self, node: Aggregate) -> None:
        self._require(node.expr, ValueType.VECTOR, "aggregation expression")
        if node.param is not None:
            wanted = ValueType.STRING if node.op == "count_values" else ValueType.SCALAR
            self._require(node.param, wanted, "aggregation parameter")

    def _call(self, node: Call) -> None:
        function, given = node.function, len(node.args)
        most = len(function.arguments)
        least = most - function.optional - function.variadic
        name = f'in call to "{function.name}", got {given}'
        if least == most and given != most:
            raise self._error(node.start, f"expected {most} argument(s) {name}")
        if given < least:
            raise self._error(node.start, f"expected at least {least} argument(s) {name}")
        if given > most and not function.variadic:
            raise self._error(node.start, f"expected at most {most} argument(s) {name}")
        for position, argument in enumerate(node.args):
            wanted = function.arguments[min(position, most - 1)]
            self._require(argument, wanted, f'call to function "{function.name}"')

    def _info(self, node: Call) -> None:
        for argument in node.args[:1]:
            self.visit(argument)
        for argument in node.args[1:]:
            if not isinstance(argument, VectorSelector):
                raise self._error(argument.start, "expected label selectors only")
            if argument.name:
                message = "expected label selectors only, got vector selector instead"
                raise self._error(argument.start, message)

    def _binary(self, node: Binary) -> None:
        sides = (value_type(node.lhs), value_type(node.rhs))
        comparison = node.op in COMPARISONS
        if node.return_bool and not comparison:
            message = "bool modifier can only be used on comparison operators"
            raise self._error(node.op_start, message)
        if comparison and not node.return_bool and set(sides) == {ValueType.SCALAR}:
            message = "comparisons between scalars must use BOOL modifier"
            raise self._error(node.op_start, message)
        for side, found in zip((node.lhs, node.rhs), sides, strict=True):
            if found not in _VALUES:
                message = "binary expression must contain only scalar and instant vector types"
                raise self._error(side.start, message)
        self._matching(node, scalar=ValueType.SCALAR in sides)

    def _matching(self, node: Binary, *, scalar: bool) -> None:
        matching = node.matching
        if matching is None:
            return
        for name in matching.labels:
            if matching.on and name in matching.include:
                message = f'label "{name}" must not occur in ON and GROUP clause at once'
                raise self._error(node.op_start, message)
        filled = matching.fill_one is not None or matching.fill_many is not None
        set_operator = node.op in SET_OPERATORS
        message = ""
        if scalar and matching.labels:
            message = "vector matching only allowed between instant vectors"
        elif scalar and filled:
            message = "filling in missing series only allowed between instant vectors"
        elif scalar and set_operator:
            message = f'set operator "{node.op}" not allowed in binary scalar expression'
        elif set_operator and matching.cardinality is not Cardinality.MANY_TO_MANY:
            message = f'no grouping allowed for "{node.op}" operation'
        elif set_operator and filled:
            message = "filling in missing series not allowed for set operators"
        if message:
            raise self._error(node.start, message)


def matches(matcher: Matcher, value: str) -> bool:
    """Tell whether *matcher* matches a label's *value*; that of an absent label is empty."""
    match matcher.op:
        case MatchOp.EQUAL:
            return value == matcher.value
        case MatchOp.NOT_EQUAL:
            return value != matcher.value
        case MatchOp.REGEX:
            return compile_regex(matcher.value).fullmatch(value) is not None
        case MatchOp.NOT_REGEX:
            return compile_regex(matcher.value).fullmatch(value) is None


def matches_empty(matcher: Matcher) -> bool:
    """Tell whether *matcher* matches series that do not have its label."""
    return matches(matcher, "")
