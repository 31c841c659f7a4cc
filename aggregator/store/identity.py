"""Finds the id of a label set by a keyed 128-bit hash of its codes."""

import secrets
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from aggregator.model.arrays import Codes, Ids, Ints

Hashes = NDArray[np.uint64]
_TAIL_ROWS = 32_768


@dataclass(frozen=True, slots=True)
class _Run:
    """Hash pairs and ids, sorted by the first hash."""

    first: Hashes
    second: Hashes
    ids: Ids

    @staticmethod
    def empty() -> "_Run":
        return _Run(np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.uint32))

    def merged(self, other: "_Run") -> "_Run":
        first = np.concatenate([self.first, other.first])
        order = np.argsort(first, kind="stable")
        return _Run(
            first[order],
            np.concatenate([self.second, other.second])[order],
            np.concatenate([self.ids, other.ids])[order],
        )


class Identity:
    """A map from label sets to ids, 20 bytes a series.

    The key is random for each process, so nobody can craft two label sets that collide; by chance
    two of 10⁹ series do with a probability below 10⁻²⁰.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(16)
        self._names: dict[str, np.uint64] = {}
        self._main = _Run.empty()
        self._tail = _Run.empty()

    def hashes(self, names: tuple[str, ...], columns: list[Codes]) -> tuple[Hashes, Hashes]:
        """Return both hashes of each row of *columns*; label order does not count, 0 is absent."""
        rows = columns[0].size if columns else 1
        first, second = np.zeros(rows, np.uint64), np.zeros(rows, np.uint64)
        for name, column in zip(names, columns, strict=True):
            mixed = _mix(column.astype(np.uint64) ^ self._salt(name))
            again = _mix(mixed ^ self._salt(""))
            present = column != 0
            first += np.where(present, mixed, np.uint64(0))
            second += np.where(present, again, np.uint64(0))
        return first, second

    def find(self, first: Hashes, second: Hashes) -> Ints:
        """Return the id of each pair, -1 where there is none."""
        found = np.full(first.size, -1, np.int64)
        for run in (self._main, self._tail):
            if not run.ids.size:
                continue
            position = np.searchsorted(run.first, first)
            for step in (0, 1):  # two series may share the first hash, hardly three
                at = np.minimum(position + step, run.ids.size - 1)
                hit = (run.first[at] == first) & (run.second[at] == second)
                found[hit] = run.ids[at[hit]]
        return found

    def add(self, first: Hashes, second: Hashes, ids: Ids) -> None:
        """Remember new pairs."""
        order = np.argsort(first)
        self._tail = self._tail.merged(_Run(first[order], second[order], ids[order]))
        if self._tail.ids.size > _TAIL_ROWS:
            self._main, self._tail = self._main.merged(self._tail), _Run.empty()

    def _salt(self, name: str) -> np.uint64:
        salt = self._names.get(name)
        if salt is None:
            digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8, key=self._key)
            salt = self._names[name] = np.uint64(int.from_bytes(digest.digest(), "little"))
        return salt


def _mix(words: Hashes) -> Hashes:
    """Scramble 64-bit words (the finaliser of splitmix64, twice)."""
    for _ in range(2):
        words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        words = words ^ (words >> np.uint64(31))
    return words
