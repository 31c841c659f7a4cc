"""What every backend does, compared with a store in plain Python."""

import contextlib
import math
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.errors import QueryExecutionError, QuerySyntaxError, QueryTimeoutError
from aggregator.model.budget import Budget
from aggregator.model.labels import METRIC_NAME, Matcher, MatchOp
from aggregator.model.samples import STALE, SampleBlock
from aggregator.store.settings import Backend
from tests.store.conftest import opener
from tests.store.model import ALL, DAY_MS, Labels, ModelStore, key, labels, window, write

T0 = 20_000 * DAY_MS
EVER = (0, T0 + 1_000 * DAY_MS)

SERIES = tuple(
    labels(**pairs)
    for pairs in (
        {"name": "up", "job": "a", "pod": "p-1"},
        {"name": "up", "job": "a", "pod": "p-2"},
        {"name": "up", "job": "b"},
        {"name": "down", "job": "a", "zone": "z\n1"},
        {"name": "fleet:cpu", "pod": 'p"1\\'},
    )
)
VALUES = (0.0, -0.0, 1.5, math.nan, math.inf, -math.inf, STALE)

rows = st.tuples(
    st.sampled_from(SERIES),
    st.builds(
        lambda day, tick: T0 + day * DAY_MS + tick * 15_000,
        st.integers(0, 3),
        st.integers(0, 12),
    ),
    st.sampled_from(VALUES),
)
operations = st.one_of(
    st.tuples(st.just("write"), st.lists(rows, min_size=1, max_size=30)),
    st.tuples(st.just("expire"), st.integers(T0 - DAY_MS, T0 + 3 * DAY_MS)),
    st.tuples(st.just("reopen"), st.none()),
)


def check(store, model: ModelStore) -> None:
    """Compare everything a reader can see."""
    for start, end in (EVER, (T0, T0 + 60_000), (T0 + DAY_MS, T0 + DAY_MS + 15_000)):
        assert window(store, start, end) == model.window(start, end)
    for series in SERIES:
        for name, value in series:
            present = any((name, value) in other for other in model.series)
            assert (value in store.label_values(name, (), *EVER)) == present
    names = {name for series in model.series for name, _ in series}
    assert store.label_names((), *EVER) == sorted(names)
    assert store.series_count >= len(model.series)


def replay(backend: Backend, steps) -> None:
    """Do *steps* on a fresh store of *backend* and on the model, and compare after each."""
    model = ModelStore()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        store = stack.enter_context(opener(backend)(Path(name)))
        for action, argument in steps:
            if action == "write":
                assert write(store, argument) == model.write(argument)
            elif action == "expire":
                store.expire(argument)
                model.expire(argument)
            elif backend is Backend.CHDB:
                stack.close()
                store = stack.enter_context(opener(backend)(Path(name)))
                model.cutoff_ms = 0  # until the next expiry
            check(store, model)


HISTORIES = st.lists(operations, min_size=1, max_size=10)


@settings(max_examples=60, deadline=None)
@given(steps=HISTORIES)
def test_any_history_reads_like_the_model_in_memory(steps):
    """Writes, repetitions, conflicts, stale markers, late samples and expiry agree."""
    replay(Backend.MEMORY, steps)


@settings(max_examples=int(os.environ.get("STORE_EXAMPLES", "12")), deadline=None)
@given(steps=HISTORIES)
def test_any_history_reads_like_the_model_on_disk(steps):
    """The same, and nothing changes when the store is closed and opened."""
    replay(Backend.CHDB, steps)
