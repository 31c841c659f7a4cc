"""Recorded exchanges of a real Prometheus: same status, same error, same shape."""

import json

import pytest

from aggregator.api.settings import ApiSettings
from tests.api.conftest import Running

# Answers that need no data, or only the series that `replayed` stores.
_ERRORS = (
    "error_bad_data_11000_points", "error_bad_data_bad_regex", "error_bad_data_empty_matchers",
    "error_bad_data_empty_query", "error_bad_data_no_query", "error_bad_data_parse",
    "error_bad_data_parse_utf8", "error_bad_data_range_end_before_start",
    "error_bad_data_range_no_start", "error_bad_data_range_no_step",
    "error_bad_data_range_of_matrix", "error_bad_data_range_zero_step", "error_bad_data_time",
    "error_bad_data_timeout_param", "error_bad_data_unknown_function",
    "error_execution_duplicate_labelset_422", "error_execution_many_to_many_422",
    "error_label_values_bad_name", "error_labels_bad_match", "error_method_not_allowed_405",
    "error_not_found_path_404", "error_series_bad_match", "error_series_no_match",
    "error_timeout_503",
)  # fmt: skip
_SAME = (
    "query_instant_empty_matrix", "query_instant_empty_vector", "query_instant_fractional_time",
    "query_instant_scalar", "query_instant_string", "query_range_empty",
    "query_range_float_step", "query_range_11000_points_boundary",
    "query_range_scalar_to_matrix", "label_values_unknown", "series_empty",
    "query_instant_lookback_delta_ignored",
    "query_instant_post_form_and_url", "query_instant_timeout_param", "query_instant_vector",
    "query_instant_label_escapes", "query_instant_special_values",
)  # fmt: skip
# Prometheus 3 and later word these differently, or we say more; the class is the same.
_OWN_WORDS = frozenset({"error_bad_data_bad_regex", "error_timeout_503"})
# One sample, one minute before it was asked for the value of everything.
_SEEDS = ("query_instant_vector", "query_instant_label_escapes", "query_instant_special_values")


def _load(shared_dir, name):
    return json.loads((shared_dir / "contracts/prometheus" / f"{name}.json").read_text())


def _replay(api, exchange):
    request = exchange["request"]
    return api.session.request(
        request["method"],
        f"{api.url}/prometheus{request['path']}",
        params=request["query"],
        data=request["body"],
        timeout=30,
    )


@pytest.fixture(scope="module")
def replayed(shared_dir):
    """Return the API over the series that the recordings name."""
    with Running(ApiSettings(listen="127.0.0.1:0")) as api:
        _seed(api, shared_dir)
        yield api


def _seed(api, shared_dir):
    seen = set()
    for name in _SEEDS:
        data = _load(shared_dir, name)["response"]["body"]["data"]
        for series in data["result"]:
            labels = tuple(series["metric"].items())
            if "__name__" in series["metric"] and labels not in seen:
                seen.add(labels)
                api.seed(series["metric"], [(-60, float(series["value"][1]))])
    for method in ("GET", "POST"):
        labels = {"__name__": "http_requests_total", "app": "batch", "code": "200"}
        api.seed({**labels, "method": method}, [(0, 1.0)])
        api.seed({**labels, "method": method, "code": "500"}, [(0, 1.0)])
    for number in range(20):
        samples = [(second, 1.0) for second in range(-60_000, -20_000, 15)]
        api.seed({"__name__": "node_load1", "instance": str(number)}, samples)


@pytest.mark.parametrize("name", _ERRORS)
def test_errors(replayed, shared_dir, name):
    """An error has the recorded status and class, and the recorded words unless they are ours."""
    exchange = _load(shared_dir, name)
    answer = _replay(replayed, exchange)
    recorded = exchange["response"]
    assert answer.status_code == recorded["status"], answer.text
    assert answer.headers["content-type"] == recorded["headers"]["content-type"]
    if recorded["body_encoding"] == "text":
        assert answer.text == recorded["body"]
        return
    body = answer.json()
    assert body.keys() == recorded["body"].keys()
    assert body["errorType"] == recorded["body"]["errorType"]
    if name not in _OWN_WORDS:
        assert body["error"][:40] == recorded["body"]["error"][:40]


@pytest.mark.parametrize("name", _SAME)
def test_answers(replayed, shared_dir, name):
    """An answer is the recorded one, point for point."""
    exchange = _load(shared_dir, name)
    answer = _replay(replayed, exchange)
    assert answer.status_code == 200, answer.text
    body, recorded = answer.json(), exchange["response"]["body"]
    for data in (body["data"], recorded["data"]):
        if isinstance(data, dict) and data["resultType"] == "vector":
            data["result"].sort(key=lambda series: sorted(series["metric"].items()))
    body.pop("infos", None)
    assert body == recorded
