"""What the rest of the aggregator may ask of a store of samples: one Protocol a job.

Times are int64 milliseconds UTC. A window is left-open and right-closed. Every method may raise
`StoreError`; reads also raise what their `Budget` raises.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from aggregator.model.arrays import Bools, Floats, Ids, Ints
from aggregator.model.budget import Budget
from aggregator.model.labels import LabelTable, Matcher, Strings
from aggregator.model.record import record
from aggregator.model.samples import Newest, SampleBlock, SeriesSamples
from aggregator.store.cardinality import Cardinality


@record
class SeriesSelection:
    """The series that matched: ids ascending, and one row of labels (name included) for each."""

    ids: Ids
    labels: LabelTable


@dataclass(frozen=True, slots=True)
class WriteReport:
    """What became of a block's samples.

    `duplicates` were stored already with the same value, `conflicts` with another one (the first
    stays, but a real value replaces a stale marker and is then counted as inserted). `refused`
    have an id that was forgotten or never given, or a time that cannot be kept.
    """

    inserted: int
    duplicates: int
    conflicts: int
    refused: int = 0


class SeriesReader(Protocol):
    """Reads series and their samples."""

    def strings(self) -> Strings:
        """Return a dictionary for one query; pass it to every `select` of that query."""
        ...

    def select(
        self,
        matchers: Sequence[Matcher],
        start_ms: int,
        end_ms: int,
        strings: Strings,
        budget: Budget,
    ) -> SeriesSelection:
        """Return the series that match and may have a sample in [start_ms, end_ms]."""
        ...

    def read(self, ids: Ids, start_ms: int, end_ms: int, budget: Budget) -> Iterator[SeriesSamples]:
        """Yield the samples in (start_ms, end_ms] of *ids* (ascending), run after run.

        The runs cover all of *ids* in order, also the series without samples, and each is small
        enough that one query adds little memory.
        """
        ...

    def newest(self, ids: Ids, start_ms: int, end_ms: int, budget: Budget) -> Newest | None:
        """Return the newest sample in (start_ms, end_ms] of each of *ids* (ascending).

        The same as the last one of `read`, stale markers included, at a lower price; None if what
        is in memory does not tell.
        """
        ...


# The name of what an instant selector does: the newest sample, unless that is a stale marker.
INSTANT: Final = ""


@record
class GridCall:
    """A function of the windows (end - range_ms, end] at *count* ends, *step_ms* apart.

    `function` is PromQL's name, or `INSTANT`; `parameter` is its scalar (of `predict_linear`).
    """

    function: str
    start_ms: int
    step_ms: int
    count: int
    range_ms: int
    parameter: float = 0.0

    @property
    def end_ms(self) -> int:
        """The last window's end."""
        return self.start_ms + (self.count - 1) * self.step_ms


@dataclass(frozen=True, slots=True)
class GridCells:
    """Values and presence, `[n, count]`, of the n series at the positions *rows* of a selection."""

    rows: Ints
    values: Floats
    present: Bools


@dataclass(frozen=True, slots=True)
class GridSamples:
    """The samples of the series at *rows*, of which the store would compute something else."""

    rows: Ints
    samples: SeriesSamples


@dataclass(frozen=True, slots=True)
class GridSums:
    """Over a run of series: sum and number of the values in each of n groups, `[n, count]`."""

    groups: Ints
    totals: Floats
    counts: Floats


@runtime_checkable
class GridReader(Protocol):
    """Computes functions of windows where the samples are, equal to PromQL's own kernels."""

    def computes(self, call: GridCall) -> bool:
        """Tell whether *call* can be asked for, and is worth it."""
        ...

    def cells(self, call: GridCall, ids: Ids, budget: Budget) -> Iterator[GridCells | GridSamples]:
        """Yield what *call* gives for *ids* (ascending, not empty), some thousand at a time.

        Series without samples may be left out.
        """
        ...

    def sums(
        self, call: GridCall, ids: Ids, groups: Ints, budget: Budget
    ) -> Iterator[GridSums | None]:
        """Yield sums over *ids*, whose groups are *groups*, run after run.

        None means that the values cannot be added up here: ask for `cells`.
        """
        ...


class LabelReader(Protocol):
    """Answers what labels there are. `selectors` empty means all series; limit 0 means none."""

    def label_names(
        self,
        selectors: Sequence[Sequence[Matcher]],
        start_ms: int,
        end_ms: int,
        budget: Budget,
    ) -> Sequence[str]:
        """Return the label names of the series that match any selector, sorted."""
        ...

    def label_values(
        self,
        name: str,
        selectors: Sequence[Sequence[Matcher]],
        start_ms: int,
        end_ms: int,
        budget: Budget,
    ) -> Sequence[str]:
        """Return the values of the label *name* among them, sorted."""
        ...

    def cardinality(self, matchers: Sequence[Matcher], limit: int, budget: Budget) -> Cardinality:
        """Return how many series match, and the *limit* names and values that most of them have."""
        ...


class SampleWriter(Protocol):
    """Takes samples; called by one writer thread, `series_ids` by any thread."""

    @property
    def generation(self) -> int:
        """Changes whenever ids were forgotten: whoever caches ids asks `series_ids` again."""
        ...

    def series_ids(self, series: Sequence[Mapping[str, str]]) -> Ids:
        """Return the id of each label set (`__name__` included), giving new ones an id.

        Empty label values must have been left out. The series become durable with, and before,
        the first samples that are written for them.
        """
        ...

    def write(self, block: SampleBlock) -> WriteReport:
        """Store *block* durably; on return its samples survive kill -9. Writing twice is once."""
        ...


class Retention(Protocol):
    """Forgets what is old."""

    def expire(self, before_ms: int) -> int:
        """Drop whole days that end before *before_ms* and the series that have no sample since.

        Returns how many series were forgotten. Their ids are not used again.
        """
        ...


class Store(SeriesReader, LabelReader, SampleWriter, Retention, Protocol):
    """A complete backend."""

    @property
    def series_count(self) -> int:
        """How many series the store knows."""
        ...

    def warm(self, stopping: threading.Event) -> None:
        """Bring what was stored last into memory, once after opening, in a thread of its own.

        Until it is done some reads are slower; it ends early when *stopping* is set. May also raise
        `QueryError` when the engine is too busy; what was done until then stays.
        """
        ...

    def close(self) -> None:
        """Release files, locks and connections; nothing may be called afterwards."""
        ...
