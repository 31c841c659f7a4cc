"""Whatever is sent to a running server: no internal error, no hang, memory within its budget.

`AGGREGATOR_FUZZ=20` tries 20 times as much as by default.
"""

import os
import sys
import time

import psutil
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.servers import free_port, running

TIMES = int(os.environ.get("AGGREGATOR_FUZZ", "1"))
API = "/prometheus/api/v1"
# A query may take 5 s; the machine may be busy with other things.
LONGEST_SECONDS = 20.0
MAX_RSS_BYTES = 900 * 2**20

_THOROUGH = settings(
    deadline=None,
    database=None,
    derandomize=True,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Return a server process of its own, over the embedded store."""
    directory = tmp_path_factory.mktemp("served")
    port = free_port()
    command = [sys.executable, "-m", "tests.api.served", str(port), str(directory / "data")]
    with running(command, f"http://127.0.0.1:{port}", "/readyz", directory) as server:
        yield server


# -- random queries with random parameters

_METRICS = st.sampled_from(("gauge", "counter_total", "wild", "hist_bucket", '{"http.requests"}'))
_DURATIONS = st.sampled_from(("1ms", "15s", "5m", "1h", "90m", "1w", "0s", "292y", "1000000"))
_NUMBERS = st.sampled_from(("0", "1", "-1", "0.5", "1e300", "NaN", "Inf", "-Inf", "1e-320", "0x1F"))
_LABELS = st.sampled_from(("", "job", "job, inst", "le", "größe", '"größe"', "__name__"))
_MATCHERS = st.sampled_from(
    ("", '{job="a"}', '{job=~"a|b"}', '{inst!~"[1-3]"}', '{nothing=""}', '{inst=~"(.*)*"}')
)
_AFTER = st.sampled_from(
    ("", " offset 1m", " offset -1h", " @ 0", " @ start()", " @ end() offset 5m", " @ 1e15")
)
_RANGED = st.sampled_from(
    ("rate", "irate", "delta", "resets", "stddev_over_time", "mad_over_time", "absent_over_time",
     "sum_over_time", "deriv", "first_over_time", "ts_of_max_over_time", "last_over_time")
)  # fmt: skip
_PLAIN = st.sampled_from(
    ("abs", "ln", "sort", "sort_desc", "timestamp", "absent", "scalar", "day_of_week", "sgn", "-",
     "sum", "avg", "stddev", "count", "group", "vector")
)  # fmt: skip
_OPERATORS = st.sampled_from(
    ("+", "-", "*", "/", "%", "^", "atan2", "==", "> bool", "and", "or", "unless",
     "* on (job)", "/ ignoring (inst) group_left ()", "+ on (job, inst) group_right (le)")
)  # fmt: skip


def _larger(inner):
    return st.one_of(
        st.builds("{}({})".format, _PLAIN, inner),
        st.builds("({}) {} ({})".format, inner, _OPERATORS, inner),
        st.builds("{} by ({}) ({})".format, st.sampled_from(("sum", "max")), _LABELS, inner),
        st.builds("topk without ({}) ({}, {})".format, _LABELS, _NUMBERS, inner),
        st.builds("quantile({}, {})".format, _NUMBERS, inner),
        st.builds("limit_ratio({}, {})".format, _NUMBERS, inner),
        st.builds('count_values("größe", {})'.format, inner),
        st.builds("histogram_quantile({}, {})".format, _NUMBERS, inner),
        st.builds('label_replace({}, "job", "$1-x", "inst", "(.*)")'.format, inner),
        st.builds("{}(({})[{}:{}])".format, _RANGED, inner, _DURATIONS, _DURATIONS),
        st.builds("quantile_over_time({}, ({})[1h:])".format, _NUMBERS, inner),
    )


_LEAVES = st.one_of(
    st.builds("{}{}{}".format, _METRICS, _MATCHERS, _AFTER),
    st.builds("{}({}{}[{}]{})".format, _RANGED, _METRICS, _MATCHERS, _DURATIONS, _AFTER),
    _NUMBERS,
    st.just("time()"),
    st.just('"text"'),
)
_SOUND = st.recursive(_LEAVES, _larger, max_leaves=6)


@st.composite
def _broken(draw):
    """Draw a query with some characters changed."""
    query = draw(_SOUND)
    place = draw(st.integers(0, len(query)))
    return query[:place] + draw(st.text(max_size=4)) + query[place + draw(st.integers(0, 5)) :]


_QUERIES = st.one_of(_SOUND, _SOUND, _SOUND, _broken(), st.text(max_size=30))
_NOW = int(time.time())
_MOMENTS = st.one_of(
    st.integers(_NOW - 7_200, _NOW + 600).map(str),
    st.sampled_from(("", "0", "-1", "1795328222000", "9e15", "1e400", "NaN", "2026-11-22T06:17:02Z",
                     "-292273086-05-16T16:47:06Z", "0x10", "1,5", "\x00")),
)  # fmt: skip
_STEPS = st.sampled_from(("15", "60", "1h", "0.001", "0", "-5", "1e12", "", "x", "7.5", "1d1ms"))
_WHOLE = st.sampled_from(("", "0", "1", "7", "-1", "99999999999999999999", "1.5", "²"))


def _optional(strategy):
    return st.one_of(st.just(""), strategy)


_OPTIONS = {
    "limit": _optional(_WHOLE),
    "timeout": _optional(st.sampled_from(("1s", "0", "0.01", "-1", "1y", "x", "1e300"))),
    "lookback_delta": _optional(_DURATIONS),
    "stats": st.sampled_from(("", "", "all", "1")),
}
_SPAN = {"start": _MOMENTS, "end": _MOMENTS}
_CATALOG = {"match[]": st.lists(_QUERIES, max_size=3), **_SPAN, "limit": _WHOLE}
_PATHS = {
    "query": {"query": _QUERIES, "time": _MOMENTS, **_OPTIONS},
    "query_range": {"query": _QUERIES, **_SPAN, "step": _STEPS, **_OPTIONS},
    "series": _CATALOG,
    "labels": _CATALOG,
    "label/job/values": _CATALOG,
    "label/U__gr_f6__df_e/values": _CATALOG,
    "metadata": {"metric": _METRICS, "limit": _WHOLE, "limit_per_metric": _WHOLE},
    "status/tsdb": {"limit": _WHOLE},
    "format_query": {"query": _QUERIES},
    "parse_query": {"query": _QUERIES},
    "query_exemplars": {"query": _QUERIES, **_SPAN},
    "rules": {"type": st.text(max_size=6), "match[]": st.lists(_QUERIES, max_size=2)},
}
_REQUESTS = st.sampled_from(sorted(_PATHS)).flatmap(
    lambda path: st.tuples(st.just(path), st.fixed_dictionaries(_PATHS[path]), st.booleans())
)


def _rss(server) -> int:
    return psutil.Process(server.process.pid).memory_info().rss


def test_random_queries(served):
    """Every answer is one of Prometheus's, in time, whatever the query and its parameters."""
    session = requests.Session()
    session.trust_env = False

    @seed(1)
    @settings(_THOROUGH, max_examples=250 * TIMES)
    @given(_REQUESTS)
    def ask(request):
        path, parameters, post = request
        began = time.monotonic()
        sent = {"data" if post else "params": parameters}
        url = f"{served.url}{API}/{path}"
        answer = session.request("POST" if post else "GET", url, timeout=60, **sent)
        assert time.monotonic() - began < LONGEST_SECONDS
        assert answer.status_code in (200, 400, 422, 503), answer.text
        body = answer.json()
        assert body["status"] == ("success" if answer.status_code == 200 else "error")
        assert ("data" in body) is (answer.status_code == 200)

    with session:
        ask()
    assert _rss(served) < MAX_RSS_BYTES


def test_our_openapi(served):
    """Requests made from our own description get answers that it describes."""
    document = requests.get(f"{served.url}/openapi.json", timeout=10).json()
    schema = schemathesis.openapi.from_dict(document)
    checks = [
        not_a_server_error,
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    ]
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 20
    for operation in operations:

        @seed(2)
        @settings(_THOROUGH, max_examples=6 * TIMES)
        @given(case=operation.as_strategy())
        def ask(case):
            answer = case.call(base_url=served.url, timeout=60)
            assert answer.elapsed < LONGEST_SECONDS
            case.validate_response(answer, checks=checks)

        ask()
    assert _rss(served) < MAX_RSS_BYTES


def test_the_server_is_well_afterwards(served):
    """After all that the server still answers correctly."""
    answer = requests.get(f"{served.url}{API}/query", {"query": "count(gauge)"}, timeout=10)
    assert answer.json()["status"] == "success"
