"""Random queries give over the embedded store, which computes windows itself, what numpy gives.

Both engines have Prometheus 3's windows and the same samples, one on disk, one in memory.
`DIFFERENTIAL_QUERIES` sets how many, `DIFFERENTIAL_SEED` other samples and other queries.
"""

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

from aggregator import telemetry
from aggregator.errors import QueryError
from aggregator.model.budget import Budget
from aggregator.model.samples import SampleBlock
from aggregator.model.stepmatrix import StepRange
from aggregator.promql.engine import Engine
from aggregator.store import gridsql
from aggregator.store.chdb import ChdbStore
from aggregator.store.interface import Store
from aggregator.store.memory import MemoryStore
from tests.promql.peer import (
    SPAN_MS,
    START_MS,
    Answers,
    Dataset,
    Result,
    as_result,
    random_dataset,
)
from tests.promql.queries import Query, queries
from tests.promql.scripts.run import Verdict, run_script
from tests.promql.shrink import shrunk

COUNT = int(os.environ.get("DIFFERENTIAL_QUERIES", "2000"))
SEED = int(os.environ.get("DIFFERENTIAL_SEED", "0"))
SHRUNK, PARTS = 3, 6


class Stores:
    """The samples of a dataset in both stores; the embedded one opens one directory at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._opened = directory, 0
        self._held: Dataset | None = None
        self._engines: list[Engine] = []
        self._disk: ChdbStore | None = None

    def ask(self, query: Query, data: Dataset) -> Answers:
        """Return what the engine over each store says; the one in memory is right."""
        if data is not self._held:
            self._hold(data)
        pushing, plain = (answer(engine, query) for engine in self._engines)
        return Answers(plain, pushing, data.largest(query.text))

    def close(self) -> None:
        """Close the embedded store."""
        if self._disk is not None:
            self._disk.close()

    def _hold(self, data: Dataset) -> None:
        self.close()
        self._opened += 1
        self._disk = ChdbStore(
            self._directory / str(self._opened), max_disk_bytes=1 << 40, pages_bytes=0
        )
        memory, self._held = MemoryStore(), data
        blocks = blocks_of(data)
        for store in (self._disk, memory):
            write(store, data, blocks)
        self._engines = [Engine(self._disk), Engine(memory)]


def blocks_of(data: Dataset) -> Sequence[SampleBlock]:
    """Return the samples in pieces out of order, some twice; ids are places in the data."""
    ids = np.repeat(np.arange(len(data.series)), [times.size for _, times, _ in data.series])
    times = np.concatenate([times for _, times, _ in data.series])
    values = np.concatenate([values for _, _, values in data.series])
    generator = np.random.default_rng(SEED)
    part = generator.integers(0, PARTS, ids.size)
    rows = [np.flatnonzero(part == number) for number in range(PARTS)]
    blocks = [SampleBlock(ids[some].astype(np.uint32), times[some], values[some]) for some in rows]
    return [*blocks, blocks[0]]


def write(store: Store, data: Dataset, blocks: Sequence[SampleBlock]) -> None:
    """Write *blocks* into *store*."""
    ids = store.series_ids([labels for labels, _, _ in data.series])
    for block in blocks:
        if len(block):
            store.write(SampleBlock(ids[block.ids], block.times, block.values))


def answer(engine: Engine, query: Query) -> Result | str:
    """Return the answer of *engine*, or its error."""
    try:
        if query.count == 1:
            return as_result(engine.instant(query.text, query.start_ms, Budget()))
        steps = StepRange(query.start_ms, query.step_ms, query.count)
        return as_result(engine.range(query.text, steps, Budget()))
    except QueryError as error:
        return str(error)


def longer(seed: int) -> Iterator[Query]:
    """Yield random queries, most of which span so much that the store computes them."""
    random = Random(seed)
    for query in queries(seed, START_MS, SPAN_MS // 3):
        if query.count == 1:
            yield query
        else:
            step = random.choice((1, 7, 15, 30, 45, 60, 123))
            count = random.choice((30, 61, 150))
            yield replace(query, step_ms=step * 1000, count=count)


@pytest.fixture
def stores(tmp_path) -> Iterator[Stores]:
    """Return both stores, closed at the end."""
    opened = Stores(tmp_path)
    yield opened
    opened.close()


def pushed() -> float:
    """Return how often the store computed windows."""
    return telemetry.LEAF_READS.labels("pushdown")._value.get()


@pytest.mark.timeout(3600)
def test_random_queries_give_the_same_with_and_without_pushdown(stores, tmp_path):
    """The store's own windows and sums are numpy's, and are used often."""
    data, before = random_dataset(SEED), pushed()
    some = itertools.islice(longer(SEED), COUNT)
    asked = [(query, stores.ask(query, data)) for query in some]
    used = pushed() - before
    failed = [query for query, answers in asked if answers.differences()]
    scripts = []
    for number, query in enumerate(failed[:SHRUNK]):
        text = f"# from {query}\n{shrunk(query, data, stores.ask)}"
        file = tmp_path / f"failure-{number}.test"
        file.write_text(text)
        scripts.append(f"{file}:\n{text}")
    assert not failed, f"{len(failed)} of {COUNT} differ\n\n" + "\n".join(scripts)
    assert used > COUNT / 4


@pytest.mark.timeout(600)
def test_a_wrong_function_of_the_engine_shrinks_to_a_script(stores, monkeypatch):
    """If the engine took another function's name, a short series would show it."""
    data = random_dataset(SEED)
    query = Query(
        'sum by (job) (resets(counter_total{job=~"a|b"}[15m]) * 2) + 1', START_MS, 30_000, 80
    )
    assert not stores.ask(query, data).differences()
    names = dict(gridsql.ENGINE_NAMES, resets="Changes")
    monkeypatch.setattr(gridsql, "ENGINE_NAMES", names)
    text = shrunk(query, data, stores.ask)
    assert "resets(counter_total[15m])" in text
    loaded = [line for line in text.splitlines() if line.startswith("  counter_total{")]
    assert len(loaded) == 1, text
    assert len([word for word in loaded[0].split()[1:] if word[0] != "_"]) <= 3, text
    assert [outcome.verdict for outcome in run_script(text, MemoryStore)] == [Verdict.PASSED]
