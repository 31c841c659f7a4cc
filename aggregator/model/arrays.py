"""Names for the numpy columns that travel between packages, and looks at short ones."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Bools: TypeAlias = NDArray[np.bool_]
Codes: TypeAlias = NDArray[np.int32]
Floats: TypeAlias = NDArray[np.float64]
Ids: TypeAlias = NDArray[np.uint32]
Ints: TypeAlias = NDArray[np.int64]

# Of fewer flags numpy's own functions take several times as long as a look at the bytes, and of
# fewer numbers several times as long as Python's own.
_FEW = 4_096
_FEW_NUMBERS = 32
_TRUE, _FALSE = b"\x01", b"\x00"


def every(flags: Bools) -> bool:
    """Tell what `flags.all()` does."""
    return _FALSE not in flags.tobytes() if flags.size < _FEW else bool(flags.all())


def some(flags: Bools) -> bool:
    """Tell what `flags.any()` does."""
    return _TRUE in flags.tobytes() if flags.size < _FEW else bool(flags.any())


def how_many(flags: Bools) -> int:
    """Tell what `np.count_nonzero(flags)` does."""
    return flags.tobytes().count(_TRUE) if flags.size < _FEW else int(np.count_nonzero(flags))


def highest(numbers: Ints) -> int:
    """Tell what `numbers.max()` does; there must be some."""
    return max(numbers.tolist()) if numbers.size < _FEW_NUMBERS else int(numbers.max())
