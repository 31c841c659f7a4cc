"""Writes batch after batch until it is killed; run as a program by `test_crash.py`.

Batch k stores one sample of each of the first `series_of(k)` series, the last ones new, and is
acknowledged on standard output, with the ids it used, once `write` has returned.
"""

import json
import sys
from pathlib import Path

import numpy as np

from aggregator.model.labels import METRIC_NAME
from aggregator.model.samples import SampleBlock
from aggregator.store.chdb import ChdbStore

T0 = 20_000 * 86_400_000
STEP_MS = 3_600_000


def label_set(place: int) -> dict[str, str]:
    """Return the labels of a series; every third metric starts a block of its own."""
    return {METRIC_NAME: f"metric_{place // 3}", "place": str(place)}


def series_of(batch: int) -> int:
    """Return how many series a batch writes."""
    return 3 + 2 * batch


def block(batch: int, ids) -> SampleBlock:
    """Return the samples of a batch."""
    times = np.full(ids.size, T0 + batch * STEP_MS, np.int64)
    return SampleBlock(ids, times, batch * 1_000.0 + np.arange(ids.size))


def main(directory: str, first_batch: int) -> None:
    """Write for ever."""
    store = ChdbStore(Path(directory), max_disk_bytes=1 << 40)
    batch = first_batch
    while True:
        ids = store.series_ids([label_set(place) for place in range(series_of(batch))])
        store.write(block(batch, ids))
        sys.stdout.write(json.dumps({"batch": batch, "ids": ids.tolist()}) + "\n")
        sys.stdout.flush()
        batch += 1


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
