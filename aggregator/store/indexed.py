"""What the backends have in common: they answer from the label index, and read the head first."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from aggregator.model.arrays import Ids
from aggregator.model.budget import Budget
from aggregator.model.labels import Matcher, Strings
from aggregator.model.samples import Newest, SeriesSamples
from aggregator.store.cardinality import Cardinality
from aggregator.store.head import Head
from aggregator.store.index import LabelIndex
from aggregator.store.interface import SeriesSelection
from aggregator.store.lifetimes import Lifetimes


class IndexedStore(ABC):
    """A store whose labels and newest samples are in memory; where the others are, it adds."""

    def __init__(self, index: LabelIndex, head: Head) -> None:
        self._index, self._head = index, head
        self._generation = 0

    @property
    def series_count(self) -> int:
        """How many series the store knows."""
        return self._index.catalog.tables.series_count

    @property
    def generation(self) -> int:
        """Changes whenever ids were forgotten."""
        return self._generation

    def series_ids(self, series: Sequence[Mapping[str, str]]) -> Ids:
        """Return the id of each label set, giving new ones an id."""
        return self._index.ids(series)

    def strings(self) -> Strings:
        """Return a dictionary for one query."""
        return self._index.catalog.strings.overlay()

    def select(
        self,
        matchers: Sequence[Matcher],
        start_ms: int,
        end_ms: int,
        strings: Strings,
        budget: Budget,
    ) -> SeriesSelection:
        """Return the series that match and may have a sample in [start_ms, end_ms]."""
        return self._index.catalog.select(matchers, start_ms, end_ms, strings, budget)

    def label_names(
        self, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int, budget: Budget
    ) -> Sequence[str]:
        """Return the label names of the series that match any selector, sorted."""
        return self._index.catalog.label_names(selectors, start_ms, end_ms, budget)

    def label_values(
        self,
        name: str,
        selectors: Sequence[Sequence[Matcher]],
        start_ms: int,
        end_ms: int,
        budget: Budget,
    ) -> Sequence[str]:
        """Return the values of the label *name* among them, sorted."""
        return self._index.catalog.label_values(name, selectors, start_ms, end_ms, budget)

    def cardinality(self, matchers: Sequence[Matcher], limit: int, budget: Budget) -> Cardinality:
        """Return how many series match, and the *limit* names and values that most of them have."""
        return self._index.catalog.cardinality(matchers, limit, budget)

    def read(self, ids: Ids, start_ms: int, end_ms: int, budget: Budget) -> Iterator[SeriesSamples]:
        """Yield the samples in (start_ms, end_ms] of *ids* (ascending), run after run."""
        done = 0
        for run in self._head.runs(self._lives, ids, start_ms, end_ms, budget):
            yield run
            done += run.count
        if done < ids.size:
            for run in self._stored(ids[done:], start_ms, end_ms, budget):
                yield replace(run, first_row=run.first_row + done) if done else run

    def newest(self, ids: Ids, start_ms: int, end_ms: int, budget: Budget) -> Newest | None:
        """Return the newest sample in (start_ms, end_ms] of each of *ids*, None if it has to look.

        None means that not everything is in memory, and `read` tells.
        """
        return self._head.newest(self._lives, ids, start_ms, end_ms, budget)

    @abstractmethod
    def _stored(
        self, ids: Ids, start_ms: int, end_ms: int, budget: Budget
    ) -> Iterator[SeriesSamples]:
        """Yield what `read` does, of *ids* (ascending, not empty) that are not all in the head."""

    def _lives(self) -> Lifetimes:
        return self._index.catalog.lives
