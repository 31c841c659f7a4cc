import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.model.stepmatrix import StepRange
from aggregator.profile.batch import LOOKED_UP
from aggregator.profile.format import Bound, Source
from aggregator.profile.load import load_profile
from aggregator.profile.normalize import Normalized, normalize, on_grid
from tests.profile.profiles import (
    ERRORS,
    LATENCY,
    REQUESTS,
    WORKLOADS,
    bound,
    candidate,
    metric,
    row,
)

PROFILE = load_profile("kubernetes").served_by(Source.PROMETHEUS)
EVERYTHING = list(PROFILE.bounds.values())


def stored(
    metrics: Sequence[bytes], values: Sequence[float], of: Sequence[Bound]
) -> dict[str, float]:
    """Return what is stored of an instant answer, by its labels without cluster and region."""
    layout = normalize(metrics, of, "india-1", "india")
    result, present = layout.apply(np.array(values, dtype=np.float64))
    text = {}
    for labels, value, there in zip(layout.labels, result[:, 0], present[:, 0], strict=True):
        assert (labels.pop("cluster"), labels.pop("region")) == ("india-1", "india")
        if there:
            text[" ".join(labels.values())] = float(value)
    return text


def test_labels_are_renamed_and_values_scaled():
    """`map` renames and transforms labels, `scale` turns the value into the canonical unit."""
    answer = [row(0, {"ns": "shop", "status": "404"})]
    assert stored(answer, [8.0], bound(REQUESTS)) == {"fleet:requests_per_second shop 4xx": 4.0}


def test_undeclared_labels_are_dropped_and_empty_ones_left_out():
    """Only the metric's own labels pass; one that a source cannot serve is absent."""
    answer = [row(0, {"status": "200", "pod": "x", "cluster": "other", "region": "moon"})]
    assert stored(answer, [2.0], bound(REQUESTS)) == {"fleet:requests_per_second 2xx": 1.0}


def test_rows_with_one_target_are_added():
    """Requests with codes of one class add up."""
    answer = [
        row(0, {"ns": "shop", "status": "200"}),
        row(0, {"ns": "shop", "status": "500"}),
        row(0, {"ns": "shop", "status": "204"}),
    ]
    assert stored(answer, [2.0, 4.0, 6.0], bound(REQUESTS)) == {
        "fleet:requests_per_second shop 2xx": 4.0,
        "fleet:requests_per_second shop 5xx": 2.0,
    }


def test_seconds_with_one_target_are_not_added():
    """Of latencies that become one series the larger one speaks, and NaN hides no number."""
    answer = [
        row("namespaces", {"namespace": "shop"}),
        row(0, {"service": "shop-web-80@kubernetes"}),
        row(0, {"service": "shop-web-443@kubernetes"}),
        row(0, {"service": "shop-web-9@kubernetes"}),
    ]
    assert stored(answer, [1.0, 0.2, 0.3, math.nan], bound(LATENCY)) == {
        "fleet:latency_seconds web": 0.3
    }


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_earlier_candidate_of_a_union_wins(order: tuple[int, int]):
    """Of two candidates with one label set the earlier one is stored, in any order of rows."""
    rows = [row(0, {"deployment": "web"}), row(1, {"name": "web"})]
    layout = normalize([rows[index] for index in order], bound(WORKLOADS), "c", "r")
    values, _ = layout.apply(np.array([float(index) for index in order]))
    assert values.tolist() == [[0.0]]
    assert layout.rejected == {}


def test_error_ratio_is_derived():
    """The ratio is 0 where there is traffic without errors, and absent without traffic."""
    answer = [
        row(0, {"ns": "busy", "status": "200"}),
        row(0, {"ns": "busy", "status": "503"}),
        row(0, {"ns": "calm", "status": "200"}),
        row(0, {"ns": "idle", "status": "200"}),
        row(0, {"ns": "idle", "status": "500"}),
    ]
    found = stored(answer, [3.0, 1.0, 5.0, 0.0, 0.0], bound(REQUESTS, ERRORS))
    ratios = {key: value for key, value in found.items() if "error" in key}
    assert ratios == {"fleet:error_ratio busy": 0.25, "fleet:error_ratio calm": 0.0}


def test_a_range_answer_is_combined_step_by_step():
    """Rows of a range query are combined on the grid; a step without a sample stays absent."""
    answer = [
        row(0, {"ns": "shop", "status": "200"}),
        row(0, {"ns": "shop", "status": "204"}),
        row(0, {"ns": "shop", "status": "500"}),
    ]
    steps = StepRange(1_000, 500, 3)
    values, present = on_grid(
        np.array([0, 2, 3, 5]),
        np.array([1_000, 1_500, 1_500, 1_250, 1_500]),
        np.array([2.0, 4.0, 6.0, 99.0, 10.0]),
        steps,
    )
    layout = normalize(answer, bound(REQUESTS, ERRORS), "c", "r")
    result, there = layout.apply(values, present)
    assert there.tolist() == [[True, True, False], [False, True, False], [True, True, False]]
    assert result[there].tolist() == [1.0, 5.0, 5.0, 0.0, 0.5]


def test_infinities_are_values():
    """Infinite values are combined as in PromQL, without a warning."""
    answer = [row(0, {"ns": "a", "status": text}) for text in ("200", "204")]
    [value] = stored(answer, [math.inf, -math.inf], bound(REQUESTS)).values()
    assert math.isnan(value)


def test_an_empty_answer_has_no_series():
    """An answer without rows is a layout without series."""
    layout = normalize([], bound(REQUESTS, ERRORS), "c", "r")
    values, present = layout.apply(np.empty(0))
    assert (layout.labels, values.shape, present.shape) == ([], (0, 1), (0, 1))


@pytest.mark.parametrize(
    ("hostile", "reason"),
    [
        (b'{"__rule__":"0","ns":"' + b"x" * 2**20 + b'"}', "label_value_too_long"),
        (b'{"__rule__":"0","ns":7}', "malformed"),
        (b'["__rule__","0"]', "malformed"),
        (b"{", "malformed"),
        (b'{"__rule__":"99"}', "unexpected"),
        (b'{"ns":"no rule"}', "unexpected"),
    ],
)
def test_hostile_rows_are_refused_and_counted(hostile: bytes, reason: str):
    """A row that is not what was asked for is left out, and the others are stored."""
    good = row(0, {"ns": "shop", "status": "200"})
    layout = normalize([hostile, good], bound(REQUESTS), "c", "r")
    assert len(layout.labels) == 1
    assert layout.rows.tolist() == [1]
    assert layout.rejected == {reason: 1}


def test_markup_in_a_value_is_kept_as_text():
    """Quotes, newlines and markup are legal in a label value and stay as they are."""
    text = '"><script>\n\\'
    layout = normalize([row(0, {"ns": text})], bound(REQUESTS), "c", "r")
    assert layout.labels[0]["namespace"] == text


SOURCE_LABELS = sorted(
    {name for item in EVERYTHING for source in item.candidate.map.values() for name in source.names}
    | {label for metric in PROFILE.metrics for label in metric.labels}
    | {"__name__", "__rule__", "cluster", "region", "nodename", "internal_ip", "exported_cluster"}
)
DERIVED = {item.metric.name for item in EVERYTHING if item.candidate.derive is not None}
VALUES = st.one_of(
    st.sampled_from(["", "0", "200", "5", "shop", "a/b/c", "shop-web-80@kubernetes", "n1:9100"]),
    st.sampled_from(["n1", "v1.35.0-eks-1", "fleet:node_ready", 'x",cluster="other', "<b>\n\\"]),
    st.text(max_size=20),
)
LABELS = st.dictionaries(st.sampled_from(SOURCE_LABELS), VALUES, max_size=8)
ANSWERS = st.lists(
    st.tuples(
        st.sampled_from([*map(str, range(len(EVERYTHING))), *LOOKED_UP, *LOOKED_UP, "99", "-1"]),
        LABELS,
    ),
    max_size=40,
)


def normalized(answer: Sequence[tuple[str, dict[str, str]]]) -> Normalized:
    """Return the layout of a drawn answer."""
    rows = [json.dumps({**labels, "__rule__": rule}).encode() for rule, labels in answer]
    return normalize(rows, EVERYTHING, "india-1", "india")


@given(ANSWERS)
@settings(max_examples=200, deadline=None)
def test_series_are_ours_and_distinct(answer: list[tuple[str, dict[str, str]]]):
    """Whatever a cluster answers, series are its own, declared, without empty labels, distinct."""
    layout = normalized(answer)
    by_name = PROFILE.by_name
    for labels, rule in zip(layout.labels, layout.rule.tolist(), strict=True):
        assert (labels["cluster"], labels["region"]) == ("india-1", "india")
        declared = {*by_name[labels["__name__"]].labels, "__name__", "cluster", "region"}
        assert labels.keys() <= declared
        assert all(labels.values())
        assert EVERYTHING[rule].metric.name == labels["__name__"]
    assert len({tuple(sorted(labels.items())) for labels in layout.labels}) == len(layout.labels)
    used = layout.rows.tolist()
    assert len(set(used)) == len(used)
    assert len(used) + sum(layout.rejected.values()) <= len(answer)


@given(ANSWERS, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_order_of_rows_does_not_matter(
    answer: list[tuple[str, dict[str, str]]], random: np.random.Generator
):
    """The same rows in another order are the same series with the same values."""
    numbers = list(range(len(answer)))
    random.shuffle(numbers)

    def values(order: Sequence[int]) -> dict[tuple[tuple[str, str], ...], float]:
        layout = normalized([answer[index] for index in order])
        result, present = layout.apply(np.array([float(index) for index in order]))
        pairs = zip(layout.labels, result[:, 0], present[:, 0], strict=True)
        return {tuple(sorted(labels.items())): value for labels, value, there in pairs if there}

    assert values(numbers) == values(range(len(answer)))


@given(ANSWERS)
@settings(max_examples=100, deadline=None)
def test_what_is_normal_stays_so(answer: list[tuple[str, dict[str, str]]]):
    """Fleet series that are read again under their own labels are the same series."""
    first = normalized(answer)
    recorded = [labels for labels in first.labels if labels["__name__"] not in DERIVED]
    names = sorted({labels["__name__"] for labels in recorded})
    plain = bound(
        *(metric(name[6:], PROFILE.by_name[name].labels, candidate("same")) for name in names)
    )
    rows = [row(names.index(labels["__name__"]), labels) for labels in recorded]
    again = normalize(rows, plain, "india-1", "india")
    assert sorted(map(sorted, map(dict.items, again.labels))) == sorted(
        map(sorted, map(dict.items, recorded))
    )
    assert sorted(again.rows.tolist()) == list(range(len(rows)))


@given(st.lists(st.binary(max_size=60), max_size=10))
def test_no_bytes_do_harm(rows: list[bytes]):
    """Whatever stands where a label set should be is refused and counted."""
    layout = normalize(rows, bound(REQUESTS), "india-1", "india")
    assert len(layout.rows) + sum(layout.rejected.values()) == len(rows)
