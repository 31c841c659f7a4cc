"""Random queries give what a live Prometheus 2.42 gives on the same samples.

`DIFFERENTIAL_QUERIES` sets how many; `DIFFERENTIAL_SEED` other samples.
"""

import os

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.promql.peer import SPAN_MS, START_MS, differences, peers, random_dataset
from tests.promql.queries import queries

COUNT = int(os.environ.get("DIFFERENTIAL_QUERIES", "400"))
SEED = int(os.environ.get("DIFFERENTIAL_SEED", "0"))

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    """Return Prometheus and our engine with the same random samples."""
    with peers(tmp_path_factory.mktemp("prometheus"), random_dataset(SEED)) as both:
        yield both


@pytest.mark.timeout(3600)
@settings(
    max_examples=COUNT,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
@given(query=queries(START_MS, SPAN_MS))
def test_random_query_equals_prometheus(peer, query):
    """A random query gives the same series, times and values as Prometheus 2.42."""
    found = differences(peer.theirs(query), peer.ours(query), peer.data.largest(query.text))
    assert not found, f"{query}\n{found}"
