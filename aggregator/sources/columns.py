"""Finds the samples of a Prometheus answer without parsing it: numpy locates, Arrow converts.

An answer is an envelope, fixed text per series, and `[time,"value"]` pairs. From one tick to the
next only the pairs change, so the digest of the fixed text tells that the label sets are those of
an answer that was parsed in full, in the same order. What is found here may be trusted only then:
for other text the caller has to parse, and to compare.

Brackets and quotes in label values do not mislead it: inside a JSON string a quote is escaped, so
neither `"value":[` nor a `"]` without a backslash before it can occur there.
"""

import secrets
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from aggregator.model.arrays import Bools, Floats, Ints

_BLOCK_BYTES = 262_144  # stays in the cache between the passes over it
_OPEN, _CLOSE, _COMMA, _QUOTE, _BACKSLASH, _BRACE = b'[],"\\}'
_RESULT = b'"result":['
_HEAD_BYTES = 4096
_VECTOR_KEY, _MATRIX_KEY = (int.from_bytes(key, "little") for key in (b'"value":', b'values":'))
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
    text = np.frombuffer(body, np.uint8)
    brackets = _brackets(text[:-3])  # so that what follows a bracket can be looked at
    brackets = brackets[np.searchsorted(brackets, start) :]
    opening = text[brackets] == _OPEN
    opens, closes = brackets[opening], brackets[~opening]
    closes = closes[(text[closes - 1] == _QUOTE) & (text[closes - 2] != _BACKSLASH)]
    # The first `"]}]` (of a matrix `"]]}]`) ends the result; what follows is envelope.
    after = closes + matrix
    ends = (text[after + 1] == _BRACE) & (text[after + 2] == _CLOSE)
    if matrix:
        ends &= text[after] == _CLOSE
    if not ends.any():
        return None
    closes = closes[: int(ends.argmax()) + 1]
    words = np.ndarray(len(body) - 7, "<u8", body, 0, (1,))  # the 8 bytes from each position on
    opens = opens[: np.searchsorted(opens, closes[-1])]
    keyed = opens[words[opens - 8] == (_MATRIX_KEY if matrix else _VECTOR_KEY)]
    if matrix:
        last = text[closes + 1] == _CLOSE
        firsts = np.flatnonzero(np.concatenate(([True], last[:-1])))
        if firsts.size != keyed.size:
            return None
        begins = np.empty_like(closes)
        begins[1:] = closes[:-1] + 2
        begins[firsts] = keyed + 1
        follows = np.ones(closes.size, np.bool_)
        follows[firsts] = False
        if not (text[begins[follows] - 1] == _COMMA).all():
            return None
    else:
        begins, firsts = keyed, np.arange(keyed.size)
    if begins.size != closes.size or not _ordered(text, begins, closes):
        return None
    return _Pairs(begins, closes, firsts)


def _brackets(text: "np.ndarray[tuple[int], np.dtype[np.uint8]]") -> Ints:
    """Return the positions of `[` and `]`, whose codes are 91 and 93."""
    found = []
    for block in range(0, text.size, _BLOCK_BYTES):
        part = text[block : block + _BLOCK_BYTES] - np.uint8(_OPEN)
        part &= np.uint8(0xFD)
        positions = np.flatnonzero(part == 0)
        positions += block
        found.append(positions)
    return np.concatenate(found)


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
    if not found.all() or not (text[commas + 1] == _QUOTE).all():
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
