"""Label sets as JSON objects, without a Python loop over them.

A label set is a row of pieces, one for each name: `"name":"value"`, or nothing where it is absent.
Each distinct piece is written once; one Arrow `take` lays the rows out.
"""

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from aggregator.api.texts import Texts, data, join, rows_of, take, texts
from aggregator.model.arrays import Codes, Ints
from aggregator.model.labels import LabelTable

_PRINTABLE, _QUOTE, _BACKSLASH = ord(" "), ord('"'), ord("\\")  # JSON escapes what is below
_ABSENT, _OPENING, _CLOSING = 0, 1, 2


def label_objects(table: LabelTable, opening: str = "", closing: str = "") -> Texts:
    """Return each label set as a JSON object, names in the table's order, within two texts."""
    layout = np.empty((len(table), len(table.names) + 2), dtype=np.int64)
    layout[:, 0], layout[:, -1] = _OPENING, _CLOSING
    pieces = [texts(["", opening + "{", "}" + closing])]
    # the first label that a set has goes without a comma
    first = (table.codes != 0).argmax(axis=1) if table.names else np.zeros(0, np.int64)
    for column, name in enumerate(table.names):
        distinct, number = _distinct(table.codes[:, column])
        values = _quoted(table.strings.texts(distinct))
        key = orjson.dumps(name).decode() + ":"
        leads = first == column
        for comma, rows in (("", leads), (",", ~leads)):
            if rows.any():
                start = sum(map(len, pieces))
                pieces.append(join(comma + key, values))
                layout[rows, column + 1] = start + number[rows]
        if 0 in distinct:
            layout[table.codes[:, column] == 0, column + 1] = _ABSENT
    laid = take(pa.concat_arrays(pieces), layout.reshape(-1))
    return rows_of(laid, layout.shape[1])


def label_sets(table: LabelTable, limit: int) -> bytes:
    """Return the first *limit* label sets as an array of JSON objects, sorted by their text."""
    objects = label_objects(table)
    first = take(objects, np.asarray(pc.sort_indices(objects))[:limit].astype(np.int64))
    return b"".join((b"[", data(join(first, ","))[:-1], b"]"))


def _distinct(codes: Codes) -> tuple[Codes, Ints]:
    """Return the distinct codes, in no order, and which of them each code is."""
    if codes.size and (codes == codes[0]).all():
        return codes[:1], np.zeros(codes.size, np.int64)
    encoded = pa.array(codes).dictionary_encode()
    return np.asarray(encoded.dictionary), np.asarray(encoded.indices).astype(np.int64)


def _quoted(values: list[str]) -> Texts:
    """Return *values* as JSON strings."""
    plain = texts(values)
    characters = np.frombuffer(data(plain), np.uint8)
    if ((characters < _PRINTABLE) | (characters == _QUOTE) | (characters == _BACKSLASH)).any():
        return texts([orjson.dumps(value).decode() for value in values])
    return join('"', plain, '"')
