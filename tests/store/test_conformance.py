"""What every backend does, compared with a store in plain Python."""

import contextlib
import math
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.errors import QueryExecutionError, QuerySyntaxError, QueryTimeoutError
from aggregator.model.budget import Budget
from aggregator.model.labels import METRIC_NAME, Matcher, MatchOp
from aggregator.model.samples import STALE, SampleBlock
from aggregator.store.interface import WriteReport
from aggregator.store.pages import LIMIT_BYTES
from aggregator.store.settings import Backend
from tests.store.conftest import HEADS, opener
from tests.store.model import ALL, DAY_MS, ModelStore, bits, key, labels, window, write

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
    st.tuples(st.just("warm"), st.none()),
)


def check(store, model: ModelStore) -> None:
    """Compare everything a reader can see."""
    for start, end in (EVER, (T0, T0 + 60_000), (T0 + DAY_MS, T0 + DAY_MS + 15_000)):
        assert window(store, start, end) == model.window(start, end)
    for series in SERIES:
        for name, value in series:
            present = any((name, value) in other for other in model.series)
            assert (value in store.label_values(name, (), *EVER, Budget())) == present
    names = {name for series in model.series for name, _ in series}
    assert store.label_names((), *EVER, Budget()) == sorted(names)
    assert store.series_count >= len(model.series)


def replay(backend: Backend, head_ms: int, steps) -> None:
    """Do *steps* on a fresh store of *backend* and on the model, and compare after each."""
    model, opened = ModelStore(), opener(backend, head_ms, LIMIT_BYTES if head_ms else 0)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        store = stack.enter_context(opened(Path(name)))
        for action, argument in steps:
            if action == "write":
                assert write(store, argument) == model.write(argument)
            elif action == "expire":
                store.expire(argument)
                model.expire(argument)
            elif action == "warm":
                store.warm(threading.Event())
            elif backend is Backend.CHDB:
                stack.close()
                store = stack.enter_context(opened(Path(name)))
                model.cutoff_ms = 0  # until the next expiry
            check(store, model)


HISTORIES = st.lists(operations, min_size=1, max_size=10)


@settings(max_examples=120, deadline=None)
@given(head_ms=st.sampled_from(HEADS), steps=HISTORIES)
def test_any_history_reads_like_the_model_in_memory(head_ms, steps):
    """Writes, repetitions, conflicts, stale markers, late samples and expiry agree."""
    replay(Backend.MEMORY, head_ms, steps)


@settings(max_examples=14, deadline=None)
@given(head_ms=st.sampled_from(HEADS), steps=HISTORIES)
def test_any_history_reads_like_the_model_on_disk(head_ms, steps):
    """The same, and nothing changes when the store is closed and opened."""
    replay(Backend.CHDB, head_ms, steps)


def matcher(name: str, op: str, value: str) -> Matcher:
    """Return one matcher."""
    return Matcher(METRIC_NAME if name == "name" else name, MatchOp(op), value)


def test_a_window_is_left_open_and_right_closed(store):
    """The sample at the start is outside, the one at the end inside."""
    series = SERIES[0]
    write(store, [(series, T0 + k, float(k)) for k in range(4)])
    assert window(store, T0 + 1, T0 + 3) == {
        series: [(T0 + 2, bits(2.0)), (T0 + 3, bits(3.0))],
    }
    assert window(store, T0 + 3, T0 + 3) == {}
    assert window(store, T0 + 3, T0 + 1) == {}


def test_runs_cover_series_without_samples(store):
    """A selected series without a sample in the window has an empty run of its own."""
    write(store, [(SERIES[0], T0, 1.0), (SERIES[1], T0 + 9, 2.0)])
    ids = np.sort(store.series_ids([dict(SERIES[0]), dict(SERIES[1])]))
    (run,) = store.read(ids, T0, T0 + 9, Budget())
    assert (run.first_row, run.offsets.tolist()) == (0, [0, 0, 1])
    assert list(store.read(ids[:0], T0, T0 + 9, Budget())) == []


def test_a_real_value_replaces_a_stored_stale_marker(store):
    """It is counted as inserted; a marker never replaces a value."""
    write(store, [(SERIES[0], T0, STALE), (SERIES[0], T0 + 1, 1.0)])
    report = write(store, [(SERIES[0], T0, 5.0), (SERIES[0], T0 + 1, STALE)])
    assert report == WriteReport(inserted=1, duplicates=0, conflicts=1)
    assert window(store, 0, T0 + 1) == {SERIES[0]: [(T0, bits(5.0)), (T0 + 1, bits(1.0))]}


@pytest.mark.parametrize(
    ("matchers", "expected"),
    [
        ([("name", "=", "up")], {0, 1, 2}),
        ([("name", "=", "nothing")], set()),
        ([("job", "=", "a")], {0, 1, 3}),
        ([("job", "!=", "a")], {2, 4}),
        ([("job", "=", "")], {4}),
        ([("job", "!=", "")], {0, 1, 2, 3}),
        ([("name", "=", "up"), ("pod", "=", "")], {2}),
        ([("pod", "=~", "p-.")], {0, 1}),
        ([("pod", "=~", "p-")], set()),
        ([("pod", "=~", "p-1|p-2")], {0, 1}),
        ([("pod", "!~", "p-(1|9)")], {1, 2, 3, 4}),
        ([("pod", "=~", ".*")], {0, 1, 2, 3, 4}),
        ([("pod", "=~", ".+")], {0, 1, 4}),
        ([("pod", "!~", ".+")], {2, 3}),
        ([("zone", "=~", "z.1")], {3}),
        ([("zone", "=~", "z\\n1")], {3}),
        ([("zone", "=~", "z$.^1")], set()),
        ([("pod", "=~", '.*"1\\\\')], {4}),
        ([("pod", "=", 'p"1\\')], {4}),
        ([("name", "=~", "up|down"), ("job", "=~", "(?i)A")], {0, 1, 3}),
        ([("name", "!=", "up"), ("name", "!~", "fleet.*")], {3}),
        ([("name", "=", "up"), ("name", "=", "down")], set()),
        ([("nolabel", "!=", "x")], {0, 1, 2, 3, 4}),
        ([("nolabel", "=~", "x?")], {0, 1, 2, 3, 4}),
        ([("nolabel", "=~", "x+")], set()),
        ([], {0, 1, 2, 3, 4}),
    ],
)
def test_matchers_select_as_in_prometheus(store, matchers, expected):
    """Regexes are anchored, the dot matches a newline, an absent label is an empty one."""
    write(store, [(series, T0, 1.0) for series in SERIES])
    found = window(store, *EVER, [matcher(*parts) for parts in matchers])
    assert set(found) == {SERIES[place] for place in expected}


@pytest.mark.parametrize("regex", ["(", "a)|(b", "(?=x)", "a{5000}", "\\Q"])
def test_a_regex_that_re2_does_not_know_is_a_syntax_error(store, regex):
    """The message names the matcher."""
    with pytest.raises(QuerySyntaxError, match="invalid regular expression in job="):
        store.select([matcher("job", "=~", regex)], *EVER, store.strings(), Budget())


def test_label_answers_honour_the_time_range(store):
    """Series count from their first to their last sample."""
    write(store, [(SERIES[0], T0, 1.0), (SERIES[3], T0 + 5_000, 1.0)])
    assert store.label_names((), T0, T0 + 1, Budget()) == [METRIC_NAME, "job", "pod"]
    assert store.label_names((), T0 + 4_000, T0 + 5_000, Budget()) == [METRIC_NAME, "job", "zone"]
    assert store.label_values(METRIC_NAME, (), T0 + 1, T0 + 9_000, Budget()) == ["down"]
    assert store.label_values("job", (), T0 + 6_000, T0 + 9_000, Budget()) == []


def test_label_answers_honour_the_selectors(store):
    """Several selectors are alternatives."""
    write(store, [(series, T0, 1.0) for series in SERIES])
    up, zone = (matcher("name", "=", "up"),), (matcher("zone", "!=", ""),)
    assert store.label_names([zone], *EVER, Budget()) == [METRIC_NAME, "job", "zone"]
    assert store.label_values("job", [up], *EVER, Budget()) == ["a", "b"]
    assert store.label_values(METRIC_NAME, [up, zone], *EVER, Budget()) == ["down", "up"]
    assert store.label_values("nolabel", (), *EVER, Budget()) == []


def test_cardinality_counts_what_matches(store):
    """Series, label names and values are counted, of everything and of what matches."""
    write(store, [(series, T0 + 1_000 * n, 1.0) for n, series in enumerate(SERIES)])
    found = store.cardinality((), 2, Budget())
    assert (found.series, found.pairs) == (5, 9)
    assert (found.first_ms, found.last_ms) == (T0, T0 + 4_000)
    assert found.by_metric == [("up", 3), ("down", 1)]
    assert found.values_of_label == [("__name__", 3), ("pod", 3)]
    assert found.bytes_of_label == [("__name__", 15), ("pod", 10)]
    assert found.by_pair == [("__name__=up", 3), ("job=a", 3)]
    assert found.by_cluster == []
    some = store.cardinality([matcher("pod", "=~", "p-.*")], 10, Budget())
    assert (some.series, some.by_metric) == (2, [("up", 2)])
    assert store.cardinality([matcher("pod", "=", "no")], 10, Budget()).by_pair == []


def test_equal_label_sets_have_one_id(store):
    """Also in another order, within one call and across calls."""
    first = store.series_ids([{METRIC_NAME: "up", "a": "1"}, {"a": "1", METRIC_NAME: "up"}])
    again = store.series_ids([{METRIC_NAME: "up"}, {METRIC_NAME: "up", "a": "1"}])
    assert first[0] == first[1] == again[1]
    assert again[0] != again[1]


def test_codes_are_consistent_within_a_query(store):
    """A dictionary taken before new series, or before expiry, still reads the later ones."""
    write(store, [(SERIES[0], T0, 1.0)])
    strings = store.strings()
    first = store.select(ALL, *EVER, strings, Budget()).labels
    write(store, [(SERIES[0], T0 + 2 * DAY_MS, 1.0), (SERIES[4], T0 + 2 * DAY_MS, 1.0)])
    store.expire(T0 + DAY_MS)
    later = store.select(ALL, *EVER, strings, Budget()).labels
    assert [key(pairs) for pairs in later.dicts()] == [SERIES[0], SERIES[4]]
    job = first.column("job")[0]
    assert later.column("job").tolist() == [job, 0]


def test_expiry_forgets_series_and_their_ids(store):
    """What was dropped is gone, its ids are refused and not given again."""
    old, new = dict(SERIES[0]), dict(SERIES[2])
    write(store, [(SERIES[0], T0, 1.0), (SERIES[2], T0 + DAY_MS, 1.0)])
    before = store.series_ids([old, new])
    generation = store.generation
    assert store.expire(T0 + DAY_MS + 5) == 1
    assert store.generation != generation
    assert store.series_count == 1
    assert window(store, *EVER) == {SERIES[2]: [(T0 + DAY_MS, bits(1.0))]}
    assert store.label_values("pod", (), *EVER, Budget()) == []
    times = np.full(2, T0 + 2 * DAY_MS, np.int64)
    assert store.write(SampleBlock(before, times, np.ones(2))) == WriteReport(1, 0, 0, refused=1)
    assert write(store, [(SERIES[1], T0 + 2 * DAY_MS, 1.0)]).inserted == 1
    after = store.series_ids([old, new, dict(SERIES[1])])
    assert after[1] == before[1]
    assert before[0] not in after


def test_a_series_without_samples_is_forgotten_at_the_second_expiry(store):
    """The first one gives its samples, which may be on their way, time to arrive."""
    store.series_ids([dict(SERIES[0])])
    assert (store.expire(T0), store.series_count) == (0, 1)
    assert (store.expire(T0), store.series_count) == (1, 0)


def test_a_read_stops_at_the_limits_of_its_budget(store):
    """Samples are counted, and a cancelled query reads nothing more."""
    write(store, [(SERIES[0], T0 + k, 1.0) for k in range(10)])
    ids = store.series_ids([dict(SERIES[0])])
    with pytest.raises(QueryExecutionError, match="more than 5 samples"):
        list(store.read(ids, 0, T0 + 10, Budget(max_samples=5)))
    budget = Budget()
    budget.cancel("the client went away")
    with pytest.raises(QueryTimeoutError, match="the client went away"):
        list(store.read(ids, 0, T0 + 10, budget))


def test_readers_see_whole_series_while_others_write_and_expire(store):
    """A label set is never torn, whatever grows or shrinks meanwhile."""
    done, failures = threading.Event(), []

    def reading() -> None:
        while not done.is_set():
            strings = store.strings()
            for _ in range(3):
                table = store.select(ALL, *EVER, strings, Budget()).labels
                failures.extend(
                    pairs for pairs in table.dicts() if pairs.get("pod") != pairs.get("copy")
                )

    reader = threading.Thread(target=reading)
    reader.start()
    try:
        for day in range(12):
            series = [labels(name=f"m{k}", pod=f"{day}-{k}", copy=f"{day}-{k}") for k in range(40)]
            write(store, [(each, T0 + day * DAY_MS, 1.0) for each in series])
            store.expire(T0 + (day - 1) * DAY_MS)
    finally:
        done.set()
        reader.join()
    assert not failures
    assert store.series_count == 80


def test_readers_see_whole_blocks(store):
    """Every series of a block has its sample, or none of them has."""
    series = [labels(name="up", pod=f"p-{k}") for k in range(300)]
    ids = store.series_ids([dict(each) for each in series])
    failures, done = [], threading.Event()

    def reading() -> None:
        while not done.is_set():
            newest = store.newest(ids, T0 - 300_000, T0 + 300_000, Budget())
            if newest is not None:
                seen = newest.values[newest.present]
                failures.extend(seen[seen != seen[:1]].tolist())
                failures.extend([seen] * (seen.size not in (0, ids.size)))
            (run,) = store.read(ids, T0 - 1, T0 + 300_000, Budget())
            if np.unique(np.diff(run.offsets)).size != 1:
                failures.append(run.offsets)

    reader = threading.Thread(target=reading)
    reader.start()
    try:
        for cycle in range(20):
            times = np.full(ids.size, T0 + cycle * 15_000, np.int64)
            store.write(SampleBlock(ids, times, np.full(ids.size, float(cycle))))
    finally:
        done.set()
        reader.join()
    assert not failures
