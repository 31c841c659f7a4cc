"""What was found out about arrays that stay the same, found again by the array itself."""

from typing import Generic, TypeVar

import numpy as np

Known = TypeVar("Known")


class Kept(Generic[Known]):
    """Something known of each of few read-only arrays, which are asked about again and again.

    When there are more than *most* all of it is forgotten at once. Any thread may ask.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # the arrays are held so that no other one gets their identity
        self._known: dict[int, tuple[np.ndarray, Known]] = {}

    def get(self, array: np.ndarray) -> Known | None:
        """Return what is known of *array*."""
        held = self._known.get(id(array))
        return None if held is None else held[1]

    def put(self, array: np.ndarray, known: Known) -> None:
        """Keep what is known of *array*, unless somebody could change it."""
        if array.flags.writeable or array.base is not None:
            return
        if len(self._known) >= self._most:
            self._known.clear()
        self._known[id(array)] = array, known
