"""What the store computes itself is what the kernels compute, and it is really used."""

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest

from aggregator import telemetry
from aggregator.model.budget import Budget
from aggregator.model.samples import STALE, SampleBlock
from aggregator.model.stepmatrix import StepMatrix, StepRange
from aggregator.promql.engine import Engine
from aggregator.promql.windows import PROMETHEUS_2
from aggregator.store import grid, gridsql
from aggregator.store.chdb import ChdbStore
from aggregator.store.interface import INSTANT
from aggregator.store.memory import MemoryStore

T0 = 20_000 * 86_400_000 + 13 * 3_600_000
HOUR = 3_600_000
SPAN_MS = 2 * HOUR
ROOMY = 1 << 40
KINDS = ("counter", "gauge", "constant", "stale", "odd", "huge", "sparse", "zeros")
FUNCTIONS = sorted(set(gridsql.ENGINE_NAMES) - {INSTANT, "predict_linear"})
RTOL = 1e-9


def one_series(kind: str, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return times and values of two hours: jitter, gaps, and what *kind* says."""
    spacing = 600_000 if kind == "sparse" else int(random.choice([5_000, 15_000, 30_000]))
    steps = spacing * random.choice([1, 1, 1, 1, 1, 1, 1, 9], SPAN_MS // spacing)
    times = np.cumsum(steps) + random.integers(-spacing // 9, spacing // 9, steps.size)
    if random.random() < 0.5:
        times = times // spacing * spacing
    times = np.unique(times[times < SPAN_MS])
    size = times.size
    match kind:
        case "counter" | "sparse":
            level = np.cumsum(random.poisson(2.0, size) * float(random.choice([1.0, 0.1])))
            level -= np.maximum.accumulate(np.where(random.random(size) < 0.03, level, 0))
        case "constant":
            level = np.repeat(random.normal(size=size // 20 + 1), 20)[:size]
        case "huge":
            level = random.choice([1.7e308, -1.7e308, 1e300, 1e17, 3.0], size)
        case "zeros":
            level = random.choice([0.0, -0.0, 1.0], size)
        case _:
            level = random.normal(size=size) * 10.0 ** random.integers(-3, 9)
    if kind == "stale":
        level[random.random(size) < 0.1] = STALE
    if kind == "odd":
        odd = random.choice([np.nan, np.inf, -np.inf, STALE], size)
        level = np.where(random.random(size) < 0.02, odd, level)
    return times + T0, level


def block_of(ids: np.ndarray, series: list[tuple[np.ndarray, np.ndarray]]) -> SampleBlock:
    """Return samples of many series as one block."""
    return SampleBlock(
        np.repeat(ids, [times.size for times, _ in series]).astype(np.uint32),
        np.concatenate([times for times, _ in series]),
        np.concatenate([values for _, values in series]),
    )


@pytest.fixture(scope="module", params=[1, 2])
def engines(request, tmp_path_factory) -> Iterator[tuple[Engine, Engine]]:
    """Return engines over the same random samples on disk and in memory."""
    random = np.random.default_rng(request.param)
    labels = [
        {"__name__": f"m{number % 2}_total", "kind": kind, "n": str(number), "g": str(number % 5)}
        for kind in KINDS
        for number in range(6)
    ]
    series = [one_series(label["kind"], random) for label in labels]
    directory = tmp_path_factory.mktemp("pushdown")
    with (
        pytest.MonkeyPatch.context() as patched,
        contextlib.closing(ChdbStore(directory, max_disk_bytes=ROOMY, pages_bytes=0)) as disk,
    ):
        patched.setattr(grid, "_OVERLAP", 0)  # also where samples are as quick
        memory = MemoryStore()
        for store in (disk, memory):
            ids = store.series_ids(labels)
            for part in np.array_split(np.arange(len(series)), 3):
                store.write(block_of(ids[part], [series[place] for place in part]))
        yield Engine(disk), Engine(memory)


def reads(path: str) -> float:
    """Return how often samples were read by way of *path*."""
    return telemetry.LEAF_READS.labels(path)._value.get()


def rows(matrix: StepMatrix) -> dict[tuple[tuple[str, str], ...], tuple[np.ndarray, np.ndarray]]:
    """Return values and presence by label set."""
    return {
        tuple(sorted(labels.items())): (matrix.values[row], matrix.present[row])
        for row, labels in enumerate(matrix.series.dicts())
    }


def assert_alike(engines, query: str, steps: StepRange, *, pushed: bool = True) -> None:
    """Compare both engines' answers to *query*; *pushed* says whether the store computes it."""
    before = reads("pushdown")
    ours, reference = (engine.range(query, steps, Budget()) for engine in engines)
    assert (reads("pushdown") > before) == pushed, query
    assert ours.infos == reference.infos
    got, wanted = rows(ours.matrix), rows(reference.matrix)
    assert set(got) == set(wanted), query
    for labels, (values, present) in wanted.items():
        np.testing.assert_array_equal(got[labels][1], present, f"{query} {labels}")
        largest = np.abs(values[present & np.isfinite(values)]).max(initial=0.0)
        np.testing.assert_allclose(
            got[labels][0][present],
            values[present],
            RTOL,
            1e-12 * largest,
            err_msg=f"{query} {labels}",
        )


GRIDS = (
    StepRange.between(T0 - 600_000, T0 + SPAN_MS, 60_000),
    StepRange.between(T0 + 1_234, T0 + 1_000_000, 997),
    StepRange.between(T0, T0 + SPAN_MS + HOUR, 37_123),
    StepRange.between(T0 - 86_400_000, T0 + 3 * 86_400_000, 86_399_999),
)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("window", ["1s", "45s", "5m", "21m17s"])
def test_functions_of_windows(engines, name, window):
    """Every function on every kind of series, with tiny and huge steps and offsets."""
    for steps in GRIDS:
        for offset in ("", "offset 7m", "offset -90s"):
            selector = f'{{__name__=~"m._total"}}[{window}] {offset}'
            assert_alike(engines, f"{name}({selector})", steps)


@pytest.mark.parametrize("lookback", [1_000, 60_000, 300_000, HOUR])
def test_selectors(engines, lookback):
    """The newest sample of the lookback, absent where it is a stale marker."""
    for steps in GRIDS:
        for offset in ("", " offset 7m", " offset -90s"):
            query = f'{{__name__=~"m._total"}}{offset}'
            before = reads("pushdown")
            answers = [
                engine.range(query, steps, Budget(), lookback_ms=lookback) for engine in engines
            ]
            assert reads("pushdown") > before
            got, wanted = (rows(answer.matrix) for answer in answers)
            assert set(got) == set(wanted)
            for labels, (values, present) in wanted.items():
                np.testing.assert_array_equal(got[labels][1], present)
                np.testing.assert_array_equal(got[labels][0][present], values[present])


@pytest.mark.parametrize(
    "query",
    ["predict_linear({selector}[10m], 3600)", "predict_linear({selector}[10m] offset 5m, -77.5)"],
)
def test_predictions(engines, query):
    """A line is extended from the evaluation time, not from the end of an offset window."""
    for steps in GRIDS[:2]:
        assert_alike(engines, query.format(selector='{__name__=~"m._total"}'), steps)


TAME = 'kind!~"odd|huge"'


@pytest.mark.parametrize("op", ["sum", "count", "avg", "group"])
@pytest.mark.parametrize(
    "leaf", ["irate({}[5m])", "{}", "max_over_time({}[10m] offset 3m)", "(changes({}[5m]))"]
)
@pytest.mark.parametrize("by", ["", "by (g)", "without (n, kind)"])
def test_aggregations(engines, op, leaf, by):
    """Sums over groups are those of the rows, also of names that are no counter's."""
    selector = f'{{__name__=~"m._total",{TAME}}}'
    assert_alike(engines, f"{op} {by} ({leaf.format(selector)})", GRIDS[0])


def test_aggregations_look_at_values_one_by_one_where_they_are_infinite(engines):
    """Infinities and overflowing sums give what they give from rows."""
    for op in ("sum", "avg"):
        for kind in ("odd", "huge"):
            for leaf in ("{}", "irate({}[5m])", "avg_over_time({}[5m])"):
                query = leaf.format(f'{{kind="{kind}"}}')
                assert_alike(engines, f"{op} by (g) ({query})", GRIDS[0])


def test_times_fixed_in_the_query(engines):
    """A window that `@` fixes is computed at one step, or from samples."""
    end = (T0 + HOUR) // 1000
    steps = GRIDS[0]
    assert_alike(engines, f"avg_over_time(m0_total[20m] @ {end})", steps)
    assert_alike(engines, "sum(idelta(m0_total[20m] @ end()))", steps)
    assert_alike(engines, f"predict_linear(m0_total[20m] @ {end}, 60)", steps, pushed=False)
    assert_alike(engines, "predict_linear(m0_total[20m], time() - 1.7e9)", steps, pushed=False)


def test_what_the_store_does_not_compute(engines):
    """Other functions, subqueries' results and short spans come from samples."""
    selector = 'm0_total{kind="gauge"}'
    for query in (
        f"quantile_over_time(0.7, {selector}[5m])",
        f"rate({selector}[5m])",
        f"timestamp({selector})",
    ):
        assert_alike(engines, query, GRIDS[0], pushed=False)
    short = StepRange.between(T0 + HOUR, T0 + HOUR + 60_000, 15_000)
    assert_alike(engines, f"irate({selector}[5m])", short, pushed=False)


def test_windows_of_prometheus_2_come_from_samples(engines):
    """The store computes windows as Prometheus 3 does."""
    engine = Engine(engines[0]._reader, rules=PROMETHEUS_2)
    before = reads("pushdown")
    engine.range("irate(m0_total[5m])", GRIDS[0], Budget())
    assert reads("pushdown") == before
