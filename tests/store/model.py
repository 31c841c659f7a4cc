"""A store in plain Python: what every backend is compared with."""

import re
from collections.abc import Iterable, Mapping

import numpy as np

from aggregator.model.budget import Budget
from aggregator.model.labels import METRIC_NAME, Matcher, MatchOp
from aggregator.model.samples import STALE, SampleBlock
from aggregator.store.interface import Store, WriteReport

DAY_MS = 86_400_000
ALL = (Matcher(METRIC_NAME, MatchOp.REGEX, ".+"),)

Labels = tuple[tuple[str, str], ...]
Row = tuple[Labels, int, float]


def labels(**pairs: str) -> Labels:
    """Return a label set; `name` is the metric's name."""
    renamed = {METRIC_NAME if key == "name" else key: value for key, value in pairs.items()}
    return tuple(sorted(renamed.items()))


def bits(value: float) -> bytes:
    """Return what tells two values apart, NaN payloads included."""
    return np.float64(value).tobytes()


def stale(value: float) -> bool:
    """Tell whether *value* is the stale marker."""
    return bits(value) == bits(STALE)


def matcher(text: str) -> Matcher:
    """Return a matcher written as in PromQL, without quotes."""
    name, op, value = re.fullmatch(r"(\w+)(=~|!~|!=|=)(.*)", text).groups()
    return Matcher(name, MatchOp(op), value)


def accepts(selector: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """Match by Python's own means."""
    for each in selector:
        value = labels.get(each.name, "")
        if each.op in (MatchOp.EQUAL, MatchOp.NOT_EQUAL):
            hit = (value == each.value) is (each.op is MatchOp.EQUAL)
        else:
            hit = bool(re.fullmatch(each.value, value)) is (each.op is MatchOp.REGEX)
        if not hit:
            return False
    return True


class ModelStore:
    """Series as dictionaries from time to value."""

    def __init__(self) -> None:
        self.series: dict[Labels, dict[int, float]] = {}
        self.cutoff_ms = 0

    def write(self, rows: Iterable[Row]) -> WriteReport:
        """Store *rows* as one block; what is older than the last expiry is refused."""
        settled: dict[tuple[Labels, int], float] = {}
        repeated = []
        for series, time, value in rows:
            key = (series, time)
            if key not in settled:
                settled[key] = value
            elif stale(settled[key]) and not stale(value):
                repeated.append((key, settled[key]))
                settled[key] = value
            else:
                repeated.append((key, value))
        duplicates = sum(bits(settled[key]) == bits(value) for key, value in repeated)
        conflicts, inserted = len(repeated) - duplicates, 0
        refused = 0
        for (series, time), value in settled.items():
            if time < self.cutoff_ms:
                refused += 1
                continue
            stored = self.series.setdefault(series, {})
            if time not in stored or (stale(stored[time]) and not stale(value)):
                stored[time] = value
                inserted += 1
            elif bits(stored[time]) == bits(value):
                duplicates += 1
            else:
                conflicts += 1
        return WriteReport(inserted, duplicates, conflicts, refused)

    def expire(self, before_ms: int) -> None:
        """Drop whole days before *before_ms* and series without samples."""
        cutoff = self.cutoff_ms = max(self.cutoff_ms, before_ms // DAY_MS * DAY_MS)
        for series, samples in list(self.series.items()):
            kept = {time: value for time, value in samples.items() if time >= cutoff}
            if kept:
                self.series[series] = kept
            else:
                del self.series[series]

    def window(self, start_ms: int, end_ms: int) -> dict[Labels, list[tuple[int, bytes]]]:
        """Return the samples in (start, end] of every series that has some."""
        found = {
            series: sorted((t, bits(v)) for t, v in samples.items() if start_ms < t <= end_ms)
            for series, samples in self.series.items()
        }
        return {series: samples for series, samples in found.items() if samples}


def write(store: Store, rows: Iterable[Row]) -> WriteReport:
    """Write *rows* as one block."""
    rows = list(rows)
    ids = store.series_ids([dict(series) for series, _, _ in rows])
    times = np.array([time for _, time, _ in rows], np.int64)
    values = np.array([value for _, _, value in rows], np.float64)
    return store.write(SampleBlock(ids, times, values))


def window(
    store: Store, start_ms: int, end_ms: int, matchers: Iterable[Matcher] = ALL
) -> dict[Labels, list[tuple[int, bytes]]]:
    """Return the samples in (start, end] of the series that match and have some."""
    selection = store.select(tuple(matchers), start_ms, end_ms, store.strings(), Budget())
    assert (np.diff(selection.ids.astype(np.int64)) > 0).all()
    found: dict[Labels, list[tuple[int, bytes]]] = {}
    rows = 0
    for run in store.read(selection.ids, start_ms, end_ms, Budget()):
        assert run.first_row == rows
        rows += run.count
        for place in range(run.count):
            part = slice(run.offsets[place], run.offsets[place + 1])
            series = key(selection.labels.labels(run.first_row + place))
            samples = [
                (int(t), bits(v)) for t, v in zip(run.times[part], run.values[part], strict=True)
            ]
            assert samples == sorted(samples)
            if samples:
                found[series] = samples
    assert rows == selection.ids.size
    newest = store.newest(selection.ids, start_ms, end_ms, Budget())
    if newest is not None:
        there = zip(newest.times[newest.present], newest.values[newest.present], strict=True)
        last = sorted((int(time), bits(value)) for time, value in there)
        assert last == sorted(samples[-1] for samples in found.values())
    return found


def key(pairs: Mapping[str, str]) -> Labels:
    """Return a label set as the model writes it."""
    return tuple(sorted(pairs.items()))
