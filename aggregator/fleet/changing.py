"""What is said of clusters, found again only for those of which it may have changed."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
_SLACK_MS = 600_000  # a query asks when it ends, for the time at which it began


@dataclass(frozen=True, slots=True)
class Finding(Generic[T]):
    """What was found of one cluster; time alone changes nothing of it before `until_ms`."""

    items: Sequence[T]
    until_ms: float


class Changing(Generic[T]):
    """The findings of all clusters. Any thread may use it.

    Queries ask much more often than clusters change, so that asking costs nothing for a cluster
    that did not.
    """

    def __init__(self, names: Iterable[str], find: Callable[[str, int], Finding[T]]) -> None:
        """*find* returns what there is to say of a cluster at a time in ms."""
        self._find = find
        self._lock = threading.Lock()
        self._found: dict[str, Finding[T] | None] = dict.fromkeys(names)
        self._stale = set(self._found)
        self._until_ms = float("inf")
        self._asked_ms = 0
        self._items: tuple[T, ...] = ()

    def changed(self, name: str) -> None:
        """Note that there may be something else to say of a cluster."""
        self._stale.add(name)

    def at(self, now_ms: int) -> tuple[T, ...]:
        """Return what there is to say of all clusters, in their order."""
        with self._lock:
            if now_ms < self._asked_ms - _SLACK_MS:  # the clock was set back
                self._stale.update(self._found)
                self._asked_ms = now_ms
            elif now_ms >= self._until_ms:
                self._stale.update(name for name, one in self._known() if one.until_ms <= now_ms)
            self._asked_ms = max(now_ms, self._asked_ms)
            if self._stale:
                self._refresh(now_ms)
            return self._items

    def _refresh(self, now_ms: int) -> None:
        while self._stale:  # others add to it meanwhile
            name = self._stale.pop()
            if name in self._found:
                self._found[name] = self._find(name, now_ms)
        self._until_ms = min((one.until_ms for _, one in self._known()), default=float("inf"))
        self._items = tuple(item for _, one in self._known() for item in one.items)

    def _known(self) -> list[tuple[str, Finding[T]]]:
        return [(name, one) for name, one in self._found.items() if one is not None]
