"""Arrow arrays of text: joined, chosen from, and turned into bytes without touching an element.

Every array here starts at offset 0 and has no nulls, so that its data buffer is its text.
"""

from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aggregator.model.arrays import Bools, Floats, Ints

# Quoted: the generic forms exist in pyarrow's stubs only.
Texts: TypeAlias = "pa.Array[pa.Scalar[pa.lib.LargeStringType]]"
Part: TypeAlias = "Texts | str"


def texts(values: list[str] | tuple[str, ...]) -> Texts:
    """Return *values* as an array."""
    return pa.array(values, pa.large_string())


def cast(values: Floats | Ints) -> Texts:
    """Return numbers as Arrow writes them."""
    return pa.array(values).cast(pa.large_string())


def take(pieces: Texts, rows: Ints) -> Texts:
    """Return the chosen elements, in that order."""
    return pieces.take(pa.array(rows, pa.int64()))


def choose(condition: Bools, yes: Part, no: Part) -> Texts:
    """Return *yes* where *condition* holds, *no* elsewhere."""
    chosen: Texts = pc.if_else(pa.array(condition), _operand(yes), _operand(no))
    return chosen


def join(*parts: Part) -> Texts:
    """Join the parts element by element."""
    operands = [_operand(part) for part in (*parts, "")]
    joined: Texts = pc.call_function("binary_join_element_wise", operands)
    return joined


def rows_of(pieces: Texts, width: int) -> Texts:
    """Return the texts of *width* pieces each, without copying them."""
    _, offsets, data = pieces.buffers()
    count = len(pieces) // width
    if offsets is None or data is None:
        return texts([])
    every = np.frombuffer(memoryview(offsets), np.int64)[: count * width + 1 : width]
    return sliced(data, every)


def sliced(body: "pa.Buffer | bytes", offsets: Ints) -> Texts:
    """Return the texts between the *offsets* (from 0) of *body*, which is not copied."""
    held = body if isinstance(body, pa.Buffer) else pa.py_buffer(body)
    buffers = [None, pa.py_buffer(offsets.tobytes()), held]
    return pa.Array.from_buffers(pa.large_string(), offsets.size - 1, buffers)


def data(pieces: Texts) -> memoryview:
    """Return the concatenation of *pieces*."""
    _, offsets, buffer = pieces.buffers()
    if offsets is None or buffer is None:
        return memoryview(b"")
    return memoryview(buffer)[: int(np.frombuffer(memoryview(offsets), np.int64)[len(pieces)])]


def _operand(part: Part) -> "Texts | pa.LargeStringScalar":
    return pa.scalar(part, pa.large_string()) if isinstance(part, str) else part
