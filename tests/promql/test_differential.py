"""Random queries give what a live Prometheus 2.42 gives on the same samples.

`DIFFERENTIAL_QUERIES` sets how many, `DIFFERENTIAL_SEED` other samples and other queries. What
differs is reduced to a script in promqltest's notation, printed, and kept in a file.
"""

import itertools
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from aggregator.promql import engine
from aggregator.promql.functions import FUNCTIONS
from aggregator.promql.parse import parse
from aggregator.promql.windows import Windows
from aggregator.store.memory import MemoryStore
from tests.promql.constructs import constructs, wanted_constructs
from tests.promql.peer import SPAN_MS, START_MS, Answers, Dataset, Peer, peers, random_dataset
from tests.promql.queries import NOT_GENERATED, Query, queries
from tests.promql.scripts.run import Verdict, run_script
from tests.promql.shrink import shrunk

COUNT = int(os.environ.get("DIFFERENTIAL_QUERIES", "5000"))
SEED = int(os.environ.get("DIFFERENTIAL_SEED", "0"))
SHRUNK = 3

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def peer(tmp_path_factory) -> Iterator[Peer]:
    """Return Prometheus and our engine with the same random samples."""
    with peers(tmp_path_factory.mktemp("prometheus"), random_dataset(SEED)) as both:
        yield both


def asking(peer: Peer, directory: Path):
    """Return what asks both engines; for other samples than *peer*'s it starts another server.

    That one is empty, however often *directory* was used: it refuses samples before those it has.
    """

    def ask(query: Query, data: Dataset) -> Answers:
        if data is peer.data:
            return peer.answers(query)
        with TemporaryDirectory(dir=directory) as empty, peers(Path(empty), data) as fresh:
            return fresh.answers(query)

    return ask


@pytest.mark.timeout(3600)
def test_random_queries_equal_prometheus(peer, tmp_path_factory):
    """A random query gives the same series, times and values as Prometheus 2.42."""
    some = itertools.islice(queries(SEED, START_MS, SPAN_MS), COUNT)
    asked = [(query, peer.answers(query)) for query in some]
    failed = [query for query, answers in asked if answers.differences()]
    refused = [query.text for query, answers in asked if isinstance(answers.theirs, str)]
    directory = tmp_path_factory.mktemp("differential")
    scripts = []
    for number, query in enumerate(failed[:SHRUNK]):
        text = f"# from {query}\n{shrunk(query, peer.data, asking(peer, directory))}"
        file = directory / f"failure-{number}.test"
        file.write_text(text)
        scripts.append(f"{file}:\n{text}")
    assert not failed, f"{len(failed)} of {COUNT} differ\n\n" + "\n".join(scripts)
    assert len(refused) <= COUNT // 20, refused


@pytest.mark.timeout(600)
def test_the_generator_covers_the_language():
    """Every function, operator, aggregation, modifier and join that means the same is generated."""
    assert NOT_GENERATED.keys() <= FUNCTIONS.keys()
    missing = wanted_constructs()
    assert missing
    for query in itertools.islice(queries(SEED, START_MS, SPAN_MS), 5_000):
        missing -= constructs(parse(query.text))
    assert not missing


def test_each_part_of_the_samples_is_asked_on_its_own(peer, tmp_path):
    """Two shrinkings in one directory do not see each other's samples."""
    last = Dataset([(peer.data.series[0][0], peer.data.series[0][1][-1:], np.ones(1))])
    first = Dataset([(peer.data.series[0][0], peer.data.series[0][1][:1], np.zeros(1))])
    query = Query("count_over_time(gauge[1h])", START_MS + SPAN_MS, 60_000, 1)
    for data in (last, first):
        answers = asking(peer, tmp_path)(query, data)
        assert not answers.differences()
        assert [list(values.values()) for values in answers.theirs.values()] == [[1.0]]


@pytest.mark.timeout(600)
def test_a_failure_shrinks_to_a_script(peer, tmp_path, monkeypatch):
    """A wrong kernel is shown by one short series and one call, which the right one passes."""
    right = FUNCTIONS["resets"]

    def one_too_many(windows: Windows, params):
        values, present = right.kernel(windows, params)
        return values + (values >= 2), present

    query = Query(
        'sum by (job) (resets(counter_total{job=~"a|b",inst!=""}[15m]) * 2) + 0 * 3',
        START_MS + 1_500_000,
        60_000,
        7,
    )
    assert not peer.answers(query).differences()
    monkeypatch.setitem(FUNCTIONS, "resets", replace(right, kernel=one_too_many))
    engine._cached_plan.cache_clear()
    text = shrunk(query, peer.data, asking(peer, tmp_path))
    verdicts = [outcome.verdict for outcome in run_script(text, MemoryStore)]
    monkeypatch.undo()
    engine._cached_plan.cache_clear()
    loaded = [line for line in text.splitlines() if line.startswith("  counter_total{")]
    assert len(loaded) == 1, text
    assert len([word for word in loaded[0].split()[1:] if word[0] != "_"]) <= 5, text
    assert "resets(counter_total[15m])" in text
    assert "sum" not in text, text
    assert verdicts == [Verdict.FAILED]
    assert [outcome.verdict for outcome in run_script(text, MemoryStore)] == [Verdict.PASSED]
