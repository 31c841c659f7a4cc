"""A fleet's random series and random scopes over them, as Hypothesis strategies."""

from dataclasses import replace
from functools import cache

import numpy as np
from hypothesis import strategies as st

from aggregator.model.labels import MatchOp
from aggregator.model.samples import SampleBlock
from aggregator.promql.scope import admits, parse_scope
from aggregator.store.memory import MemoryStore
from tests.promql.peer import SPAN_MS, START_MS, Dataset, random_dataset
from tests.promql.queries import queries

REGIONS = {"eu-1": "europe", "eu-2": "europe", "us-1": "us", "in-1": "india"}
_VALUES = {
    "cluster": ("eu-1", "us-1", "eu-.*", "(eu|us)-1", "", "nowhere", ".*"),
    "region": ("europe", "us", "e.*|", "india|us", "", ".+"),
    "job": ("a", "b", "a|b", "", "."),
    "inst": ("1", "[12]", "1|3", ""),
    "x": ("", "y", "."),
    "__name__": ("gauge", "gauge|info", "hist.*", ".+_total", ""),
    "le": ("1", "", "0.*|"),
    "version": ("v1", "v[12]", ""),
}
# What generated queries do not have: selectors by the labels of a scope, and hidden selectors.
ASKED = (
    'gauge{cluster="us-1"}', 'gauge{region!="europe"}', 'absent(gauge{cluster="us-1"})',
    'absent_over_time(sparse{region="us"}[5m])', 'count by (cluster, region) ({__name__=~".+"})',
    "count(gauge) or vector(0)", "scalar(sum(gauge))", "gauge * on (inst) group_left info",
    "gauge * on (job, inst) counter_total", "topk(3, gauge)", "bottomk by (job) (1, wild)",
    "limitk(2, gauge)", "limit_ratio(0.5, gauge)", 'count_values("v", round(sparse))',
    'info(gauge, {version=~".+"})', 'info(gauge, {__name__="info"})',
    "info(rate(counter_total[5m]))", "histogram_quantile(0.9, hist_bucket)",
    "histogram_quantile(0.9, sum by (le) (rate(hist_bucket[5m])))", "quantile(1.5, gauge)",
    "rate(gauge[5m])", "sort(gauge)", 'sort_by_label_desc(gauge, "cluster")', "gauge[2m]",
    "max_over_time(sum(gauge)[5m:30s])", "sum(gauge @ end()) - sum(gauge offset 5m)",
    "timestamp(sparse)", 'label_replace(gauge, "cluster", "us-1", "", "")',
    'label_replace(gauge, "cluster", "", "", "")', "sum without (cluster, region) (gauge)", "1",
    "time()",
    '"us-1"', "gauge{", "{}", "nothing", "group(wild) by (region)", "mad_over_time(gauge[5m])",
)  # fmt: skip


@cache
def everything() -> Dataset:
    """Return random series of which each has a cluster and, mostly, its region."""
    data = Dataset()
    for number, (labels, times, values) in enumerate(random_dataset(7).series):
        for cluster in sorted(REGIONS)[: 1 + (number + number // 4) % 4]:
            place = {"cluster": cluster, "region": REGIONS[cluster]}
            if number % 5 == 3:
                del place["region"]
            data.add({**labels, **place}, times, np.roll(values, len(data.series)))
    labels = {"__name__": "target_info", "job": "a", "instance": "1"}
    for cluster, region in REGIONS.items():
        times, values = data.series[0][1:]
        data.add({**labels, "cluster": cluster, "os": f"linux-{cluster}"}, times, values)
        fleet = {"__name__": "fleet:cluster_cpu_utilisation_ratio", "cluster": cluster}
        data.add({**fleet, "region": region}, times, 1 / (1 + np.abs(values)))
    return data


def stored(numbers) -> MemoryStore:
    """Return a store that holds the series of *numbers*, written in that order, by metric.

    Answers come in the order of ids, and ids in the order in which metrics came first: without
    metric by metric, it would depend on series that a match hides.
    """
    store = MemoryStore()
    series = [everything().series[number] for number in numbers]
    series.sort(key=lambda each: each[0]["__name__"])
    if series:
        # one by one: a batch of several shapes is numbered shape by shape
        ids = np.concatenate([store.series_ids([labels]) for labels, _, _ in series])
        columns = [np.concatenate([each[column] for each in series]) for column in (1, 2)]
        store.write(SampleBlock(np.repeat(ids, [times.size for _, times, _ in series]), *columns))
    return store


@st.composite
def matches(draw):
    """Return a token's match: one to three matchers."""
    names = draw(st.lists(st.sampled_from(sorted(_VALUES)), min_size=1, max_size=3))
    operators = st.sampled_from([op.value for op in MatchOp])
    return ",".join(
        f'{name}{draw(operators)}"{draw(st.sampled_from(_VALUES[name]))}"' for name in names
    )


@st.composite
def fleets(draw):
    """Return the numbers of some of the series, in any order."""
    count = len(everything().series)
    return draw(st.permutations(range(count)))[: draw(st.integers(0, count))]


def within(numbers, match):
    """Return those of *numbers* whose series *match* admits."""
    scope, series = parse_scope(match), everything().series
    return [number for number in numbers if admits(scope, series[number][0])]


@st.composite
def asked(draw):
    """Return a query, generated or one of those above, at times within the data."""
    query = next(queries(draw(st.integers(0, 2**32)), START_MS, SPAN_MS))
    if draw(st.booleans()):
        query = replace(query, text=draw(st.sampled_from(ASKED)))
    return query
