"""What is said of clusters, found again only for those of which it may have changed."""

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Finding(Generic[T]):
    """What was found of one cluster; it holds from `since_ms` until before `until_ms`."""

    items: Sequence[T]
    since_ms: float
    until_ms: float

    def holds(self, now_ms: int) -> bool:
        """Tell whether it still is what there is to say, if nothing but time has changed."""
        return self.since_ms <= now_ms < self.until_ms


class Changing(Generic[T]):
    """The findings of all clusters. Any thread may use it.

    Queries ask much more often than clusters change, so that asking costs nothing for a cluster
    that did not. Their times need not ascend: long ones ask for the time at which they began, and
    clocks are set back.
    """

    def __init__(self, names: Iterable[str], find: Callable[[str, int], Finding[T]]) -> None:
        """*find* returns what there is to say of a cluster at a time in ms."""
        self._find = find
        self._lock = threading.Lock()
        self._found: dict[str, Finding[T] | None] = dict.fromkeys(names)
        self._stale = set(self._found)
        self._all: Finding[T] = Finding((), -math.inf, math.inf)

    def changed(self, name: str) -> None:
        """Note that there may be something else to say of a cluster."""
        self._stale.add(name)

    def at(self, now_ms: int) -> Sequence[T]:
        """Return what there is to say of all clusters, in their order."""
        with self._lock:
            if not self._all.holds(now_ms):
                self._stale.update(name for name, one in self._known() if not one.holds(now_ms))
            if self._stale:
                self._refresh(now_ms)
            return self._all.items

    def _refresh(self, now_ms: int) -> None:
        while self._stale:  # others add to it meanwhile
            name = self._stale.pop()
            if name in self._found:
                self._found[name] = self._find(name, now_ms)
        known = [one for _, one in self._known()]
        self._all = Finding(
            tuple(item for one in known for item in one.items),
            max((one.since_ms for one in known), default=-math.inf),
            min((one.until_ms for one in known), default=math.inf),
        )

    def _known(self) -> list[tuple[str, Finding[T]]]:
        return [(name, one) for name, one in self._found.items() if one is not None]
