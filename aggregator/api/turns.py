"""Jobs that wait: clients take turns, and so do the lines of a client (a dashboard each)."""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

Job: TypeAlias = Callable[[], None]

_MAX_WAITING = 1_000
_MAX_WAITING_OF_CLIENT = 600  # a Grafana with 20 dashboards of 30 panels


@dataclass(frozen=True, slots=True)
class Turn:
    """A job, and whose it is."""

    client: str
    line: str
    job: Job


class Turns:
    """The lines of all clients, in the order of their turns; its callers serialise access."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, OrderedDict[str, deque[Turn]]] = OrderedDict()
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def add(self, turn: Turn) -> bool:
        """Put *turn* at the end of its line, or return False if too many wait."""
        lines = self._lines.get(turn.client, OrderedDict())
        if self._waiting >= _MAX_WAITING or _length(lines) >= _MAX_WAITING_OF_CLIENT:
            return False
        lines.setdefault(turn.line, deque()).append(turn)
        self._lines[turn.client] = lines
        self._waiting += 1
        return True

    def take(self, may_start: Callable[[str, str], bool]) -> Turn | None:
        """Take the next turn whose client and line may start, None if there is none.

        Both the client and the line go to the end.
        """
        for client, lines in self._lines.items():
            for line, waiting in lines.items():
                if may_start(client, line):
                    turn = waiting.popleft()
                    self._waiting -= 1
                    self._move_to_end(turn)
                    return turn
        return None

    def clear(self) -> None:
        """Forget everything."""
        self._lines.clear()
        self._waiting = 0

    def _move_to_end(self, turn: Turn) -> None:
        lines = self._lines[turn.client]
        lines.move_to_end(turn.line)
        self._lines.move_to_end(turn.client)
        if not lines[turn.line]:
            del lines[turn.line]
        if not lines:
            del self._lines[turn.client]


def _length(lines: OrderedDict[str, deque[Turn]]) -> int:
    return sum(map(len, lines.values()))
