"""Which names are in use: one living series proves a name."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from aggregator.model.arrays import Bools, Ids
from aggregator.model.labels import METRIC_NAME
from aggregator.store.lifetimes import UNPROVEN, Lifetimes, Span
from aggregator.store.tables import Tables


@dataclass(slots=True)
class _Proofs:
    """Sorted names, and a series of each that is `there`; of `count` names with the empty one.

    Series are replaced in place: any of them is right. All names live in what `span` covers.
    """

    count: int
    names: list[str]
    ids: Ids
    there: Bools
    span: Span = UNPROVEN


class Witnesses:
    """For each of some names that only become more, a series that proves that it is in use."""

    def __init__(
        self, names: Callable[[], Sequence[str]], series: Callable[[str], Iterator[Ids]]
    ) -> None:
        self._names, self._series = names, series
        self._proofs = _Proofs(0, [], np.empty(0, np.uint32), np.empty(0, np.bool_))

    @staticmethod
    def of_metrics(tables: Tables) -> "Witnesses":
        """Return what proves the names of metrics."""

        def series(metric: str) -> Iterator[Ids]:
            view = tables.view(metric)
            if view is not None:
                yield view.ids

        return Witnesses(tables.metrics, series)

    @staticmethod
    def of_labels(tables: Tables) -> "Witnesses":
        """Return what proves the names of labels, the metric name's included."""

        def names() -> Sequence[str]:
            return [*tables.names, METRIC_NAME]

        def series(label: str) -> Iterator[Ids]:
            for metric, view in tables.views():
                column = view.column(label)
                if label == METRIC_NAME and metric:
                    yield view.ids
                elif column is not None:
                    yield view.ids[column != 0]

        return Witnesses(names, series)

    def living(self, lives: Lifetimes, start_ms: int, end_ms: int) -> Sequence[str]:
        """Return the names of the series that may have a sample in [start_ms, end_ms], sorted."""
        proofs = self._current()
        if proofs.span.covers(start_ms, end_ms):
            return proofs.names
        there = proofs.there.copy()  # before the series: others put these in place meanwhile
        alive = lives.alive(proofs.ids.copy(), start_ms, end_ms) & there
        for place in np.flatnonzero(~alive).tolist():
            for ids in self._series(proofs.names[place]):
                living = ids[lives.alive(ids, start_ms, end_ms)]
                if living.size:
                    proofs.ids[place] = living[-1]
                    proofs.there[place] = alive[place] = True
                    break
        if alive.all():
            proofs.span = lives.span(proofs.ids.copy())
            return proofs.names
        return list(itertools.compress(proofs.names, alive.tolist()))

    def _current(self) -> _Proofs:
        """Return the proofs of the names that there are now."""
        held, names = self._proofs, self._names()
        if held.count == len(names):
            return held
        ordered = sorted(name for name in names if name)
        known = dict(itertools.compress(zip(held.names, held.ids, strict=True), held.there))
        ids = np.array([known.get(name, 0) for name in ordered], np.uint32)
        there = np.array([name in known for name in ordered], np.bool_)
        self._proofs = made = _Proofs(len(names), ordered, ids, there)
        return made
