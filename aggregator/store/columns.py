"""Between Arrow tables and numpy columns."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aggregator.model.arrays import Bools, Floats
from aggregator.model.samples import SampleBlock

Column: TypeAlias = "pa.ChunkedArray[Any]"


def numbers(column: Column) -> NDArray[Any]:
    """Return a copy of a column of numbers that has no nulls."""
    dtype = column.type.to_pandas_dtype()
    return np.concatenate([*map(_view, column.chunks), np.empty(0, dtype)])


def cells(column: Column, width: int) -> tuple[Floats, Bools]:
    """Return a column of lists of *width* nullable numbers as values and presence, `[n, width]`."""
    chunks: list[Any] = column.chunks
    parts = [chunk.flatten() for chunk in chunks]
    values = [np.frombuffer(part.buffers()[1] or b"", np.float64) for part in parts]
    values = [whole[part.offset :][: len(part)] for whole, part in zip(values, parts, strict=True)]
    present = [flags(part.is_valid()) for part in parts]
    shape = (len(column), width)
    return (
        np.concatenate([*values, np.empty(0)]).reshape(shape),
        np.concatenate([*present, np.empty(0, np.bool_)]).reshape(shape),
    )


def texts(column: Column) -> list[str]:
    """Return a column of strings that has no nulls."""
    return [str(text) for text in column.to_pylist()]


def string_column(different: Sequence[str], places: NDArray[np.integer[Any]]) -> "pa.Array[Any]":
    """Return the strings at *places* of *different*."""
    return pa.array(different, pa.string()).take(pa.array(places))


def flags(column: "pa.BooleanArray | pa.BooleanScalar") -> Bools:
    """Return an array of booleans that has no nulls."""
    numeric: Any = column.cast(pa.uint8())
    flags: Bools = np.frombuffer(numeric.buffers()[1], np.uint8)[: len(numeric)] != 0
    return flags


def sample_blocks(table: pa.Table) -> list[SampleBlock]:
    """Return the columns `id`, `time` and `value` as blocks that refer to the table's memory."""
    return [
        SampleBlock(*map(_view, batch.columns))
        for batch in table.select(["id", "time", "value"]).to_batches()
        if batch.num_rows
    ]


def sample_table(block: SampleBlock) -> pa.Table:
    """Return a block as a table, without a copy."""
    return table(id=block.ids, time=block.times, value=block.values)


def table(**columns: Any) -> pa.Table:  # noqa: ANN401  arrays and sequences alike
    """Return columns (arrays of numbers, strings, Arrow arrays) as a table."""
    return pa.table({name: pa.array(column) for name, column in columns.items()})


def _view(chunk: "pa.Array[Any]") -> NDArray[Any]:
    """Return an array of numbers that has no nulls, without a copy."""
    dtype = chunk.type.to_pandas_dtype()
    return np.frombuffer(memoryview(chunk.buffers()[1] or b""), dtype)[chunk.offset :][: len(chunk)]
