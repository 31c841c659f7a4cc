"""Aggregations that look at the single values of a group: topk and its kin, quantile, count_values.

Values are laid out as one list of present cells, sorted by (step, group) and value, so that no
loop over groups or steps is needed.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import xxhash

from aggregator.errors import QueryExecutionError
from aggregator.model.arrays import Bools, Floats, Ints
from aggregator.model.budget import Budget
from aggregator.model.labels import LabelTable
from aggregator.model.stepmatrix import StepMatrix
from aggregator.promql.annotations import Annotations
from aggregator.promql.lex import quoted
from aggregator.promql.numbers import format_float, format_plain
from aggregator.promql.operators.aggregate import dropped, grouped, grouping_labels
from aggregator.promql.operators.rows import Groups, compact, take

_INT64 = float(2**63)


@dataclass(frozen=True, slots=True)
class _Cells:
    """Present cells in sorted order: row, step, segment (step and group) and rank in it."""

    rows: Ints
    steps: Ints
    segments: Ints
    ranks: Ints


def _sorted_cells(present: Bools, groups: Groups, keys: tuple[Floats | Bools, ...]) -> _Cells:
    """Sort the present cells by segment, then by *keys* (last one first), then by row."""
    rows, steps = np.nonzero(present)
    segments = steps * groups.count + groups.number[rows]
    order = np.lexsort((*(key[rows, steps] for key in keys), segments))
    ordered = segments[order]
    first = np.flatnonzero(np.diff(ordered, prepend=-1))
    sizes = np.diff(first, append=ordered.size)
    ranks = np.arange(ordered.size) - np.repeat(first, sizes)
    return _Cells(rows[order], steps[order], ordered, ranks)


def choose_k(
    op: str, matrix: StepMatrix, grouping: tuple[str, ...], k: Floats, *, without: bool
) -> StepMatrix:
    """Keep the *k* (`[T]`) largest, smallest or first series of each group: topk, bottomk, limitk.

    With a single step the rows come group by group, best first.
    """
    counts = _whole(k)
    if counts is None:
        return take(matrix, np.zeros(0, dtype=np.int64))
    groups, _ = grouped(grouping_labels(matrix.series, grouping, without=without))
    keys: tuple[Floats | Bools, ...] = ()
    if op != "limitk":
        values = -matrix.values if op == "topk" else matrix.values
        keys = (values, np.isnan(values))
    cells = _sorted_cells(matrix.present, groups, keys)
    chosen = cells.ranks < counts[cells.steps]
    rows, steps = cells.rows[chosen], cells.steps[chosen]
    present = np.zeros_like(matrix.present)
    present[rows, steps] = True
    kept = replace(matrix, present=present)
    return take(kept, rows) if present.shape[1] == 1 else compact(kept)


def _whole(k: Floats) -> Ints | None:
    """Return *k* as whole numbers, or None if nothing can be chosen."""
    with np.errstate(invalid="ignore"):
        if k.max() < 1:
            return None
    if np.isnan(k).any():
        raise QueryExecutionError("Parameter value is NaN")
    if k.min() <= -_INT64:
        raise QueryExecutionError(f"Scalar value {format_float(float(k.min()))} underflows int64")
    if k.max() >= _INT64:
        raise QueryExecutionError(f"Scalar value {format_float(float(k.max()))} overflows int64")
    return k.astype(np.int64)


def choose_ratio(matrix: StepMatrix, ratio: Floats, annotations: Annotations) -> StepMatrix:
    """Keep the share *ratio* (`[T]`) of the series, or its complement if negative: limit_ratio.

    Membership depends on a hash of the labels alone, so `limit_ratio(r, x)` and
    `limit_ratio(-(1 - r), x)` never share a series and together have all.
    """
    if np.isnan(ratio).any():
        raise QueryExecutionError("Ratio value is NaN")
    for bound, worst in ((1.0, float(ratio.max())), (-1.0, float(ratio.min()))):
        if worst * bound > 1:
            annotations.warn(
                "ratio value should be between -1 and 1, got "
                f"{format_float(worst, exponent_from=6)}, capping to {bound:g}"
            )
    offsets = _offsets(matrix.series)[:, None]
    chosen = np.where(ratio >= 0, offsets < ratio, offsets >= 1 + ratio)
    return compact(replace(matrix, present=matrix.present & chosen))


def _offsets(series: LabelTable) -> Floats:
    """Return a number in [0, 1) for each label set; each distinct string is hashed once."""
    total = np.zeros(len(series), dtype=np.uint64)
    for column, name in enumerate(series.names):
        codes, inverse = np.unique(series.codes[:, column], return_inverse=True)
        hashes = [
            xxhash.xxh64_intdigest(f"{name}\xff{text}".encode()) if text else 0
            for text in series.strings.texts(codes)
        ]
        total += np.array(hashes, dtype=np.uint64)[inverse]
    total ^= total >> np.uint64(33)  # a sum of hashes is as even as one of them; mix it once more
    total *= np.uint64(0xFF51AFD7ED558CCD)
    return (total >> np.uint64(11)).astype(np.float64) / 2.0**53


def quantile(
    matrix: StepMatrix,
    grouping: tuple[str, ...],
    q: Floats,
    annotations: Annotations,
    *,
    without: bool,
) -> StepMatrix:
    """Return the *q*-quantile (`[T]`) of each group, interpolated between neighbours."""
    warn_quantile(q, annotations)
    groups, series = grouped(grouping_labels(matrix.series, grouping, without=without))
    steps = matrix.values.shape[1]
    numbers = np.where(np.isnan(matrix.values), -np.inf, matrix.values)
    cells = _sorted_cells(matrix.present, groups, (numbers, ~np.isnan(matrix.values)))
    values = matrix.values[cells.rows, cells.steps]
    sizes = np.bincount(cells.segments, minlength=steps * groups.count)
    first = np.cumsum(sizes) - sizes
    within = np.clip(np.nan_to_num(q), 0, 1).repeat(groups.count)
    rank = within * np.maximum(sizes - 1, 0)
    lower = np.floor(rank).astype(np.int64)
    upper = np.minimum(lower + 1, np.maximum(sizes - 1, 0))
    weight = rank - lower
    padded = np.append(values, 0.0)  # groups without values at the end look one beyond
    with np.errstate(invalid="ignore"):
        result = padded[first + lower] * (1 - weight) + padded[first + upper] * weight
    result = result.reshape(steps, groups.count).T
    result = np.where(q < 0, -np.inf, np.where(q > 1, np.inf, result))
    result = np.where(np.isnan(q), np.nan, result)
    return StepMatrix(series, result, groups.any(matrix.present), dropped(matrix, groups))


def warn_quantile(q: Floats, annotations: Annotations) -> None:
    """Annotate quantiles outside 0 to 1, worst first as Prometheus does."""
    wrong = [math.nan] if np.isnan(q).any() else []
    wrong += [worst for worst in (float(np.nanmax(q, initial=0)),) if worst > 1]
    wrong += [worst for worst in (float(np.nanmin(q, initial=0)),) if worst < 0]
    for value in wrong:
        text = format_float(value, exponent_from=6)
        annotations.warn(f"quantile value should be between 0 and 1, got {text}")


def count_values(
    matrix: StepMatrix,
    grouping: tuple[str, ...],
    label: str,
    budget: Budget,
    *,
    without: bool,
) -> StepMatrix:
    """Count the series of each group by value; the value becomes the label *label*."""
    if not label:
        raise QueryExecutionError(f"invalid label name {quoted(label)}")
    base = grouping_labels(matrix.series.drop((label,)), grouping, without=without)
    groups, series = grouped(base)
    rows, steps = np.nonzero(matrix.present)
    bits = np.where(np.isnan(matrix.values), np.nan, matrix.values).view(np.uint64)
    distinct, value = np.unique(bits[rows, steps], return_inverse=True)
    if without and label in grouping:
        value = np.zeros_like(value)
    pairs, pair = np.unique(groups.number[rows] * distinct.size + value, return_inverse=True)
    shape = (pairs.size, matrix.values.shape[1])
    budget.spend_bytes(pairs.size * shape[1] * 17)
    counts = np.bincount(pair * shape[1] + steps, minlength=shape[0] * shape[1]).reshape(shape)
    series = series.take(pairs // max(distinct.size, 1))
    if not (without and label in grouping):
        texts = [format_plain(number) for number in distinct.view(np.float64).tolist()]
        codes = series.strings.intern_all(texts)
        series = series.with_column(label, codes[pairs % max(distinct.size, 1)])
    no_drop = np.zeros(pairs.size, dtype=np.bool_)
    return StepMatrix(series, counts.astype(np.float64), counts > 0, no_drop)
