"""Commands that ask a running server, as a shell sees them."""

import csv
import io
import json
import subprocess
import sys

import pytest

from aggregator.cli import main
from aggregator.cli.output import printable
from tests.servers import Response, scripted

CLUSTERS = [
    {"cluster": "eu-1", "region": "europe", "state": "ok", "age_seconds": 12.0, "error": "",
     "series": {"recorded": 40, "raw": 2}, "coverage": {"served": 3, "metrics": 4}},
    {"cluster": "us-1", "region": "us", "state": "unreachable", "age_seconds": 7200.0,
     "error": "no answer\x1b[31m", "series": {}, "coverage": {"served": 0, "metrics": 4}},
    {"cluster": "us-2", "region": "us", "state": "never", "age_seconds": None, "error": "",
     "coverage": {"served": 0, "metrics": 4}},
]  # fmt: skip


@pytest.fixture
def seeded(api):
    """Return an API with two series, one of which has an escape sequence in a label."""
    for cluster in ("eu-1", "eu-2"):
        api.seed({"__name__": "load", "cluster": cluster, "evil": "\x1b[2J"}, [(0, 2.5)])
    return api


def test_table(seeded, capsys):
    """A table has a column a label, and nothing that a terminal would act on."""
    assert main(["query", "load", "--server", seeded.url]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["__name__", "cluster", "evil", "time", "value"]
    assert first.split() == ["load", "eu-1", "\\x1b[2J", "2026-11-22T06:17:02Z", "2.5"]
    assert second.split()[1] == "eu-2"


def test_json(seeded, capsys):
    """JSON is the server's whole answer."""
    assert main(["query", "load", "-o", "json", "--server", seeded.url]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["status"] == "success"
    assert len(document["data"]["result"]) == 2


def test_csv_and_warnings(seeded, capsys):
    """CSV has a header, and warnings go where they do not mix with it."""
    seeded.warnings.append("cluster eu-2 (eu): no data")
    assert main(["query", 'load{cluster="eu-1"}', "-o", "csv", "--server", seeded.url]) == 0
    out, err = capsys.readouterr()
    [row] = csv.DictReader(io.StringIO(out))
    assert (row["cluster"], row["value"]) == ("eu-1", "2.5")
    assert err == "warning: cluster eu-2 (eu): no data\n"


def test_range(capsys):
    """`--range` asks for a range that ends now."""
    body = b'{"status":"success","data":{"resultType":"matrix","result":[]}}'
    with scripted(lambda _: Response(body=body)) as server:
        assert (
            main(["query", "up", "--range", "1h30m", "--step", "1m", "--server", server.url]) == 0
        )
        form = dict(pair.split("=") for pair in server.requests[0].body.decode().split("&"))
    assert server.requests[0].path == "/prometheus/api/v1/query_range"
    assert float(form["end"]) - float(form["start"]) == pytest.approx(5_400)
    assert form["step"] == "1m"
    capsys.readouterr()


def test_clusters(capsys):
    """The clusters are listed with state, age, series and error."""
    body = json.dumps({"clusters": CLUSTERS, "sources": []}).encode()
    with scripted(lambda _: Response(body=body)) as server:
        assert main(["clusters", "--server", server.url, "--region", "us"]) == 0
        assert server.requests[0].query == (("region", "us"),)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["eu-1", "europe", "ok", "12", "s", "3/4", "42"]
    assert lines[2].split() == [
        "us-1",
        "us",
        "unreachable",
        "2",
        "h",
        "0/4",
        "0",
        "no",
        "answer\\x1b[31m",
    ]
    assert lines[3].split() == ["us-2", "us", "never", "-", "0/4", "0"]


def test_one_cluster(capsys):
    """One cluster is shown with the state of its data, what serves its metrics, and its gaps."""
    cluster = {
        **CLUSTERS[0],
        "subjects": [{"subject": "fleet:nodes", "state": "late", "age_seconds": 99.0, "note": "x"}],
        "bindings": [
            {
                "metric": "fleet:m",
                "group": "nodes",
                "state": "ok",
                "candidates": ["ksm"],
                "quality": "exact",
                "reason": "",
                "age_seconds": 12.0,
                "since": 60.0,
                "previous": ["kubelet"],
            }
        ],
        "groups": {"nodes": {"served": 1, "metrics": 2}},
        "dropped": [{"subject": "raw:up", "text": "9 series above the limit"}],
        "gaps": [{"subject": "raw:up", "start": 0.0, "end": 60.0, "reason": "\x1b[2J"}],
    }
    body = json.dumps({"cluster": cluster, "sources": []}).encode()
    with scripted(lambda _: Response(body=body)) as server:
        assert main(["clusters", "--server", server.url, "show", "eu-1", "-o", "csv"]) == 0
        assert capsys.readouterr().out.splitlines()[1] == "fleet:nodes,late,99 s,x"
        assert main(["clusters", "show", "eu-1", "--server", server.url]) == 0
        assert {request.path for request in server.requests} == {"/api/v1/clusters/eu-1"}
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[1][:3] == ["eu-1", "europe", "ok"]
    assert ["fleet:nodes", "late", "99", "s", "x"] in rows
    changed = ["since", "1970-01-01T00:01:00Z,", "before", "that", "kubelet"]
    assert ["fleet:m", "nodes", "ok", "ksm", "exact", "12", "s", *changed] in rows
    assert ["nodes", "1/2"] in rows
    assert ["raw:up", "9", "series", "above", "the", "limit"] in rows
    assert ["raw:up", "1970-01-01T00:00:00Z", "1970-01-01T00:01:00Z", "\\x1b[2J"] in rows


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["query", "sum("], 2), (["query", "up * on(x) group_left up{"], 2), (["query"], 2),
     (["nope"], 2), (["query", "up", "-o", "xml"], 2), (["query", "up", "--range", "soon"], 2),
     (["query", "1"], 0), (["--version"], 0), (["--help"], 0), (["query", "--help"], 0)],
)  # fmt: skip
def test_status(seeded, capsys, arguments, status):
    """The exit status is 0 when all is fine and 2 for wrong use."""
    place = ["--server", seeded.url] if arguments[0] == "query" else []
    assert main([*arguments, *place]) == status
    capsys.readouterr()


def test_a_region_that_does_not_fit_is_told(tmp_path, capsys):
    """`config check` warns where `provider_region` says otherwise; the operator's word counts."""
    file = tmp_path / "fleet.yaml"
    cluster = "{name: a, region: us, prometheus: {url: 'http://x'}, labels: {provider_region: %s}}"
    for place, warned in (("eu-west-1", True), ("us-east-1", False)):
        file.write_text(f"clusters: [{cluster % place}]\nrules: {{files: []}}\n")
        assert main(["config", "check", "-c", str(file)]) == 0
        assert ("warning: cluster a: region is 'us'" in capsys.readouterr().out) is warned


def test_problems(capsys):
    """The exit status is 1, with a reason, when the server cannot be asked."""
    assert main(["clusters", "--server", "http://127.0.0.1:9"]) == 1
    assert "http://127.0.0.1:9 cannot be asked" in capsys.readouterr().err


def test_token_file(run, tmp_path, capsys):
    """The token comes from a file and shows nowhere."""
    (tmp_path / "token").write_text("planted-secret")
    with run(tokens=[{"name": "a", "token": "planted-secret"}]) as api:
        place = ["query", "1", "--server", api.url]
        assert main([*place, "--token-file", str(tmp_path / "token")]) == 0
        assert main(place) == 1
        (tmp_path / "token").write_text("wrong-secret")
        assert main([*place, "--token-file", str(tmp_path / "token")]) == 1
    out, err = capsys.readouterr()
    assert "secret" not in out + err


def test_missing_server_packages():
    """A command of the server says what to install where its packages are missing."""
    code = (
        "import sys; sys.modules['structlog'] = None; "
        "from aggregator.cli import main; sys.exit(main(['serve']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "pip install 'fleet-aggregator[server]'" in done.stderr


def test_a_pipe_has_no_colour(seeded):
    """What reads a pipe gets whole lines without colour."""
    command = [sys.executable, "-m", "aggregator", "query", "load", "--server", seeded.url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "\x1b" not in done.stdout
    assert len(done.stdout.splitlines()) == 3


def test_printable():
    """Text keeps its letters of any script and loses what a terminal acts on."""
    assert printable("größe 日本 a\\b\n\x1b\u202e") == "größe 日本 a\\b\\n\\x1b\\u202e"
