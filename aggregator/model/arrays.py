"""Names for the numpy columns that travel between packages."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Bools: TypeAlias = NDArray[np.bool_]
Codes: TypeAlias = NDArray[np.int32]
Floats: TypeAlias = NDArray[np.float64]
Ids: TypeAlias = NDArray[np.uint32]
Ints: TypeAlias = NDArray[np.int64]
