"""Label sets as JSON objects.

A few are written one by one, which has no fixed cost. Many are laid out from pieces: for each name
`,"name":` and `"value"`, or nothing where it is absent. Each distinct piece is written once; one
Arrow `take` lays the rows out, without a Python loop over them.
"""

from collections.abc import Sequence

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from aggregator.api.texts import Texts, data, ending, rows_of, take, texts
from aggregator.model.arrays import Codes, Ints
from aggregator.model.kept import Kept
from aggregator.model.labels import LabelTable

FEW = 80  # where both ways take as long
_QUOTE = ord('"')
# the label sets of selections that were asked for last, 13 MB at most; 80 of 16 labels are 50 KB
_KEPT: Kept[tuple[tuple[str, ...], Sequence[bytes]]] = Kept(200)
_KEPT_BYTES = 1 << 16


def label_objects(table: LabelTable) -> Sequence[bytes]:
    """Return each of a few label sets as a JSON object, names in table order.

    What a store keeps of a selection, and marks as read-only, is asked for again and again. Such
    codes are of the store's own dictionary, in which a code stays one string.
    """
    if not table.names:
        return [b"{}"] * len(table)
    held = _KEPT.get(table.codes)
    if held is not None and held[0] == table.names:
        return held[1]
    objects = _objects(table)
    if len(table) <= FEW and table.codes.nbytes + sum(map(len, objects)) <= _KEPT_BYTES:
        _KEPT.put(table.codes, (table.names, objects))
    return objects


def _objects(table: LabelTable) -> list[bytes]:
    names = table.names
    values = table.strings.texts(table.codes.reshape(-1))
    if values and table.codes.all():  # nowhere is a label absent: all objects have one form
        keys = b",".join([_verbatim(orjson.dumps(name)) + b':"%b"' for name in names])
        form = b"{" + keys + b"}"
        escaped = iter(_escaped(values))
        return [form % row for row in zip(*[escaped] * len(names), strict=True)]
    rows = iter(values)
    return [
        orjson.dumps({name: text for name, text in zip(names, row, strict=True) if text})
        for row in zip(*[rows] * len(names), strict=True)
    ]


def _escaped(values: list[str]) -> list[bytes]:
    """Return *values* as JSON strings without their quotes."""
    dump = orjson.dumps(values)
    if b"\\" in dump:  # a quote within a value could be taken for its end
        return [orjson.dumps(value)[1:-1] for value in values]
    return dump[2:-2].split(b'","')


def _verbatim(text: bytes) -> bytes:
    """Return *text* as a part of a format."""
    return text.replace(b"%", b"%%")


def label_pieces(table: LabelTable, opening: bytes, closing: bytes) -> tuple[Texts, Ints]:
    """Return what to lay out for the label sets as JSON objects within two texts.

    Returns pieces and which of them each set consists of, `[rows, pieces of a row]`.
    """
    if len(table) <= FEW or not table.names:
        whole = texts([opening + each + closing for each in label_objects(table)])
        return whole, np.arange(len(table))[:, np.newaxis]
    # the first label that a set has goes without a comma
    first = (table.codes != 0).argmax(axis=1)
    pieces: list[Texts] = []
    columns: list[Ints] = []
    start = 0
    waiting = opening + b"{"  # for the next column that is not the same everywhere
    for column, name in enumerate(table.names):
        codes, leads = table.codes[:, column], first == column
        key = orjson.dumps(name) + b":"
        if (codes == codes[0]).all() and (leads == leads[0]).all():
            waiting += _label(key, table.strings.text(int(codes[0])), leading=bool(leads[0]))
            continue
        distinct, number = _distinct(codes)
        pieces += [
            texts([b"", waiting, waiting + key, waiting + b"," + key]),
            _quoted(table.strings.texts(distinct)),
        ]
        absent = codes == 0
        columns.append(np.where(absent, 1, np.where(leads, 2, 3)) + start)
        columns.append(np.where(absent, 0, number + 4) + start)
        start += 4 + distinct.size
        waiting = b""
    columns.append(np.full(len(table), start))
    pieces.append(texts([waiting + b"}" + closing]))
    return pa.concat_arrays(pieces), np.column_stack(columns)


def label_sets(table: LabelTable, limit: int) -> bytes:
    """Return the first *limit* label sets as an array of JSON objects, sorted by their text."""
    pieces, layout = label_pieces(table, b"", b",")
    objects = rows_of(take(pieces, layout.reshape(-1)), layout.shape[1])
    first = take(objects, pc.sort_indices(objects).to_numpy()[:limit])
    return b"".join((b"[", data(first)[:-1], b"]"))


def _label(key: bytes, value: str, *, leading: bool) -> bytes:
    return (b"" if leading else b",") + key + orjson.dumps(value) if value else b""


def _distinct(codes: Codes) -> tuple[Codes, Ints]:
    """Return the distinct codes, in no order, and which of them each code is."""
    encoded = pa.array(codes).dictionary_encode()
    return np.asarray(encoded.dictionary), np.asarray(encoded.indices)


def _quoted(values: list[str]) -> Texts:
    """Return *values* as JSON strings."""
    dump = orjson.dumps(values)
    if b"\\" in dump:
        return texts([orjson.dumps(value) for value in values])
    # without escapes every quote begins or ends a value; the first one has begun
    body = b'"' + dump[2:-2].replace(b'","', b'""') + b'"'
    return ending(body, np.flatnonzero(np.frombuffer(body, np.uint8) == _QUOTE)[1::2] + 1)
