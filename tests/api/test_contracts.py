"""Recorded exchanges of a real Prometheus: same status, same error, same shape."""

from collections.abc import Iterable
from typing import Any

import pytest

from aggregator.api.settings import ApiSettings
from tests.api.conftest import Running
from tests.api.recorded import exchanges, fill, reports

# What is not replayed, by the beginning of its name, and why.
_APART = {
    "admin_": "administration of a TSDB: there is no such path here",
    "alertmanagers": "the notifier has receivers, not Alertmanagers",
    "error_federate_bad_match": "there is no federation endpoint",
    "federate": "there is no federation endpoint",
    "healthy_ok": "health is at /healthz",
    "ready_ok": "readiness is at /readyz",
    "lifecycle_disabled_error": "configuration is reloaded by a signal or a changed file",
    "reload_ok": "configuration is reloaded by a signal or a changed file",
    "ooo_window_1": "a remote write", "ooo_window_2": "a remote write",
    "ooo_window_3": "a remote write",
    "remote_read": "there is no remote read",
    "remote_write_readback": "reads what remote writes stored, bad names included",
    "remote_write_far_future_1": "reads a server with other targets",
    "remote_write_far_future_4": "reads a server that a write from the future broke",
    "remote_write": "a remote write",
    "stale_7_federate": "there is no federation endpoint",
    "status_config": "holds secrets' places; `aggregator config` shows the configuration",
    "status_flags": "there are no flags",
    "status_runtimeinfo": "describes a Go runtime",
    "status_walreplay": "there is no write-ahead log",
    "targets": "there are no scrape targets; /api/v1/clusters says what is collected",
}  # fmt: skip
# Prometheus 3 answers these otherwise than the recorded 2.42 did.
_NEWER = {
    "series_limit_ignored": "`limit` is honoured since 2.51",
    "query_instant_lookback_delta_ignored": "`lookback_delta` is honoured since 2.43",
    "error_execution_invalid_quantile_label_422": "any UTF-8 text is a label name since 3.0",
    "rules_alert_only": "groups without a rule that is wanted are left out since 3.0",
}
# Same status and class, but we say more, or Go's own words.
_OWN_WORDS = frozenset(
    {"error_bad_data_bad_regex", "error_timeout_503", "error_execution_max_samples_422"}
)
# Replayed with a limit, or with data, of their own.
_OF_A_LIMIT = frozenset({"error_execution_max_samples_422", "error_timeout_503"})
# The answer is the recorded one, point for point.
_EXACT = frozenset({
    "format_query", "label_values_job", "label_values_match", "label_values_unknown",
    "labels_match_range", "labels_post", "metadata_none", "metadata_one",
    "query_exemplars_empty", "query_instant_empty_matrix", "query_instant_empty_vector",
    "query_instant_fractional_time", "query_instant_label_escapes",
    "query_instant_matrix_range_selector", "query_instant_post_form_and_url",
    "query_instant_scalar", "query_instant_special_values", "query_instant_string",
    "query_instant_timeout_param", "query_instant_vector", "query_range_11000_points_boundary",
    "query_range_empty", "query_range_float_step", "query_range_matrix",
    "query_range_scalar_to_matrix", "query_range_start_eq_end", "series", "series_empty",
    "series_post", "stale_2_scrape_fails", "stale_3_target_removed",
    "stale_9_remote_written_marker",
})  # fmt: skip
# What we add to an answer.
_MORE = frozenset({"infos", "seriesCountByCluster", "totalQueryableSamplesPerStep"})


@pytest.fixture(scope="module")
def recorded(shared_dir):
    """Return every recorded exchange."""
    return exchanges(shared_dir)


@pytest.fixture(scope="module")
def replayed(recorded, tmp_path_factory):
    """Return the API over data like the recorded."""
    with Running(ApiSettings(listen="127.0.0.1:0")) as api:
        fill(api, recorded)
        api.rules.extend(reports(recorded, tmp_path_factory.mktemp("rules")))
        yield api


def _replay(api, exchange):
    """Ask as was asked, at the time that it was asked."""
    request, body = exchange.request, exchange.body
    data = body.get("data") if isinstance(body, dict) else None
    points = data.get("result", []) if isinstance(data, dict) else []
    vector = points and isinstance(points[0], dict) and "value" in points[0]
    asked_s = points[0]["value"][0] if vector else 1_795_328_241.2
    api.now_ms = round(asked_s * 1000)
    api.warnings[:] = ["cluster x is late"] if "warnings" in (body or ()) else []
    return api.session.request(
        request["method"],
        f"{api.url}/prometheus{request['path']}",
        params=request["query"],
        data=request["body"],
        timeout=30,
    )


def _apart(name: str) -> bool:
    return name in _NEWER or name.startswith(tuple(_APART))


def _shape(value: Any) -> Any:
    """Return keys and types, recursively; a list has the shapes that occur in it."""
    match value:
        case dict():
            return frozenset((key, _shape(item)) for key, item in value.items() if key not in _MORE)
        case list():
            return ("list", frozenset(map(_shape, value)))
        case bool() | str() | None:
            return type(value).__name__
        case _:
            return "number"


def _names(exchanges_by_name: Iterable[str], *, errors: bool) -> list[str]:
    return [
        name
        for name in exchanges_by_name
        if not _apart(name) and name.startswith("error_") is errors
    ]


def _sorted(data: Any) -> Any:
    """Return *data* with its series in one order; Prometheus promises none."""
    if isinstance(data, dict) and data.get("resultType") in ("vector", "matrix"):
        data["result"].sort(key=lambda series: sorted(series["metric"].items()))
    return data


def test_answers(replayed, recorded, subtests):
    """An answer has the recorded keys and types at every depth, and the same values where it may.

    What is compared for its shape alone depends on more data than the recording shows.
    """
    for name in _names(recorded, errors=False):
        with subtests.test(name):
            exchange = recorded[name]
            answer = _replay(replayed, exchange)
            assert answer.status_code == exchange.response["status"], answer.text
            assert answer.headers["content-type"] == exchange.response["headers"]["content-type"]
            body = answer.json()
            assert _shape(body) == _shape(exchange.body)
            if name in _EXACT:
                assert _sorted(body["data"]) == _sorted(exchange.body["data"])


def test_errors(replayed, recorded, subtests):
    """An error has the recorded status and class, and the recorded words unless they are ours."""
    for name in _names(recorded, errors=True):
        if name in _OF_A_LIMIT:
            continue
        with subtests.test(name):
            exchange = recorded[name]
            answer = _replay(replayed, exchange)
            _check_error(answer, exchange)


def test_stats(replayed, recorded):
    """As many samples are looked at as were."""
    for name in ("query_instant_stats_all", "query_range_stats_all"):
        stats = _replay(replayed, recorded[name]).json()["data"]["stats"]
        said = recorded[name].body["data"]["stats"]
        assert stats["samples"]["totalQueryableSamples"] == said["samples"]["totalQueryableSamples"]
        per_step = stats["samples"]["totalQueryableSamplesPerStep"]
        assert sum(count for _, count in per_step) == said["samples"]["totalQueryableSamples"]


def _check_error(answer, exchange):
    said = exchange.response
    assert answer.status_code == said["status"], answer.text
    assert answer.headers["content-type"] == said["headers"]["content-type"]
    if isinstance(exchange.body, str):
        assert answer.text == exchange.body
        return
    body = answer.json()
    assert body.keys() == exchange.body.keys()
    assert body["errorType"] == exchange.body["errorType"]
    if exchange.name not in _OWN_WORDS:
        assert body["error"][:40] == exchange.body["error"][:40]


def test_sample_limit(recorded):
    """A query over its limit of samples fails as the recorded one did."""
    with Running(
        ApiSettings.model_validate({"listen": "127.0.0.1:0", "query": {"samples": 5}})
    ) as api:
        fill(api, recorded)
        exchange = recorded["error_execution_max_samples_422"]
        _check_error(_replay(api, exchange), exchange)


def test_timeout(recorded):
    """A query that takes longer than its `timeout` fails as the recorded one did."""
    exchange = recorded["error_timeout_503"]
    with Running(ApiSettings(listen="127.0.0.1:0")) as api:
        for number in range(300):
            labels = {"__name__": "node_load1", "instance": str(number)}
            api.seed(labels, [(second, 1.0) for second in range(-30_000, -20_000, 60)])
        _check_error(_replay(api, exchange), exchange)


def test_nothing_is_forgotten(recorded):
    """Every exchange is replayed or has a reason not to be; every reason is of an exchange."""
    for reasons in (_APART, _NEWER):
        unused = [each for each in reasons if not any(n.startswith(each) for n in recorded)]
        assert not unused
    assert not {name for name in _EXACT | _OWN_WORDS if name not in recorded or _apart(name)}
    assert len(_names(recorded, errors=False)) >= 50
    assert len(_names(recorded, errors=True)) >= 28
