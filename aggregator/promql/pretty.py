"""Query text as Prometheus formats it: what is too long for a line is broken up by structure."""

from typing import Final

from aggregator.promql.plan import Aggregate, Binary, Call, Node, Paren, Subquery, Unary

_MAX_LINE: Final = 100
_INDENT: Final = "  "


def pretty(node: Node, level: int = 0) -> str:
    """Return *node* as lines of about 100 characters, the first indented by *level*."""
    indent, text = _INDENT * level, str(node)
    if len(text) <= _MAX_LINE:
        return indent + text
    match node:
        case Aggregate():
            args = [node.expr] if node.param is None else [node.param, node.expr]
            text = _bracketed(node.head, args, level)
        case Call():
            text = _bracketed(node.function.name, list(node.args), level)
        case Paren():
            text = _bracketed("", [node.expr], level)
        case Binary():
            left, right = pretty(node.lhs, level + 1), pretty(node.rhs, level + 1)
            return f"{left}\n{indent}{node.operator}\n{right}"
        case Subquery():
            return pretty(node.expr, level) + node.window
        case Unary():
            text = node.op + pretty(node.expr, level).lstrip()
        case _:
            pass
    return indent + text


def _bracketed(head: str, args: list[Node], level: int) -> str:
    inside = ",\n".join(pretty(each, level + 1) for each in args)
    return f"{head}(\n{inside}\n{_INDENT * level})"
