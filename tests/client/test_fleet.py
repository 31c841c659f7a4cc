"""The Python client, against the real API and against scripted servers."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
import warnings
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest

from aggregator.client import FleetClient, FleetInfo, FleetWarning
from aggregator.errors import (
    ConfigError,
    QueryExecutionError,
    QuerySyntaxError,
    QueryTimeoutError,
    ServerError,
)
from tests.api.conftest import NOW_MS
from tests.servers import Response, scripted

# One series at every step, the other at every second one.
GAPS = 'load{cluster="eu-1"} or load and on() (vector(time() % 120) < 60)'
NOW = datetime.fromtimestamp(NOW_MS / 1000, UTC)


@pytest.fixture
def fleet(api):
    """Return a client of a running API with two series."""
    for cluster, value in (("eu-1", 1.5), ("us-1", 0.0)):
        samples = [(second, value) for second in range(-600, 1, 30)]
        api.seed({"__name__": "load", "cluster": cluster}, samples)
    with FleetClient(api.url) as client:
        yield client


def test_query(fleet):
    """An instant query is a row a series, with time as index and labels as columns."""
    frame = fleet.query("load", time=NOW).sort_values("cluster")
    assert list(frame.columns) == ["__name__", "cluster", "value"]
    assert frame["value"].dtype == "float64"
    assert frame["value"].tolist() == [1.5, 0.0]
    assert frame.index.name == "time"
    assert frame.index[0] == NOW
    assert str(frame.index.tz) == "UTC"
    assert frame.attrs == {"warnings": [], "infos": []}


@pytest.mark.parametrize(
    ("expression", "values"),
    [("1 / 0", [float("inf")]), ('"text"', ["text"]), ("nothing", []), ("load[1m] > 1", None)],
)
def test_other_results(fleet, expression, values):
    """Scalars, strings and empty results are frames as well; an error is an exception."""
    if values is None:
        with pytest.raises(QuerySyntaxError):
            fleet.query(expression, time=NOW)
    else:
        assert fleet.query(expression, time=NOW)["value"].tolist() == values


def test_range_selector(fleet):
    """A range selector is a row a sample, each with its own time."""
    frame = fleet.query('load{cluster="eu-1"}[1m]', time=NOW)
    assert frame.index.tolist() == [NOW - timedelta(seconds=30), NOW]


def test_query_range(fleet):
    """A range query is a row a step and a column a series, named by its labels."""
    frame = fleet.query_range("load", range="2m", end=NOW, step="60s")
    assert frame.index.tolist() == [NOW - timedelta(seconds=second) for second in (120, 60, 0)]
    assert frame.columns.names == ["__name__", "cluster"]
    assert frame["load", "eu-1"].tolist() == [1.5] * 3
    gap = fleet.query_range(GAPS, range="5m", end=NOW, step=60)
    assert gap.isna().to_numpy().any()
    assert fleet.query_range("1", range="1m", end=NOW)["value"].tolist() == [1.0] * 3
    assert fleet.query_range("nothing", end=NOW).empty


@pytest.mark.parametrize(
    "moment",
    [NOW, NOW.replace(tzinfo=None), NOW.astimezone(timezone(timedelta(hours=5.5))),
     NOW.isoformat(), f"{NOW:%Y-%m-%d %H:%M:%S}", pd.Timestamp(NOW), np.datetime64(NOW_MS, "ms")],
)  # fmt: skip
def test_moments(fleet, moment):
    """A time is a datetime or a text; without a zone it is UTC, whatever the machine's zone."""
    assert fleet.query("time()", time=moment)["value"].tolist() == [NOW_MS / 1000]
    assert fleet.query_range("1", start=moment, end=moment).index.tolist() == [NOW]


@pytest.mark.parametrize("span", ["1h30m", timedelta(minutes=90), 5_400, 5_400.0])
def test_spans(fleet, span):
    """A span is a text as in PromQL, a timedelta, or seconds."""
    frame = fleet.query_range("1", range=span, end=NOW, step=span)
    assert frame.index.tolist() == [NOW - timedelta(minutes=90), NOW]


@pytest.mark.parametrize(
    ("span", "step", "points"), [("1h", 30, 121), ("30000s", 30, 1001), ("7d", 605, 1000)]
)
def test_default_step(fleet, span, step, points):
    """The step is the thousandth part of the range in whole seconds, 30 s at least."""
    frame = fleet.query_range("1", range=span, end=NOW)
    assert len(frame) == points
    assert frame.index[1] - frame.index[0] == timedelta(seconds=step)


def test_ranges_line_up(fleet):
    """Ranges up to now end at a multiple of the step, so that their frames can be joined."""
    first, second = (fleet.query_range("1", range="1h", step="10m") for _ in range(2))
    for frame in (first, second):
        assert (frame.index.astype("int64") % 600_000 == 0).all()
        assert len(frame) == 7
        assert timedelta(0) <= pd.Timestamp.now("UTC") - frame.index[-1] < timedelta(minutes=11)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"range": "1h", "start": NOW}, "range or start"), ({"range": "soon"}, "'soon' is not a dur"),
     ({"step": 0}, "step is 0"), ({"step": "-1m"}, "'-1m' is not"), ({"range": ""}, "'' is not"),
     ({"end": "never"}, "never")],
)  # fmt: skip
def test_wrong_arguments(fleet, wrong, message):
    """What is no time or no span is an error before anything is asked."""
    with pytest.raises(ValueError, match=message):
        fleet.query_range("1", **wrong)


def test_large_answers(fleet):
    """A million points are a frame of the right shape and sum."""
    numbers = " or ".join(f'label_replace(vector({n}), "n", "{n}", "", "")' for n in range(100))
    frame = fleet.query_range(numbers, range="10000s", end=NOW, step=1)
    assert frame.shape == (10_001, 100)
    assert frame.sum().sum() == 10_001 * 99 * 50


def test_series(fleet):
    """Series are a row each, labels as columns."""
    frame = fleet.series("load")
    assert frame["cluster"].tolist() == ["eu-1", "us-1"]
    later = fleet.series(["load"], start=NOW + timedelta(days=30), end=NOW + timedelta(days=31))
    assert later.empty


def test_clusters():
    """Clusters are indexed by name; what is not known yet is missing."""
    clusters = [
        {"cluster": "eu-1", "region": "eu", "state": "ok", "data_until": 1000.5,
         "age_seconds": 3.0, "error": ""},
        {"cluster": "us-1", "region": "us", "state": "never", "data_until": None,
         "age_seconds": None, "error": "refused"},
    ]  # fmt: skip
    body = json.dumps({"clusters": clusters, "sources": clusters}).encode()
    with scripted(lambda _: Response(body=body)) as server, FleetClient(server.url) as client:
        frame = client.clusters()
    assert frame.loc["eu-1", "data_until"] == pd.Timestamp(1000.5, unit="s", tz="UTC")
    assert frame.loc[["us-1"], ["data_until", "age_seconds"]].isna().to_numpy().all()


def test_warnings(api):
    """What an answer warns of is a Python warning and stays with the frame."""
    api.warnings.append("cluster us-1 (us): no data")
    with FleetClient(api.url) as client, pytest.warns(FleetWarning, match="us-1"):
        frame = client.query("up")
    assert frame.attrs == {"warnings": ["cluster us-1 (us): no data"], "infos": []}


def test_infos(fleet):
    """What may not be meant is a kind of warning of its own, at the line that asked."""
    with pytest.warns(FleetInfo, match="might not be a counter") as caught:
        frame = fleet.query("rate(load[5m])", time=NOW)
    assert caught[0].filename == __file__
    assert len(frame.attrs["infos"]) == 1
    assert frame.attrs["warnings"] == []


def test_inherited_methods(fleet):
    """The methods of `PrometheusConnect` work on the same safe connection."""
    assert fleet.all_metrics() == ["load"]
    assert fleet.get_label_values("cluster") == ["eu-1", "us-1"]
    assert len(fleet.custom_query("load", params={"time": NOW.timestamp()})) == 2


def test_token(run, tmp_path):
    """The token is shown, read anew from its file, and is in no representation."""
    file = tmp_path / "token"
    file.write_text("planted-secret\n")
    with run(tokens=[{"name": "a", "token": "planted-secret"}]) as api:
        with FleetClient(api.url, token_file=file) as client:
            assert client.query("1")["value"].tolist() == [1.0]
            assert "planted-secret" not in repr(vars(client))
            file.write_text("another")
            with pytest.raises(ServerError, match="HTTP 401: a token is needed"):
                client.query("1")
            file.unlink()
            with pytest.raises(ServerError, match="cannot read the token"):
                client.query("1")
        with FleetClient(api.url, token="planted-secret") as client:  # noqa: S106  planted
            assert client.series("up").empty


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [(400, "bad_data", QuerySyntaxError), (422, "execution", QueryExecutionError),
     (503, "timeout", QueryTimeoutError), (503, "unavailable", ServerError),
     (500, "internal", ServerError)],
)  # fmt: skip
def test_errors(status, kind, expected):
    """The server's errors are exceptions of their own kind, asked once."""
    body = json.dumps({"status": "error", "errorType": kind, "error": "because"}).encode()
    with scripted(lambda _: Response(status, body)) as server, FleetClient(server.url) as client:
        with pytest.raises(expected, match="because"):
            client.query("up")
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "response",
    [Response(200, b"<html>log in</html>", content_type="text/html"), Response(200, b""),
     Response(200, b"[]"), Response(502, b"bad gateway"), Response(200, b'{"status":"succ'),
     Response(302, b"", {"Location": "http://localhost:1/"})],
)  # fmt: skip
def test_no_aggregator(response):
    """What is no aggregator's answer is never taken for data, and no redirect is followed."""
    with scripted(lambda _: response) as server, FleetClient(server.url) as client:
        with pytest.raises(ServerError, match="not as an aggregator"):
            client.query("up")
        assert len(server.requests) == 1


def test_unreachable():
    """A server that is not there is an error that names it."""
    with (
        FleetClient("http://127.0.0.1:9", timeout_seconds=5) as client,
        pytest.raises(ServerError, match=r"127\.0\.0\.1:9 cannot be asked"),
    ):
        client.clusters()


def test_silent():
    """A server that takes the request and says nothing is given up in time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            FleetClient(url, timeout_seconds=0.2) as client,
            pytest.raises(ServerError, match="no answer in time"),
        ):
            client.query("up")


def test_trickling():
    """An answer that comes byte by byte is given up in time."""
    stopped = threading.Event()

    def trickle(listening):
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while not stopped.wait(0.02):
                connection.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=trickle, args=(listening,))
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with (
            FleetClient(url, timeout_seconds=0.3) as client,
            pytest.raises(ServerError, match="came too slowly"),
        ):
            client.query("up")
        stopped.set()
        thread.join(5)


@pytest.mark.parametrize(
    "url", ["localhost:9494", "ftp://localhost", "http://", "http://me:planted-secret@localhost"]
)
def test_addresses(url):
    """An address is that of an HTTP server, without a password that messages would show."""
    with pytest.raises(ConfigError, match="write the server's address") as told:
        FleetClient(url)
    assert "planted-secret" not in str(told.value)


def test_the_base_needs_no_server_package():
    """Importing the client imports none of the server's packages by our doing."""
    code = (
        "import sys; import aggregator.client.connection; "
        "print({'numpy', 'pydantic', 'fastapi', 'pyarrow', 'chdb', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "set()\n"


def test_no_stray_warnings(fleet):
    """A complete answer warns of nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fleet.query("load", time=NOW)
