"""The page of typical mistakes: each one is made here, and each way out is taken.

`python -m tests.promql.test_mistakes` writes docs/promql-mistakes.md anew.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from aggregator.errors import QueryError
from aggregator.model.budget import Budget
from aggregator.model.samples import SampleBlock
from aggregator.model.stepmatrix import StepRange
from aggregator.promql.engine import Engine
from aggregator.promql.result import QueryResult
from aggregator.store.memory import MemoryStore

PAGE = Path(__file__).resolve().parents[2] / "docs" / "promql-mistakes.md"
END_MS = 1_795_328_222_000
_HEAD = """# Typical mistakes in queries

What the mistake looks like, what the answer says, and what to write instead. A place such as `1:5`
is line and column in the query. Everything here is run by a test, so the messages are those you
get; written by `python -m tests.promql.test_mistakes`.

A query that is wrong answers 400 (`bad_data`), one that cannot be carried out 422 (`execution`),
one that takes too long 503 (`timeout`). A warning or an info comes with a result: do look at them.
"""


@dataclass(frozen=True)
class Mistake:
    """A query that fails or is annotated, one that does what was meant, and why."""

    title: str
    query: str
    instead: str
    why: str


MISTAKES = (
    Mistake("A rate of an instant vector", "rate(http_requests_total)",
            "rate(http_requests_total[5m])",
            "`rate` looks at a window of samples; say how long it is."),
    Mistake("A rate of a sum", "rate(sum(http_requests_total)[5m])",
            "sum(rate(http_requests_total[5m]))",
            "Rate first, then sum: a sum hides the resets of single counters."),
    Mistake("A sum of a range", "sum(up[5m])", "sum(avg_over_time(up[5m]))",
            "Aggregate over time with an `…_over_time` function, then over series with `sum`."),
    Mistake("A rate of a gauge", "rate(fleet:node_ready[5m])", "delta(fleet:node_ready[5m])",
            "`rate` takes every fall for a restart of a counter. Use `delta` or `deriv`."),
    Mistake("A value without quotes", "up{cluster=eu-1}", 'up{cluster="eu-1"}',
            "Label values are strings."),
    Mistake("Two equals signs in a matcher", 'up{cluster=="eu-1"}', 'up{cluster="eu-1"}',
            "Matchers compare with `=`, `!=`, `=~` and `!~`; `==` compares values."),
    Mistake("No comma between matchers", 'up{cluster="eu-1" region="europe"}',
            'up{cluster="eu-1", region="europe"}', "Matchers are separated by commas."),
    Mistake("An unfinished regular expression", 'up{cluster=~"eu-("}', 'up{cluster=~"eu-.+"}',
            "Regular expressions are RE2's and match the whole value."),
    Mistake("A selector that matches everything", '{cluster=~".*"}', '{cluster=~".+"}',
            "At least one matcher must not match the empty value, or all series would be read."),
    Mistake("A bracket that does not end", "sum(rate(http_requests_total[5m])",
            "sum(rate(http_requests_total[5m]))", "The place is where the end was expected."),
    Mistake("Labels without brackets", "sum(up) by region", "sum by (region) (up)",
            "The labels of `by` and `without` are always in brackets."),
    Mistake("`by` without an aggregation", "fleet:node_ready by (region)",
            "sum by (region) (fleet:node_ready)", "`by` belongs to an aggregation."),
    Mistake("A comparison of two numbers", "1 == 1", "1 == bool 1",
            "Between scalars there is nothing to filter; `bool` answers 0 or 1."),
    Mistake("`bool` before the operator", "up bool == 1", "up == bool 1",
            "`bool` follows the operator it changes."),
    Mistake("A number beside a set operator", "up and 1", "up and on () vector(1)",
            "`and`, `or` and `unless` join vectors; `vector` makes one of a number."),
    Mistake("Arguments in the wrong order", "histogram_quantile(x_bucket, 0.9)",
            "histogram_quantile(0.9, sum by (le) (rate(x_bucket[5m])))",
            "The quantile comes first."),
    Mistake("A missing argument", "topk(up)", "topk(3, up)",
            "`topk`, `bottomk`, `quantile`, `limitk` and `count_values` take a parameter first."),
    Mistake("A quantile in percent", "quantile(95, up)", "quantile(0.95, up)",
            "Quantiles are from 0 to 1; above is +Inf, below -Inf."),
    Mistake("An unknown function", "average_over_time(up[5m])", "avg_over_time(up[5m])",
            "The names are Prometheus's."),
    Mistake("Several series on both sides", "up * on (cluster) kube_node_info",
            "up * on (cluster) group_left count by (cluster) (kube_node_info)",
            "On one side each match group may have one series: aggregate it to one, or match by "
            "more labels."),
    Mistake("Many series to one", "http_requests_total / on (cluster) fleet:cluster_nodes",
            "http_requests_total / on (cluster) group_left fleet:cluster_nodes",
            "`group_left` says that several series of the left side may match one of the right."),
    Mistake("Labels that become equal", 'label_replace(up, "instance", "", "", "")',
            'sum without (instance) (label_replace(up, "node", "$1", "instance", "(.+)"))',
            "Series must differ after a label was changed."),
    Mistake("A range vector in arithmetic", "http_requests_total[5m] / 2",
            "increase(http_requests_total[5m]) / 2", "Operators work on instant vectors."),
    Mistake("A subquery without a colon", "max_over_time(rate(http_requests_total[5m])[1h])",
            "max_over_time(rate(http_requests_total[5m])[1h:])",
            "The window of an expression has a colon, and after it the step if you like."),
    Mistake("A dot in a name", "http.requests", '{"http.requests"}',
            "Names other than letters, digits, `_` and `:` are written in quotes, in braces."),
)  # fmt: skip


def _series():
    """Yield label sets that the queries read."""
    for cluster in ("eu-1", "us-1"):
        place = {"cluster": cluster, "region": "europe" if cluster == "eu-1" else "us"}
        for number in ("a", "b"):
            yield {"__name__": "up", "instance": number, **place}
            yield {"__name__": "kube_node_info", "node": number, **place}
            yield {"__name__": "fleet:node_ready", "node": number, **place}
        for code in ("200", "500"):
            yield {"__name__": "http_requests_total", "code": code, **place}
        for le in ("0.1", "+Inf"):
            yield {"__name__": "x_bucket", "le": le, **place}
        yield {"__name__": "fleet:cluster_nodes", **place}
    yield {"__name__": "http.requests"}


def _engine() -> Engine:
    store = MemoryStore()
    times = END_MS - 15_000 * np.arange(100)[::-1]
    for labels in _series():
        [one] = store.series_ids([labels])
        store.write(SampleBlock(np.full(100, one), times, np.arange(100.0)))
    return Engine(store)


def _asked(engine: Engine, query: str) -> QueryResult:
    return engine.range(query, StepRange.between(END_MS - 60_000, END_MS, 30_000), Budget())


def _said(engine: Engine, query: str) -> str:
    """Return what an answer says of *query* beside its result, nothing if all is well."""
    try:
        result = _asked(engine, query)
    except QueryError as error:
        return str(error)
    return "\n".join((*result.warnings, *result.infos))


def page() -> str:
    """Return the page."""
    engine = _engine()
    parts = [_HEAD]
    for number, each in enumerate(MISTAKES, 1):
        parts.append(
            f"\n## {number}. {each.title}\n\n"
            f"```promql\n{each.query}\n```\n\n"
            f"```text\n{_said(engine, each.query)}\n```\n\n"
            f"{each.why} Instead:\n\n"
            f"```promql\n{each.instead}\n```\n"
        )
    return "".join(parts)


def test_page() -> None:
    """The page says what the engine says."""
    assert PAGE.read_text() == page(), "run: python -m tests.promql.test_mistakes"
    assert len(MISTAKES) >= 20


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.title)
def test_ways_out(mistake: Mistake) -> None:
    """Each mistake has a message, and what is written instead has a result and none."""
    engine = _engine()
    assert _said(engine, mistake.query)
    assert _said(engine, mistake.instead) == ""
    result = _asked(engine, mistake.instead)
    assert result.matrix is not None
    assert result.matrix.present.any()


if __name__ == "__main__":
    PAGE.write_text(page())
