"""The days that samples are kept by: they come as partitions, and go as a whole."""

from typing import Final

DAY_MS: Final = 86_400_000
# 2149-06-07: later days do not fit the tables
END_MS: Final = 5_662_310_400_000
