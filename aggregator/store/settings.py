"""Settings of the central store."""

from enum import Enum
from pathlib import Path
from typing import Annotated

from pydantic import Field

from aggregator.settings import Duration, Settings, Size, parse_duration_ms, parse_size

MIN_RETENTION_MS = parse_duration_ms("1d")


class Backend(Enum):
    """What keeps the samples: the embedded column store, or memory that forgets at exit."""

    CHDB = "chdb"
    MEMORY = "memory"


class StoreSettings(Settings):
    """Where samples are kept, how long, and how much room they may take."""

    path: Path = Path("./data")
    retention: Annotated[Duration, Field(ge=MIN_RETENTION_MS)] = parse_duration_ms("30d")
    max_disk: Size = parse_size("50GiB")
    backend: Backend = Backend.CHDB
