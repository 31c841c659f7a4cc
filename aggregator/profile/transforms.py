"""Named transforms of label values: how a `map` entry turns a source's spelling into the fleet's.

A transform gets a value that is not empty and the names of the cluster's namespaces and nodes. What
it returns empty is an absent label.
"""

import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TypeAlias

from aggregator.profile.nodes import NodeNames


@dataclass(frozen=True, slots=True)
class Names:
    """What a cluster calls its namespaces and nodes, as far as it was asked."""

    namespaces: AbstractSet[str] = frozenset()
    nodes: NodeNames = field(default_factory=NodeNames)


Transform: TypeAlias = Callable[[str, Names], str]

_CLASSES = "12345"
# Bounded, so that a version made of digits alone costs no more than another.
_VERSION = re.compile(r"v?([0-9]{1,5}\.[0-9]{1,5}\.[0-9]{1,9})")
_NAMESPACE_LENGTH = 63  # Kubernetes allows no longer ones


def _code_class(text: str, _names: Names) -> str:
    """Return the class of a status code: `200`, `2xx` and `2` are `2xx`; no code is `none`."""
    code = text.lower()
    if code in ("0", "-", "000"):
        return "none"
    if code[0] in _CLASSES and len(code) in (1, 3) and (code[1:].isdecimal() or code[1:] in "xx"):
        return f"{code[0]}xx"
    return "other"


def _lower(text: str, _names: Names) -> str:
    """Return the text in lower case."""
    return text.lower()


def _span_status(text: str, _names: Names) -> str:
    """Return `5xx` for a span that failed and `2xx` for any other."""
    return "5xx" if text == "STATUS_CODE_ERROR" else "2xx"


def _part1(text: str, _names: Names) -> str:
    """Return the second piece of a name like `httproute/shop/cart/rule/0`."""
    return _piece(text, 1)


def _part2(text: str, _names: Names) -> str:
    """Return the third piece of a name like `httproute/shop/cart/rule/0`."""
    return _piece(text, 2)


def _piece(text: str, index: int) -> str:
    pieces = text.split("/", index + 1)
    return pieces[index] if len(pieces) > index else ""


def _after_slash(text: str, _names: Names) -> str:
    """Return what follows the first slash (`shop/cart` is `cart`), everything if there is none."""
    return text.partition("/")[2] or text


def _join(text: str, _names: Names) -> str:
    """Return the text: the labels have been joined by `/` already."""
    return text


def _node(text: str, names: Names) -> str:
    """Return the node of an exporter's instance."""
    return names.nodes.of(text)


def _version(text: str, _names: Names) -> str:
    """Return `v1.35.0` of `v1.35.0-eks-1` and `1.35.0+k3s1`; what is no version stays."""
    match = _VERSION.match(text)
    return text if match is None else f"v{match[1]}"


def _traefik_namespace(text: str, names: Names) -> str:
    """Return the namespace in `<namespace>-<service>-<port>@<provider>`."""
    return _traefik(text, names.namespaces)[0]


def _traefik_service(text: str, names: Names) -> str:
    """Return the service in `<namespace>-<service>-<port>@<provider>`."""
    return _traefik(text, names.namespaces)[1]


def _traefik(text: str, namespaces: AbstractSet[str]) -> tuple[str, str]:
    """Split at the longest known namespace, since hyphens are ambiguous; else keep the name whole.

    Only providers that read Kubernetes objects put a namespace in front.
    """
    name, _, provider = text.rpartition("@")
    if not name:
        return "", text
    if not provider.startswith("kubernetes"):
        return "", name
    end = name.rfind("-", 0, _NAMESPACE_LENGTH + 1)
    while end > 0:
        if name[:end] in namespaces:
            service = name[end + 1 :]
            return name[:end], service.rpartition("-")[0] or service
        end = name.rfind("-", 0, end)
    return "", name


TRANSFORMS: Mapping[str, Transform] = {
    "after_slash": _after_slash,
    "class": _code_class,
    "join": _join,
    "lower": _lower,
    "node": _node,
    "part1": _part1,
    "part2": _part2,
    "span_status": _span_status,
    "traefik_ns": _traefik_namespace,
    "traefik_svc": _traefik_service,
    "version": _version,
    "xx": _code_class,  # `5` is `5xx`: one of the spellings that `class` reads
}

# What has to be asked beside a candidate, because its transform looks it up.
NAMESPACES, NODES, HOSTS, AGENTS = "namespaces", "nodes", "hosts", "agents"
NEEDS: Mapping[str, tuple[str, ...]] = {
    "node": (NODES, HOSTS, AGENTS),
    "traefik_ns": (NAMESPACES,),
    "traefik_svc": (NAMESPACES,),
}
