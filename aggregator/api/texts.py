"""Arrow arrays of text: chosen from, and turned into bytes without touching an element.

Every array here starts at offset 0 and has no nulls, so that its data buffer is its text.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from aggregator.model.arrays import Ints

# Quoted: the generic form exists in pyarrow's stubs only. They are bytes: what is JSON already
# needs no check whether it is UTF-8.
Texts: TypeAlias = "pa.Array[pa.Scalar[pa.lib.LargeBinaryType]]"


def texts(values: Sequence[bytes]) -> Texts:
    """Return *values* as an array."""
    return pa.array(values, pa.large_binary())


def take(pieces: Texts, rows: Ints) -> Texts:
    """Return the chosen elements, in that order."""
    return pieces.take(rows)


def rows_of(pieces: Texts, width: int) -> Texts:
    """Return the texts of *width* pieces each, without copying them."""
    _, offsets, data = pieces.buffers()
    count = len(pieces) // width
    if offsets is None or data is None:
        return texts([])
    return sliced(data, np.frombuffer(memoryview(offsets), np.int64)[: count * width + 1 : width])


def ending(body: bytes, ends: Ints) -> Texts:
    """Return the texts of *body* up to each of *ends*, without copying them."""
    offsets = np.zeros(ends.size + 1, np.int64)
    offsets[1:] = ends
    return sliced(pa.py_buffer(body), offsets)


def sliced(body: pa.Buffer, offsets: Ints) -> Texts:
    """Return the texts between the *offsets* (from 0) of *body*, which is not copied."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets).data), body]
    return pa.Array.from_buffers(pa.large_binary(), offsets.size - 1, buffers)


def data(pieces: Texts) -> memoryview:
    """Return the concatenation of *pieces*."""
    _, offsets, buffer = pieces.buffers()
    if offsets is None or buffer is None:
        return memoryview(b"")
    return memoryview(buffer)[: int(np.frombuffer(memoryview(offsets), np.int64)[len(pieces)])]
