"""Finds the samples of a Prometheus answer without parsing it: numpy locates, Arrow converts.

An answer is an envelope, fixed text per series, and `[time,"value"]` pairs. From one tick to the
next only the pairs change, so the digest of the fixed text tells that the label sets are those of
an answer that was parsed in full, in the same order. What is found here may be trusted only then:
for other text the caller has to parse, and to compare.

Brackets and quotes in labels do not mislead it. Inside a JSON string a quote has a backslash
before it, so `"value":[` cannot occur there; and a `"]` after a digit or letter closes the last
string of a list, for a quote that opens a string follows `{`, `,` or `:`.
"""

import secrets
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from aggregator.model.arrays import Bools, Floats, Ints

_BLOCK_BYTES = 262_144  # stays in the cache between the passes over it
_OPEN, _CLOSE, _COMMA, _QUOTE = b'[],"'
_RESULT = b'"result":['
_HEAD_BYTES = 4096


def _bytes(text: bytes) -> int:
    return int.from_bytes(text, "little")


_QUOTED_CLOSE = _bytes(b'"]')
# What a number can end with: a digit, Inf, NaN, Infinity.
_VALUE_ENDS = np.isin(np.arange(256), list(b"0123456789fFnNyY"))
# The end of the key of a series' samples, and what ends the result, with the bits that count.
_VECTOR_MARKS = (_bytes(b'"value":'), _bytes(b"]}]"), 0xFFFFFF)
_MATRIX_MARKS = (_bytes(b'values":'), _bytes(b"]]}]"), 0xFFFFFFFF)
# Digits of a timestamp: seconds, milliseconds, shorter fractions, then what tests use.
_TIME_LENGTHS = (10, 14, 13, 12, 9, 8, 7, 6, 5, 4, 3, 2, 1)
MAX_TIME_MS = 10**16
_SALT = secrets.randbits(64)  # a cluster cannot prepare a collision


@dataclass(frozen=True, slots=True)
class Columns:
    """Samples of one answer: series k has `offsets[k]:offsets[k + 1]` of times (ms) and values."""

    digest: bytes
    offsets: Ints
    times: Ints
    values: Floats
    # where the series are in the body: what is left without them is the envelope
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Where each pair's brackets are, and which pairs are the first of a series."""

    opens: Ints
    closes: Ints
    firsts: Ints


def digest(kind: bytes, count: int, text: "bytes | memoryview") -> bytes:
    """Return what stands for *count* label sets in order, given all their *text*."""
    hashed = xxhash.xxh3_128(seed=_SALT)
    hashed.update(kind + count.to_bytes(8, "little"))
    hashed.update(text)
    return hashed.digest()


def find_columns(body: bytes) -> Columns | None:
    """Return the samples of *body*, or None if it is not laid out as Prometheus does it."""
    head = body.find(_RESULT, 0, _HEAD_BYTES)
    if head < 0:
        return None
    start = head + len(_RESULT)
    matrix = body.find(b'"resultType":"matrix"', 0, start) >= 0
    if not matrix and body.find(b'"resultType":"vector"', 0, start) < 0:
        return None
    if body[start : start + 1] == b"]":
        empty = np.empty(0, np.int64)
        none = digest(b"pairs", 0, b"")
        return Columns(none, np.zeros(1, np.int64), empty, empty.astype(np.float64), start, start)
    pairs = _pairs(body, start, matrix=matrix)
    if pairs is None:
        return None
    commas = _commas(body, pairs)
    if commas is None:
        return None
    # behind the last pair, `}` of a vector's series, `]}` of a matrix's
    return _convert(body, start, pairs, commas, int(pairs.closes[-1]) + (3 if matrix else 2))


def _pairs(body: bytes, start: int, *, matrix: bool) -> _Pairs | None:
    """Return the pairs of the result that begins at *start*."""
    marks = _marks(body, start, matrix=matrix)
    if marks is None:
        return None
    closes, keys, last = marks
    text = np.frombuffer(body, np.uint8)
    if matrix:
        first = np.concatenate(([True], last[:-1]))
        firsts = np.flatnonzero(first)
        if firsts.size != keys.size:
            return None
        opens = np.empty_like(closes)
        opens[1:] = closes[:-1] + 2  # `],[`
        opens[firsts] = keys + 1
        if not np.array_equal(text[opens - 1], np.where(first, _OPEN, _COMMA)):
            return None
    else:
        opens, firsts = keys, np.arange(keys.size)
    if opens.size != closes.size or not _ordered(text, opens, closes):
        return None
    return _Pairs(opens, closes, firsts)


def _marks(body: bytes, start: int, *, matrix: bool) -> tuple[Ints, Ints, Bools] | None:
    """Return where pairs close, where a series' pairs begin, and which pairs a bracket follows.

    Works block by block, and looks at the neighbours of a bracket while they are in the cache.
    """
    text = np.frombuffer(body, np.uint8)[:-3]  # so that what follows a bracket can be looked at
    fours: np.ndarray[tuple[int], np.dtype[np.uint32]]
    eights: np.ndarray[tuple[int], np.dtype[np.uint64]]
    fours = np.ndarray(len(body) - 3, "<u4", body, 0, (1,))  # the 4 bytes from each position on
    eights = np.ndarray(len(body) - 7, "<u8", body, 0, (1,))
    key, end, end_bits = _MATRIX_MARKS if matrix else _VECTOR_MARKS
    closes, keys, lasts = [], [], []
    for block in range(start, text.size, _BLOCK_BYTES):
        part = text[block : block + _BLOCK_BYTES] - np.uint8(_OPEN)
        part &= np.uint8(0xFD)  # `[` and `]` are 91 and 93
        at = np.flatnonzero(part == 0)
        at += block
        opening = text[at] == _OPEN
        opens = at[opening]
        keys.append(opens[eights[opens - 8] == key])
        close = at[~opening]
        before = fours[close - 2]
        close = close[(before >> 8 & 0xFFFF == _QUOTED_CLOSE) & _VALUE_ENDS[before & 0xFF]]
        after = fours[close]
        ends = np.flatnonzero(after & end_bits == end)
        upto = int(ends[0]) + 1 if ends.size else close.size
        closes.append(close[:upto])
        lasts.append(after[:upto] >> 8 & 0xFF == _CLOSE)
        if ends.size:
            found = np.concatenate(keys)
            return (
                np.concatenate(closes),
                found[: np.searchsorted(found, close[upto - 1])],
                np.concatenate(lasts),
            )
    return None


def _ordered(
    text: "np.ndarray[tuple[int], np.dtype[np.uint8]]", begins: Ints, closes: Ints
) -> bool:
    """Tell whether the pairs open with a bracket and do not overlap."""
    return bool(
        (text[begins] == _OPEN).all()
        and (begins < closes).all()
        and (closes[:-1] < begins[1:]).all()
    )


def _commas(body: bytes, pairs: _Pairs) -> Ints | None:
    """Return where the `,"` between time and value of each pair is."""
    opens, closes = pairs.opens, pairs.closes
    text = np.frombuffer(body, np.uint8)
    commas = np.minimum(opens + 1 + _TIME_LENGTHS[0], closes)
    found: Bools = text[commas] == _COMMA
    for length in _TIME_LENGTHS[1:]:
        if found.all():
            break
        rest = np.flatnonzero(~found)
        commas[rest] = np.minimum(opens[rest] + 1 + length, closes[rest])
        found[rest] = text[commas[rest]] == _COMMA
    if not (found.all() and (text[commas + 1] == _QUOTE).all()):
        return None
    # at least `"` and `"` lie between comma and bracket
    return commas if (commas + 2 < closes).all() else None


def _convert(body: bytes, start: int, pairs: _Pairs, commas: Ints, end: int) -> Columns | None:
    """Cut the body at every border of time and value, and convert the two kinds of pieces.

    The pieces are, a pair: what lies before it, its time, `,"`, and its value.
    """
    count = commas.size
    borders = np.empty(4 * count + 2, np.int32)
    borders[0], borders[-1] = start, end
    borders[1:-1:4], borders[2:-1:4] = pairs.opens + 1, commas
    borders[3:-1:4], borders[4:-1:4] = commas + 2, pairs.closes - 1
    pieces = pa.StringArray.from_buffers(
        4 * count + 1, pa.py_buffer(borders.data), pa.py_buffer(body)
    )
    rows = np.arange(0, 4 * count, 4, dtype=np.int32)
    try:
        seconds = pc.cast(pieces.take(rows + 1), pa.float64()).to_numpy()
        values = pc.cast(pieces.take(rows + 3), pa.float64()).to_numpy()
    except pa.ArrowInvalid:
        return None
    milliseconds = np.rint(seconds * 1000)
    if not (np.abs(milliseconds) < MAX_TIME_MS).all():
        return None
    return Columns(
        _fixed_text(pieces.take(rows[pairs.firsts])),
        np.append(pairs.firsts, count),
        milliseconds.astype(np.int64),
        values,
        start,
        end,
    )


def _fixed_text(pieces: pa.StringArray) -> bytes:
    """Return the digest of the text before each series' samples."""
    _, offsets, text = pieces.buffers()
    if offsets is None or text is None:  # never: only the validity of an array may be left out
        return b""
    size = int(np.frombuffer(memoryview(offsets), np.int32)[len(pieces)])
    return digest(b"pairs", len(pieces), memoryview(text)[:size])
