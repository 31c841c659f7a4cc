"""The function `info`: adds the labels of info metrics to series of the same target."""

from collections.abc import Sequence

import numpy as np

from aggregator.errors import QueryExecutionError
from aggregator.model.arrays import Bools, Codes, Ints
from aggregator.model.labels import METRIC_NAME, LabelTable, Matcher, MatchOp
from aggregator.model.stepmatrix import StepMatrix
from aggregator.promql.check import matches, matches_empty
from aggregator.promql.context import Context
from aggregator.promql.operators.matching import match_groups
from aggregator.promql.operators.rows import (
    Groups,
    compact,
    concat,
    format_labels,
    merge_equal,
    take,
)
from aggregator.promql.operators.selector import instant_vector
from aggregator.promql.plan import Matching, VectorSelector

_TARGET_INFO = Matcher(METRIC_NAME, MatchOp.EQUAL, "target_info")
_ANY_INFO = Matcher(METRIC_NAME, MatchOp.REGEX, ".+_info")
_NEGATIVE = frozenset({MatchOp.NOT_EQUAL, MatchOp.NOT_REGEX})
# The labels that say which target a series comes from.
_TARGET = Matching(on=True, labels=("instance", "job"))


def add_info(base: StepMatrix, selector: VectorSelector | None, context: Context) -> StepMatrix:
    """Return *base* with the labels of the info series of the same instance and job.

    *selector* says which labels to add, and by its matcher of the name which info metrics to ask;
    the default is every label of `target_info`. Matchers that only exclude names leave the other
    metrics whose name ends in `_info`. Where a matcher does not match an absent label, series
    without a matching info series are left out.
    """
    matchers = () if selector is None else selector.matchers
    names = tuple(m for m in matchers if m.name == METRIC_NAME)
    if names and all(matcher.op in _NEGATIVE for matcher in names):
        names = (_ANY_INFO, *names)
    data = tuple(m for m in matchers if m.name != METRIC_NAME)
    asked = names if names or selector is not None else (_TARGET_INFO,)
    itself = _all_match(asked, base.series.column(METRIC_NAME), base.series) & bool(asked)
    others = take(base, np.flatnonzero(~itself))
    wanted = (*(names or (_TARGET_INFO,)), *data)
    info = instant_vector(VectorSelector("", wanted), context, sample_times=True)
    info = _of_targets(info, others.series)
    enriched, matched = _enriched(others, info, {matcher.name for matcher in data}, context)
    if not all(map(matches_empty, data)):
        enriched = take(enriched, np.flatnonzero(matched))
    return merge_equal(compact(concat([take(base, np.flatnonzero(itself)), enriched])))


def _of_targets(info: StepMatrix, base: LabelTable) -> StepMatrix:
    """Return the info series with an instance and a job that *base* has too.

    A label that no series of *base* has does not count; if it has neither, nothing is left.
    """
    kept = np.ones(len(info.series), dtype=np.bool_)
    known = False
    for name in _TARGET.labels:
        codes = np.unique(base.column(name))
        codes = codes[codes != 0]
        if codes.size:
            kept &= np.isin(info.series.column(name), codes)
            known = True
    return take(info, np.flatnonzero(kept & known))


def _all_match(matchers: Sequence[Matcher], codes: Codes, series: LabelTable) -> Bools:
    distinct, inverse = np.unique(codes, return_inverse=True)
    texts = series.strings.texts(distinct)
    found = [all(matches(matcher, text) for matcher in matchers) for text in texts]
    return np.array(found, dtype=np.bool_)[inverse]


def _enriched(
    base: StepMatrix, info: StepMatrix, only: set[str], context: Context
) -> tuple[StepMatrix, Bools]:
    """Return the series with their new labels, and which of them had an info series."""
    matched = np.zeros(len(base.series), dtype=np.bool_)
    added = base.series.keep(())
    result = base
    for metric in np.unique(info.series.column(METRIC_NAME)).tolist():
        rows = np.flatnonzero(info.series.column(METRIC_NAME) == metric)
        part = take(info, rows)
        left, right = match_groups(result.series, part.series, _TARGET)
        chosen = _newest(part, right)[left.number]
        context.spend_matrix(len(result.series) + chosen.size)
        source, partner = _pairs(result.present, chosen)
        present = result.present[source] & (chosen[source] == partner[:, None])
        result = StepMatrix(
            result.series.take(source), result.values[source], present, result.drop_name[source]
        )
        matched = matched[source] | (partner >= 0)
        labels = part.series.drop((METRIC_NAME,))
        labels = labels.keep(only) if only else labels
        added = _added(added.take(source), result.series, labels, partner)
    series = result.series
    for name in added.names:
        own = series.column(name)
        series = series.with_column(name, np.where(own != 0, own, added.column(name)))
    return StepMatrix(series, result.values, result.present, result.drop_name), matched


def _newest(info: StepMatrix, groups: Groups) -> Ints:
    """Return the row of each target's info series at each step, -1 for none, `[targets, T]`.

    The newest sample decides between several; two of one time are an error.
    """
    times = np.where(info.present, info.values, -np.inf)[groups.order]
    newest = np.full((groups.count, info.values.shape[1]), -np.inf)
    if groups.order.size:
        newest[groups.members] = np.maximum.reduceat(times, groups.first, axis=0)
    winner = info.present & (info.values == newest[groups.number])
    crowded = groups.crowded(winner)
    if crowded.any():
        target, step = np.argwhere(crowded)[0].tolist()
        doubled = np.flatnonzero((groups.number == target) & winner[:, step]).tolist()
        shown = sorted(
            f"{format_labels(info.series.labels(row))} @ {info.values[row, step] * 1000:.0f}"
            for row in doubled
        )
        raise QueryExecutionError(
            f"found duplicate series for info metric: existing {shown[0]}, new {shown[1]}"
        )
    chosen = np.full(newest.shape, -1, dtype=np.int64)
    rows, steps = np.nonzero(winner)
    chosen[groups.number[rows], steps] = rows
    return chosen


def _pairs(present: Bools, chosen: Ints) -> tuple[Ints, Ints]:
    """Return each series with each info series it has at any step (-1: none), pair by pair."""
    width = int(chosen.max(initial=-1)) + 2
    rows, steps = np.nonzero(present)
    pairs = np.unique(rows * width + chosen[rows, steps] + 1)
    return pairs // width, pairs % width - 1


def _added(added: LabelTable, base: LabelTable, info: LabelTable, partner: Ints) -> LabelTable:
    """Return *added* with the labels of the *partner* rows of *info*, where *base* lacks them."""
    padded = np.vstack([info.codes, np.zeros((1, info.codes.shape[1]), dtype=np.int32)])[partner]
    for column, name in enumerate(info.names):
        codes, before = padded[:, column], added.column(name)
        if ((codes != 0) & (before != 0) & (codes != before)).any():
            raise QueryExecutionError(f"conflicting label: {name}")
        new = np.where((codes != 0) & (base.column(name) == 0), codes, before)
        added = added.with_column(name, new)
    return added
