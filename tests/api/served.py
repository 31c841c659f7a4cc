"""A process for others to attack: `python -m tests.api.served PORT DIRECTORY`.

The API with small limits over the embedded store, with half an hour of every kind of sample. It
ends by a signal.
"""

import sys
import threading
import time
from pathlib import Path

import numpy as np

from aggregator.api.app import Dependencies, create_app
from aggregator.api.server import Server
from aggregator.api.settings import ApiSettings
from aggregator.api.status import Metadata
from aggregator.model.samples import STALE, SampleBlock
from aggregator.promql.engine import Engine
from aggregator.store.interface import Store
from aggregator.store.open import open_store
from aggregator.store.process import tune_process
from aggregator.store.settings import StoreSettings

LIMITS = {"timeout": "5s", "samples": 5_000_000, "series": 20_000, "bytes": "32MiB"}
_ODD = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e300, 5e-324, STALE)


def now_ms() -> int:
    """Return the wall clock in ms."""
    return int(time.time() * 1000)


def seed(store: Store, until_ms: int) -> None:
    """Store series of several metrics up to *until_ms*."""
    generator = np.random.default_rng(20)
    times = until_ms - 15_000 * np.arange(120)[::-1]
    series = [
        {"__name__": name, "job": job, "inst": str(number), **more}
        for name, more in (
            ("gauge", {}),
            ("counter_total", {"code": "200"}),
            ("wild", {"größe": 'a "quoted" \\ value\n'}),
            ("hist_bucket", {"le": "0.5"}),
            ("hist_bucket", {"le": "+Inf"}),
            ("http.requests", {}),
        )
        for job in ("a", "b")
        for number in range(10)
    ]
    ids = store.series_ids(series)
    values = generator.random((len(series), times.size)) * 100
    for row, labels in enumerate(series):
        if labels["__name__"] in ("counter_total", "hist_bucket"):
            values[row].sort()
        elif labels["__name__"] == "wild":
            values[row] = generator.choice(_ODD, times.size)
    store.write(SampleBlock(np.repeat(ids, times.size), np.tile(times, ids.size), values.ravel()))


def main(port: str, directory: str) -> None:
    """Serve until the process is ended."""
    tune_process()
    store = open_store(StoreSettings(path=Path(directory)))
    seed(store, now_ms())
    settings = ApiSettings.model_validate({"listen": f"127.0.0.1:{port}", "query": LIMITS})
    dependencies = Dependencies(
        settings=settings,
        engine=Engine(store),
        store=store,
        freshness=lambda *_: (),
        clusters=tuple,
        waiting=tuple,
        now_ms=now_ms,
        metadata=lambda: {"gauge": [Metadata("gauge", "A gauge", "")]},
    )
    Server(create_app(dependencies), settings).start()
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
