"""label_replace and label_join, on the distinct label values only.

They follow `evalLabelReplace` and `evalLabelJoin` of Prometheus 3's promql/functions.go.
"""

import re
from collections.abc import Callable
from typing import Protocol, cast

import numpy as np

from aggregator.errors import QueryExecutionError, QuerySyntaxError
from aggregator.model.arrays import Bools, Codes
from aggregator.model.labels import METRIC_NAME, LabelTable
from aggregator.model.stepmatrix import StepMatrix
from aggregator.promql.functions.function import Call
from aggregator.promql.operators.rows import merge_equal
from aggregator.promql.regex import compile_regex
from aggregator.promql.strings import is_label_name

# A replacement's references: `$$`, `$name`, `${name}`; a `$` that starts none of them stays.
_REFERENCE = re.compile(r"\$(?:(\$)|(\w+)|\{(\w+)\})")


class _Match(Protocol):
    """The part of an RE2 match that is used here."""

    def group(self, index: int) -> str | None: ...

    def groups(self) -> tuple[str | None, ...]: ...

    def groupdict(self) -> dict[str, str | None]: ...


def label_replace(call: Call) -> StepMatrix:
    """Set label `dst` to `replacement` where the value of label `src` matches the regex.

    Arguments: vector, dst, replacement, src, regex. The regex is fully anchored RE2, references
    in the replacement are Go's. An empty result removes the label. Raises `QueryExecutionError`
    for an invalid regex or label name, or if two elements get the same labels.
    """
    matrix = call.matrix(0)
    dst, replacement, src, pattern = (call.text(position) for position in range(1, 5))
    try:
        regex = compile_regex(pattern)
    except QuerySyntaxError as error:
        raise QueryExecutionError(
            f"invalid regular expression in label_replace(): {pattern}: {error}"
        ) from error
    label_name(dst, "label_replace()")
    expand = _template(replacement)
    distinct, inverse = np.unique(matrix.series.column(src), return_inverse=True)
    matches = [regex.fullmatch(text) for text in call.strings.texts(distinct)]
    results = ["" if match is None else expand(cast("_Match", match)) for match in matches]
    matched = np.array([match is not None for match in matches], dtype=np.bool_)[inverse]
    codes = call.strings.intern_all(results)[inverse]
    return _with_label(matrix, dst, codes, matched)


def label_join(call: Call) -> StepMatrix:
    """Set label `dst` to the values of the other labels, joined by `separator`.

    Arguments: vector, dst, separator, any number of labels. Raises `QueryExecutionError` for an
    invalid label name, or if two elements get the same labels.
    """
    matrix = call.matrix(0)
    dst, separator, *sources = (call.text(position) for position in range(1, len(call.args)))
    for source in sources:
        if not is_label_name(source):
            raise QueryExecutionError(f"invalid source label name in label_join(): {source}")
    label_name(dst, "label_join()")
    group, first = matrix.series.keep(sources).groups()
    columns = [call.strings.texts(matrix.series.column(name)[first]) for name in sources]
    if sources:
        joined = [separator.join(values) for values in zip(*columns, strict=True)]
    else:
        joined = [""] * first.size
    codes = call.strings.intern_all(joined)[group]
    return _with_label(matrix, dst, codes, np.ones(group.size, dtype=np.bool_))


def label_name(name: str, where: str) -> str:
    """Return *name*, or raise `QueryExecutionError` if no label can be called so."""
    if not is_label_name(name):
        raise QueryExecutionError(f"invalid destination label name in {where}: {name}")
    return name


def _with_label(matrix: StepMatrix, name: str, codes: Codes, changed: Bools) -> StepMatrix:
    column = np.where(changed, codes, matrix.series.column(name)).astype(np.int32)
    series: LabelTable = matrix.series.with_column(name, column)
    drop_name = matrix.drop_name & ~changed if name == METRIC_NAME else matrix.drop_name
    return merge_equal(StepMatrix(series, matrix.values, matrix.present, drop_name))


def _template(replacement: str) -> Callable[[_Match], str]:
    """Return what expands *replacement* as Go's `Regexp.Expand` does."""

    def expand(match: _Match) -> str:
        def referenced(reference: re.Match[str]) -> str:
            if reference[1]:
                return "$"
            return _group(match, reference[2] or reference[3])

        return _REFERENCE.sub(referenced, replacement)

    return expand


def _group(match: _Match, name: str) -> str:
    """Return the group called *name*, a number without leading zeros or a name; "" if none."""
    if name.isdecimal() and (name == "0" or name[0] != "0"):
        index = int(name) if len(name) < 9 else -1
        return (match.group(index) or "") if 0 <= index <= len(match.groups()) else ""
    return match.groupdict().get(name) or ""
