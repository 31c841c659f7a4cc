"""What survives kill -9."""

import json
import random
import select
import subprocess
import sys
import threading

from aggregator.model.budget import Budget
from aggregator.store.settings import Backend
from tests.store.conftest import opener
from tests.store.crash_writer import STEP_MS, T0, block, label_set, series_of
from tests.store.model import ALL

KILLS = 10
START_SECONDS = 60.0
END = T0 + 10_000 * 86_400_000


def write_until_killed(directory, first_batch, moments) -> list[dict]:
    """Run the writing program, kill it at a random moment, return what it acknowledged."""
    command = [sys.executable, "-m", "tests.store.crash_writer", str(directory), str(first_batch)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        lines = [child.stdout.readline() for _ in range(moments.randrange(1, 6))]
        # within the next write, wherever that is by then
        select.select([child.stdout], [], [], moments.random() * 0.1)
    finally:
        child.kill()
        rest = child.stdout.read()
        child.stdout.close()
        child.wait(START_SECONDS)
    complete = b"".join(lines) + rest
    return [json.loads(line) for line in complete.split(b"\n")[:-1]]


def stored_samples(store) -> dict[int, dict[int, float]]:
    """Return every sample by id and time; a time twice is an error."""
    found = {}
    selection = store.select(ALL, 0, END, store.strings(), Budget())
    for run in store.read(selection.ids, 0, END, Budget()):
        for row in range(run.count):
            part = slice(run.offsets[row], run.offsets[row + 1])
            times, values = run.times[part].tolist(), run.values[part].tolist()
            assert len(set(times)) == len(times)
            found[int(selection.ids[run.first_row + row])] = dict(zip(times, values, strict=True))
    return found


def test_kill_9_loses_nothing_acknowledged_and_reuses_no_id(tmp_path):
    """Ten kills: every acknowledged sample is there once, and an id means one series for ever."""
    moments = random.Random(20_261_122)
    owners: dict[int, int] = {}
    batches = 0
    for _ in range(KILLS):
        for acknowledged in write_until_killed(tmp_path, batches, moments):
            assert acknowledged["batch"] == batches
            for place, series in enumerate(acknowledged["ids"]):
                assert owners.setdefault(series, place) == place
            batches += 1
        with opener(Backend.CHDB)(tmp_path) as store:
            ids = store.series_ids([label_set(place) for place in range(series_of(batches - 1))])
            assert [owners[series] for series in ids.tolist()] == list(range(ids.size))
            stored = stored_samples(store)
            store.warm(threading.Event())
            # that of a batch which was stored and not acknowledged any more, if there is one
            newest = max(time for samples in stored.values() for time in samples)
            found = store.newest(ids, newest - STEP_MS // 10, newest, Budget())
            assert found is not None
            expected = block((newest - T0) // STEP_MS, ids)
            assert found.values.tolist() == expected.values.tolist()
            for batch in range(batches):
                expected = block(batch, ids[: series_of(batch)])
                for series, time, value in zip(
                    expected.ids.tolist(), expected.times, expected.values, strict=True
                ):
                    assert stored[series][time] == value
            twice = "select count() - uniqExact(id, ts) from samples"
            assert store._pool.execute(twice, {}) == b"0\n"
    assert batches >= KILLS
