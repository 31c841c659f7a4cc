import promql_parser
import pytest

from aggregator.profile.batch import (
    MAX_EXPRESSIONS,
    MAX_QUERY_BYTES,
    batch_expression,
    batches,
    halves,
    substitute,
    tagged_union,
)
from aggregator.profile.format import Bound, Merge, Source
from aggregator.profile.load import load_profile
from aggregator.profile.probe import bind, probes
from tests.profile.profiles import ERRORS, LATENCY, REQUESTS, WORKLOADS, bound, candidate, metric

PROFILE = load_profile("kubernetes").served_by(Source.PROMETHEUS)


def depth(expr: promql_parser.Expr) -> int:
    """Return how deep `or` nests in *expr*."""
    match expr:
        case promql_parser.ParenExpr():
            return depth(expr.expr)
        case promql_parser.BinaryExpr():
            return 1 + max(depth(expr.lhs), depth(expr.rhs))
        case _:
            return 0


@pytest.mark.parametrize(("selector", "expected"), [("", "x{}"), ('a="b",', 'x{a="b"}')])
def test_selector_and_window_are_filled_in(selector: str, expected: str):
    """`$sel` and `$window` are replaced; a selector may be empty or end with a comma."""
    assert substitute("rate(x{$sel}[$window])", selector, "2m") == f"rate({expected}[2m])"


def test_the_tree_of_or_is_balanced():
    """Fifty expressions nest six deep, not fifty."""
    expr = promql_parser.parse(tagged_union([(str(n), f"m{n}") for n in range(50)]))
    assert depth(expr) == 6


def test_tags_are_positions_and_derived_metrics_are_not_asked():
    """Each row says which entry of the bound list it answers; derived entries ask for nothing."""
    text = batch_expression(bound(ERRORS, REQUESTS), "")
    assert text == 'label_replace(nginx{}, "__rule__", "1", "", "")'


def test_an_empty_answer_is_zero_only_with_presence():
    """Where empty means zero, the exporter's presence alone adds a zero."""
    kills = metric(
        "kills",
        [],
        candidate(),
        candidate("b", presence="own{$sel}"),
        empty_means="zero",
        presence="there{$sel}",
    )
    text = batch_expression(bound(kills), "")
    assert "(a{}) or on () 0 * count(there{})" in text
    assert "(b{}) or on () 0 * count(own{})" in text


def test_namespaces_are_asked_for_where_they_are_needed():
    """Splitting Traefik's names needs the cluster's namespaces, in the same answer."""
    text = batch_expression(bound(LATENCY), 'cluster="c"')
    assert 'max by (namespace) (kube_namespace_created{cluster="c"}), "__rule__", "namesp' in text
    assert "kube_namespace" not in batch_expression(bound(REQUESTS), "")


def test_batches_are_bounded_and_keep_families_together():
    """A batch has at most so many expressions; unions and derived metrics are not torn apart."""
    split = batches(bound(LATENCY, WORKLOADS, REQUESTS, ERRORS), size=2)
    assert [[item.candidate.id for item in batch] for batch in split] == [
        ["deployment", "copy"],
        ["nginx", "derived"],
        ["traefik"],
    ]


@pytest.mark.parametrize("selector", ["", 'cluster="prod",location="europe-west1",project_id="a"'])
def test_batches_fit_any_server(selector: str):
    """Every candidate of the profile at once is asked in queries that no server finds too long."""
    everything = list(PROFILE.bounds.values())
    split = batches(everything, selector=selector)
    for batch in split:
        text = batch_expression(batch, selector)
        assert len(batch) <= MAX_EXPRESSIONS
        assert len(text.encode()) <= MAX_QUERY_BYTES
    assert sorted(item.key for batch in split for item in batch) == sorted(PROFILE.bounds)


def test_what_a_cluster_has_fits_three_requests():
    """A cluster where the best candidate of every metric has data is asked three times."""
    best = [
        Bound(metric, candidate)
        for metric in PROFILE.metrics
        for candidate in metric.candidates
        if candidate is metric.candidates[0] or candidate.merge is Merge.UNION
    ]
    split = batches(best, selector='cluster="prod"')
    assert len(split) <= 3
    lengths = [len(batch_expression(batch, 'cluster="prod"')) for batch in split]
    assert max(lengths) < MAX_QUERY_BYTES


def test_histograms_are_asked_for_last():
    """What reads many series is in batches of its own, after the others."""
    split = batches(list(PROFILE.bounds.values()))
    costly = [any("_bucket" in (i.candidate.expr or "") for i in batch) for batch in split]
    assert costly == sorted(costly)
    assert any(costly)


def test_halving_ends_at_the_expression_to_blame():
    """A failing batch is halved until one expression is left, whichever it is."""
    for batch in batches(bind(PROFILE, probes(PROFILE))):
        asked = [item for item in batch if item.candidate.expr is not None]
        for blamed in asked:
            suspects, rounds = tuple(batch), 0
            while True:
                first, second = halves(suspects)
                if not second:
                    break
                suspects = first if blamed in first else second
                rounds += 1
            assert [item for item in suspects if item.candidate.expr is not None] == [blamed]
            assert rounds <= 10


def test_nothing_to_ask_is_an_error():
    """A batch without expressions cannot be asked."""
    with pytest.raises(ValueError, match="nothing to ask"):
        batch_expression(bound(ERRORS), "")
    assert batches(bound(ERRORS)) == []
