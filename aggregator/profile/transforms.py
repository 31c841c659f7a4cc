"""Named transforms of label values: how a `map` entry turns a source's spelling into the fleet's.

A transform gets a value that is not empty and the names of the cluster's namespaces. What it
returns empty is an absent label.
"""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import TypeAlias

Namespaces: TypeAlias = AbstractSet[str]
Transform: TypeAlias = Callable[[str, Namespaces], str]

_CLASSES = "12345"
_NAMESPACE_LENGTH = 63  # Kubernetes allows no longer ones


def _code_class(text: str, _namespaces: Namespaces) -> str:
    """Return the class of a status code: `200`, `2xx` and `2` are `2xx`; no code is `none`."""
    code = text.lower()
    if code in ("0", "-", "000"):
        return "none"
    if code[0] in _CLASSES and len(code) in (1, 3) and (code[1:].isdecimal() or code[1:] in "xx"):
        return f"{code[0]}xx"
    return "other"


def _lower(text: str, _namespaces: Namespaces) -> str:
    """Return the text in lower case."""
    return text.lower()


def _span_status(text: str, _namespaces: Namespaces) -> str:
    """Return `5xx` for a span that failed and `2xx` for any other."""
    return "5xx" if text == "STATUS_CODE_ERROR" else "2xx"


def _part1(text: str, _namespaces: Namespaces) -> str:
    """Return the second piece of a name like `httproute/shop/cart/rule/0`."""
    return _piece(text, 1)


def _part2(text: str, _namespaces: Namespaces) -> str:
    """Return the third piece of a name like `httproute/shop/cart/rule/0`."""
    return _piece(text, 2)


def _piece(text: str, index: int) -> str:
    pieces = text.split("/", index + 1)
    return pieces[index] if len(pieces) > index else ""


def _after_slash(text: str, _namespaces: Namespaces) -> str:
    """Return what follows the first slash (`shop/cart` is `cart`), everything if there is none."""
    return text.partition("/")[2] or text


def _join(text: str, _namespaces: Namespaces) -> str:
    """Return the text: the labels have been joined by `/` already."""
    return text


def _traefik_namespace(text: str, namespaces: Namespaces) -> str:
    """Return the namespace in `<namespace>-<service>-<port>@<provider>`."""
    return _traefik(text, namespaces)[0]


def _traefik_service(text: str, namespaces: Namespaces) -> str:
    """Return the service in `<namespace>-<service>-<port>@<provider>`."""
    return _traefik(text, namespaces)[1]


def _traefik(text: str, namespaces: Namespaces) -> tuple[str, str]:
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
    "part1": _part1,
    "part2": _part2,
    "span_status": _span_status,
    "traefik_ns": _traefik_namespace,
    "traefik_svc": _traefik_service,
    "xx": _code_class,  # `5` is `5xx`: one of the spellings that `class` reads
}

# These need to know the cluster's namespaces.
NAMESPACE_TRANSFORMS = frozenset({"traefik_ns", "traefik_svc"})
