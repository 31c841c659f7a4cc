"""What of the language a query uses, to see that random queries use all of it."""

from collections.abc import Iterator

from aggregator.promql.functions import FUNCTIONS
from aggregator.promql.plan import (
    COMPARISONS,
    SET_OPERATORS,
    Aggregate,
    AtEdge,
    Binary,
    Call,
    MatrixSelector,
    Node,
    Subquery,
    Unary,
    ValueType,
    VectorSelector,
    children,
    value_type,
)
from tests.promql.queries import NOT_GENERATED

ARITHMETIC = ("+", "-", "*", "/", "%", "^", "atan2")
AGGREGATIONS = (
    "sum", "avg", "min", "max", "count", "group", "stddev", "stdvar", "topk", "bottomk",
    "quantile", "count_values",
)  # fmt: skip


def wanted_constructs() -> set[str]:
    """Return everything that means the same in both versions."""
    wanted = {f"{name}()" for name in FUNCTIONS.keys() - NOT_GENERATED.keys()}
    wanted |= {f"{name} {how}" for name in AGGREGATIONS for how in ("all", "by", "without")}
    operators = (*ARITHMETIC, *COMPARISONS)
    wanted |= {f"{op} {sides}" for op in operators for sides in ("vs", "sv", "ss")}
    wanted |= {f"{op} vv" for op in operators if op != "atan2"}
    wanted |= {f"{op} bool" for op in COMPARISONS}
    joins = ("on", "ignoring", "bare")
    wanted |= {f"{op} {how}" for op in SET_OPERATORS for how in joins}
    wanted |= {f"one-to-one {how}" for how in joins}
    wanted |= {f"{side} {how}" for side in ("many-to-one",) for how in ("on", "ignoring")}
    wanted |= {"one-to-many on", "include", "no include"}
    wanted |= {"matcher =", "matcher !=", "matcher =~", "matcher !~", "matcher on __name__"}
    wanted |= {"unary -", "unary +", "offset +", "offset -", "@ number", "@ start", "@ end"}
    wanted |= {"range", "subquery", "subquery default step", "subquery offset", "subquery @"}
    return wanted | {"top-level range", "top-level scalar", "top-level vector"}


def constructs(root: Node) -> set[str]:
    """Return what the plan *root* uses."""
    kinds = {ValueType.RANGE: "range", ValueType.SCALAR: "scalar", ValueType.VECTOR: "vector"}
    return {f"top-level {kinds[value_type(root)]}", *_all(root)}


def _all(node: Node) -> Iterator[str]:
    yield from _of(node)
    for child in children(node):
        yield from _all(child)


def _of(node: Node) -> Iterator[str]:
    match node:
        case Call():
            yield f"{node.function.name}()"
        case Aggregate():
            how = "without" if node.without else "by" if node.grouping else "all"
            yield f"{node.op} {how}"
        case Binary():
            yield from _operation(node)
        case Unary():
            yield f"unary {node.op}"
        case MatrixSelector():
            yield "range"
        case VectorSelector():
            yield from (f"matcher {m.op.value}" for m in node.matchers if m.name != "__name__")
            yield from _modifiers(node, "")
            if not node.name:
                yield "matcher on __name__"
        case Subquery():
            yield "subquery" if node.step_ms else "subquery default step"
            yield from _modifiers(node, "subquery ")
        case _:
            return


def _modifiers(node: VectorSelector | Subquery, of: str) -> Iterator[str]:
    if node.offset_ms:
        yield f"{of}offset" if of else f"offset {'+' if node.offset_ms > 0 else '-'}"
    if node.at is not None:
        kind = node.at.value if isinstance(node.at, AtEdge) else "number"
        yield f"{of}@" if of else f"@ {kind}"


def _operation(node: Binary) -> Iterator[str]:
    sides = ["s" if value_type(each) is ValueType.SCALAR else "v" for each in (node.lhs, node.rhs)]
    if node.op not in SET_OPERATORS:
        yield f"{node.op} {''.join(sides)}"
    if node.return_bool:
        yield f"{node.op} bool"
    if node.matching is None:
        return
    matching = node.matching
    how = "on" if matching.on else "ignoring" if matching.labels else "bare"
    yield f"{node.op if node.op in SET_OPERATORS else matching.cardinality.value} {how}"
    if "many" in matching.cardinality.value and node.op not in SET_OPERATORS:
        yield "include" if matching.include else "no include"
