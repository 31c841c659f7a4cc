"""Stores that an earlier program wrote are brought up to date and keep what they have."""

import numpy as np

from aggregator.model.samples import STALE
from aggregator.store import migrations
from aggregator.store.settings import Backend
from tests.store.conftest import opener
from tests.store.model import ModelStore, labels, window, write

T0 = 20_000 * 86_400_000
HOUR = 3_600_000
STEPS = migrations._STEPS


def rows(first_hour: int) -> list:
    """Return two hours of ten series, with jitter, markers and odd values."""
    random = np.random.default_rng(first_hour)
    values = [0.1, -0.0, float("nan"), float("inf"), STALE, 3e300]
    return [
        (labels(name="up", k=str(k)), T0 + first_hour * HOUR + t + k, values[random.integers(6)])
        for k in range(10)
        for t in range(0, 2 * HOUR, 300_000)
    ]


def test_a_store_of_the_first_version_keeps_its_samples(tmp_path, monkeypatch):
    """What it had and what is added reads the same, before and after parts are merged."""
    model = ModelStore()
    with monkeypatch.context() as earlier:
        earlier.setattr(migrations, "_STEPS", STEPS[:1])
        with opener(Backend.CHDB)(tmp_path) as store:
            assert write(store, rows(0)) == model.write(rows(0))
    for _ in range(2):
        with opener(Backend.CHDB)(tmp_path) as store:
            assert window(store, 0, T0 + 9 * HOUR) == model.window(0, T0 + 9 * HOUR)
            assert write(store, rows(1)) == model.write(rows(1))
            store._pool.execute("optimize table samples final", {})
            assert window(store, 0, T0 + 9 * HOUR) == model.window(0, T0 + 9 * HOUR)
            version = store._pool.execute("select max(version) from migrations", {})
            codec = store._pool.execute(
                "select compression_codec from system.columns where table = 'samples' "
                "and name = 'ts' and database = currentDatabase()",
                {},
            )
    assert int(version) == len(STEPS)
    assert codec == b'"CODEC(Delta(8), ZSTD(1))"\n'
