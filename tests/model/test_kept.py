"""What is kept of arrays."""

import gc
import weakref

import numpy as np
import pytest

from aggregator.model.kept import Kept


def sealed(*values: int) -> np.ndarray:
    """Return an array that nobody can change."""
    array = np.array(values)
    array.flags.writeable = False
    return array


def test_an_array_is_found_by_itself_and_not_by_an_equal_one():
    """Equal arrays may stand for different things."""
    kept: Kept[str] = Kept(4)
    one, other = sealed(1, 2), sealed(1, 2)
    kept.put(one, "one")
    assert (kept.get(one), kept.get(other)) == ("one", None)
    kept.put(other, "other")
    kept.put(one, "new")
    assert (kept.get(one), kept.get(other)) == ("new", "other")


def view() -> np.ndarray:
    """Return a read-only view of an array that can be changed."""
    array = np.arange(3)[:]
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "array",
    [
        np.arange(3),
        view(),
        sealed(1, 2)[:],
        np.frombuffer(b"ab", np.uint8),
        np.broadcast_to(sealed(1), 2),
    ],
    ids=["writeable", "view", "view of sealed", "buffer", "broadcast"],
)
def test_what_somebody_might_change_is_not_kept(array):
    """Only what owns its memory and is read-only stays what it is."""
    kept: Kept[str] = Kept(4)
    kept.put(array, "known")
    assert kept.get(array) is None


def test_no_more_than_most_are_held():
    """And what was forgotten gives its memory back."""
    kept: Kept[int] = Kept(3)
    arrays = [sealed(number) for number in range(4)]
    gone = weakref.ref(arrays[0])
    for number, array in enumerate(arrays):
        kept.put(array, number)
    assert [kept.get(array) for array in arrays] == [None, None, None, 3]
    del array
    arrays.clear()
    gc.collect()
    assert gone() is None


def test_identities_that_are_used_again_find_nothing():
    """An array is held for as long as it is known, so that no other one gets its identity."""
    kept: Kept[int] = Kept(50)
    for number in range(1_000):
        array = sealed(number)
        assert kept.get(array) is None
        kept.put(array, number)
        assert kept.get(array) == number
