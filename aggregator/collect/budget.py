"""How many series a cluster may have, which are let in above that, and who is to blame.

What is known goes before what is new, and metrics take turns, so that a label that explodes does
not push out the series of others. New series cost more than others and stay in the store until
they are past retention: a cluster may bring as many as its limit at once, and as many again in an
hour.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from aggregator.fleet.health import Dropped
from aggregator.model.arrays import Bools, Ints
from aggregator.model.labels import METRIC_NAME
from aggregator.sources.failures import clean_text

_HOUR_MS = 3_600_000
_SAMPLE = 1_000
_NAME_CHARS = 100


@dataclass(slots=True)
class NewSeries:
    """What a cluster may still bring of one kind of series; `now` returns ms."""

    limit: int
    now: Callable[[], int]
    _left: float = field(init=False)
    _filled_ms: int = field(init=False)

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Allow as many as at first: nothing is known any more of what was there."""
        self._left, self._filled_ms = float(self.limit), self.now()

    def left(self) -> int:
        """Return how many new series are let in now."""
        now_ms = self.now()
        passed_ms = max(0, now_ms - self._filled_ms)
        self._filled_ms = now_ms
        self._left = min(float(self.limit), self._left + self.limit * passed_ms / _HOUR_MS)
        return int(self._left)

    def take(self, count: int) -> None:
        """Note that *count* new series were let in."""
        self._left -= count


@dataclass(frozen=True, slots=True)
class Admitted:
    """Which rows are kept, and how many are not: above the limit, and new ones above theirs."""

    kept: Bools
    over: int
    churned: int

    @property
    def cut(self) -> int:
        """How many rows are left out."""
        return self.over + self.churned


def admit(known: Bools, places: Callable[[], Ints], room: int, new: NewSeries) -> Admitted:
    """Choose among rows, of which *known* were there before, when there is *room* for so many.

    Of rows that are alike in that, those with the lowest of *places* are kept, which is asked for
    only if something has to be left out.
    """
    room = max(0, room)
    count = int(np.count_nonzero(known))
    fresh = min(max(0, room - count), new.left())
    if count <= room and known.size - count <= fresh:
        new.take(known.size - count)
        return Admitted(np.ones(known.size, np.bool_), 0, 0)
    order = np.argsort(places())
    kept = np.zeros(known.size, np.bool_)
    kept[order[known[order]][:room]] = True
    kept[order[~known[order]][:fresh]] = True
    new.take(int(np.count_nonzero(kept & ~known)))
    over = max(0, known.size - room)
    return Admitted(kept, over, known.size - int(np.count_nonzero(kept)) - over)


def fair_places(names: Sequence[bytes], series: Sequence[bytes]) -> Ints:
    """Return where each of *series* stands when their metrics, *names*, take turns.

    So a metric that explodes is cut before it costs another one a series. Always the same.
    """
    count = len(series)
    turns: dict[bytes, int] = {}
    turn = np.empty(count, np.int64)
    by_bytes = sorted(range(count), key=series.__getitem__)
    for row in by_bytes:
        turn[row] = turns[names[row]] = turns.get(names[row], -1) + 1
    last = np.empty(count, np.int64)
    last[by_bytes] = np.arange(count)
    places = np.empty(count, np.int64)
    places[np.lexsort((last, turn))] = np.arange(count)
    return places


def sampled(rows: Ints) -> list[int]:
    """Return some of *rows*, evenly spread: enough to name a culprit."""
    if rows.size > _SAMPLE:
        rows = rows[np.linspace(0, rows.size - 1, _SAMPLE).astype(np.int64)]
    chosen: list[int] = rows.tolist()
    return chosen


def blamed(labels: Sequence[Mapping[str, str]], admitted: Admitted, limit: int) -> Dropped | None:
    """Return what to say of the series that are left out, of which *labels* are some.

    Names the metric with most of them, and the label in which those differ most; None if nothing
    is left out. What a cluster calls its series is cut short.
    """
    if not admitted.cut:
        return None
    dropped = Dropped(admitted.cut, limit, new=not admitted.over)
    if not labels:
        return dropped
    [(metric, _)] = Counter(each.get(METRIC_NAME, "") for each in labels).most_common(1)
    values: dict[str, set[str]] = {}
    for each in labels:
        if each.get(METRIC_NAME, "") == metric:
            for name, value in each.items():
                values.setdefault(name, set()).add(value)
    worst = max(sorted(values), key=lambda name: len(values[name]))
    return replace(
        dropped,
        metric=clean_text(metric, _NAME_CHARS),
        label=clean_text(worst, _NAME_CHARS),
        values=len(values[worst]),
    )
