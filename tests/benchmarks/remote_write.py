"""Encodes samples for Prometheus's remote-write receiver (protobuf and snappy), by columns."""

from collections.abc import Mapping, Sequence

import cramjam
import numpy as np

from aggregator.model.arrays import Floats, Ints

_RECORD = np.dtype(
    [("head", "V3"), ("value", "<f8"), ("tag", "u1"), ("time", "u1", (6,))]
)  # 0x12 len 0x09 double 0x10 varint: 18 bytes while times take six varint bytes


def series_bytes(labels: Mapping[str, str]) -> bytes:
    """Return the label part of one TimeSeries message."""
    out = b""
    for name, value in sorted(labels.items()):
        pair = _field(1, name.encode()) + _field(2, value.encode())
        out += _field(1, pair)
    return out


def write_request(series: Sequence[bytes], times: Ints, values: Floats) -> bytes:
    """Return a compressed WriteRequest of `values[series, times]`; times are ms of our century."""
    records = np.zeros(values.shape, dtype=_RECORD)
    records["head"] = np.void(b"\x12\x10\x09")
    records["value"] = values
    records["tag"] = 0x10
    shifts = 7 * np.arange(6)
    digits = (times[:, None] >> shifts) & 0x7F
    digits[:, :5] |= 0x80
    records["time"] = digits.astype(np.uint8)
    size = records.itemsize * values.shape[1]
    flat = records.tobytes()
    parts = [
        b"\x0a" + _varint(len(head) + size) + head + flat[row * size : (row + 1) * size]
        for row, head in enumerate(series)
    ]
    return bytes(cramjam.snappy.compress_raw(b"".join(parts)))


def _field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
