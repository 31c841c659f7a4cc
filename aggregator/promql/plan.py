"""The plan of a query: frozen nodes that print themselves as PromQL.

Every node knows the part of the query text it was read from (`start`, `end`) and its type; both
are for messages, so nodes that differ only in place are equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TypeAlias

from aggregator.model.labels import METRIC_NAME, Matcher, MatchOp
from aggregator.promql.functions import Function, ValueType
from aggregator.promql.numbers import format_duration, format_float
from aggregator.promql.strings import quoted

COMPARISONS = frozenset({"==", "!=", "<", ">", "<=", ">="})
SET_OPERATORS = frozenset({"and", "or", "unless"})


class AtEdge(Enum):
    """What `@ start()` and `@ end()` refer to: an end of the whole query."""

    START = "start"
    END = "end"


class Cardinality(Enum):
    """How many series of the left match how many of the right side."""

    ONE_TO_ONE = "one-to-one"
    MANY_TO_ONE = "many-to-one"
    ONE_TO_MANY = "one-to-many"
    MANY_TO_MANY = "many-to-many"


@dataclass(frozen=True, slots=True)
class Matching:
    """Which labels two vectors are matched by, and what happens to series without a match.

    `fill_one` stands in for a missing series of the `one` side, `fill_many` for one of the other:
    `fill_left` fills the `many` side, as in Prometheus also where `group_right` makes it the right.
    """

    cardinality: Cardinality = Cardinality.ONE_TO_ONE
    on: bool = False
    labels: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    fill_one: float | None = None
    fill_many: float | None = None


@dataclass(frozen=True, slots=True)
class NumberLiteral:
    """A constant scalar."""

    value: float
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return format_float(self.value)


@dataclass(frozen=True, slots=True)
class StringLiteral:
    """A constant string.

    `text` is how it is written, also where `value` cannot hold all of its bytes.
    """

    value: str
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)
    text: str = field(default="", compare=False)

    def __str__(self) -> str:
        return self.text or quoted(self.value)


@dataclass(frozen=True, slots=True)
class VectorSelector:
    """An instant vector from the store.

    `name` is the metric name written before the braces; it is one of the `matchers` too. `at` is
    the fixed time of `@` in ms. `offset_text` is how the offset was written if not as a literal;
    the other nodes with durations have such texts too.
    """

    name: str
    matchers: tuple[Matcher, ...]
    offset_ms: int = 0
    at: int | AtEdge | None = None
    offset_text: str = ""
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{_series(self)}{_modifiers(self)}"


@dataclass(frozen=True, slots=True)
class MatrixSelector:
    """A range vector from the store; offset and `@` are those of its selector."""

    selector: VectorSelector
    range_ms: int
    range_text: str = ""
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)

    def __str__(self) -> str:
        selector = self.selector
        window = f"[{self.range_text or format_duration(self.range_ms)}]"
        return f"{_series(selector)}{window}{_modifiers(selector)}"


@dataclass(frozen=True, slots=True)
class Subquery:
    """A range vector from evaluating `expr` on a grid; no `step_ms` means the default step."""

    expr: "Node"
    range_ms: int
    step_ms: int | None = None
    offset_ms: int = 0
    at: int | AtEdge | None = None
    range_text: str = ""
    step_text: str = ""
    offset_text: str = ""
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)

    @property
    def window(self) -> str:
        """What follows the expression: range, step and modifiers."""
        step = "" if self.step_ms is None else self.step_text or format_duration(self.step_ms)
        window = f"[{self.range_text or format_duration(self.range_ms)}:{step}]"
        return f"{window}{_modifiers(self)}"

    def __str__(self) -> str:
        return f"{self.expr}{self.window}"


@dataclass(frozen=True, slots=True)
class Call:
    """A function call."""

    function: Function
    args: tuple["Node", ...]
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{self.function.name}({', '.join(map(str, self.args))})"


@dataclass(frozen=True, slots=True)
class Aggregate:
    """An aggregation of `expr` by, or without, the labels `grouping`."""

    op: str
    expr: "Node"
    param: "Node | None" = None
    grouping: tuple[str, ...] = ()
    without: bool = False
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)

    @property
    def head(self) -> str:
        """What precedes the bracket: the operator and the labels it keeps or drops."""
        if not (self.without or self.grouping):
            return self.op
        return f"{self.op} {'without' if self.without else 'by'} ({_labels(self.grouping)}) "

    def __str__(self) -> str:
        param = "" if self.param is None else f"{self.param}, "
        return f"{self.head}({param}{self.expr})"


@dataclass(frozen=True, slots=True)
class Binary:
    """A binary operation; `matching` is there when both sides are vectors."""

    op: str
    lhs: "Node"
    rhs: "Node"
    matching: Matching | None = None
    return_bool: bool = False
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)
    op_start: int = field(default=0, compare=False)

    @property
    def operator(self) -> str:
        """What is between the sides: the operator and its modifiers."""
        return f"{self.op}{' bool' if self.return_bool else ''}{_matching(self.matching)}"

    def __str__(self) -> str:
        return f"{self.lhs} {self.operator} {self.rhs}"


@dataclass(frozen=True, slots=True)
class Unary:
    """A sign before an expression."""

    op: str
    expr: "Node"
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{self.op}{self.expr}"


@dataclass(frozen=True, slots=True)
class Paren:
    """An expression in parentheses; kept for printing."""

    expr: "Node"
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"({self.expr})"


@dataclass(frozen=True, slots=True)
class StepInvariant:
    """An expression with the same value at every step, evaluated once; made by a rewrite."""

    expr: "Node"
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return str(self.expr)


Node: TypeAlias = (
    NumberLiteral
    | StringLiteral
    | VectorSelector
    | MatrixSelector
    | Subquery
    | Call
    | Aggregate
    | Binary
    | Unary
    | Paren
    | StepInvariant
)


def value_type(node: Node) -> ValueType:
    """Return the type of *node*."""
    match node:
        case NumberLiteral():
            found = ValueType.SCALAR
        case StringLiteral():
            found = ValueType.STRING
        case MatrixSelector() | Subquery():
            found = ValueType.RANGE
        case VectorSelector() | Aggregate():
            found = ValueType.VECTOR
        case Call():
            found = node.function.returns
        case Unary() | Paren() | StepInvariant():
            found = value_type(node.expr)
        case Binary():
            sides = {value_type(node.lhs), value_type(node.rhs)}
            found = ValueType.SCALAR if sides == {ValueType.SCALAR} else ValueType.VECTOR
    return found


def unwrap(node: Node) -> Node:
    """Return *node* without parentheses and step-invariant marks around it."""
    while isinstance(node, Paren | StepInvariant):
        node = node.expr
    return node


def children(node: Node) -> tuple[Node, ...]:
    """Return the nodes directly below *node*."""
    match node:
        case NumberLiteral() | StringLiteral() | VectorSelector():
            return ()
        case MatrixSelector():
            return (node.selector,)
        case Call():
            return node.args
        case Aggregate():
            return (node.expr,) if node.param is None else (node.param, node.expr)
        case Binary():
            return (node.lhs, node.rhs)
        case Subquery() | Unary() | Paren() | StepInvariant():
            return (node.expr,)


def with_children(node: Node, below: Sequence[Node]) -> Node:
    """Return *node* with other nodes below it, in the order of `children`."""
    match node:
        case Call():
            return replace(node, args=tuple(below))
        case Aggregate():
            param = below[0] if len(below) == 2 else None
            return replace(node, param=param, expr=below[-1])
        case Binary():
            return replace(node, lhs=below[0], rhs=below[1])
        case Subquery() | Unary() | Paren() | StepInvariant():
            return replace(node, expr=below[0])
        case _:
            return node


def _series(selector: VectorSelector) -> str:
    own = Matcher(METRIC_NAME, MatchOp.EQUAL, selector.name)
    matchers = [m for m in selector.matchers if not (selector.name and m == own)]
    if not matchers and selector.name:
        return selector.name
    return f"{selector.name}{{{','.join(map(_matcher, matchers))}}}"


def _matcher(matcher: Matcher) -> str:
    return f"{_labels((matcher.name,))}{matcher.op.value}{quoted(matcher.value)}"


def _modifiers(node: VectorSelector | Subquery) -> str:
    text, at = "", node.at
    if isinstance(at, AtEdge):
        text = f" @ {at.value}()"
    elif at is not None:
        text = f" @ {at / 1000:.3f}"
    offset = node.offset_text or (format_duration(node.offset_ms) if node.offset_ms else "")
    return f"{text} offset {offset}" if offset else text


def _matching(matching: Matching | None) -> str:
    if matching is None:
        return ""
    text = ""
    if matching.on or matching.labels:
        text = f" {'on' if matching.on else 'ignoring'} ({_labels(matching.labels)})"
    if matching.cardinality is Cardinality.MANY_TO_ONE:
        text += f" group_left ({_labels(matching.include)})"
    if matching.cardinality is Cardinality.ONE_TO_MANY:
        text += f" group_right ({_labels(matching.include)})"
    if matching.fill_many is not None and matching.fill_many == matching.fill_one:
        return f"{text} fill ({format_float(matching.fill_many)})"
    if matching.fill_many is not None:
        text += f" fill_left ({format_float(matching.fill_many)})"
    if matching.fill_one is not None:
        text += f" fill_right ({format_float(matching.fill_one)})"
    return text


def _labels(names: tuple[str, ...]) -> str:
    return ", ".join(
        name if name.isascii() and name.isidentifier() else quoted(name) for name in names
    )
