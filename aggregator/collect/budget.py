"""How many series a cluster may have, which are let in above that, and who is to blame.

What is known goes before what is new, so that a label that explodes does not push out the series
that were there before. New series cost more than others and stay in the store until they are past
retention: a cluster may bring as many as its limit at once, and as many again in an hour.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

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


def admit(known: Bools, order: Callable[[int], Any], room: int, new: NewSeries) -> Admitted:
    """Choose among rows, of which *known* were there before, when there is *room* for so many.

    Of rows that are alike in that, those that come first by *order* are kept.
    """
    left = new.left()
    chosen_known = _first(np.flatnonzero(known), order, room)
    chosen_new = _first(np.flatnonzero(~known), order, min(room - chosen_known.size, left))
    new.take(chosen_new.size)
    kept = np.zeros(known.size, np.bool_)
    kept[chosen_known] = kept[chosen_new] = True
    over = max(0, known.size - max(room, 0))
    missing = known.size - int(np.count_nonzero(kept))
    return Admitted(kept, over, missing - over)


def _first(rows: Ints, order: Callable[[int], Any], count: int) -> Ints:
    if rows.size <= count:
        return rows
    chosen = sorted(rows.tolist(), key=order)[: max(0, count)]
    return np.array(chosen, np.int64)


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
