"""From a real Prometheus to a pager and to Grafana, across restarts: all that one alert needs."""

import json
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.grafana.fake import TOKEN, Grafana
from tests.servers import (
    RealServer,
    Request,
    Response,
    aggregator,
    prometheus,
    scripted,
    wait_until,
)

SECONDS = 40.0
NEVER = "0001-01-01T00:00:00Z"
RULES = """\
groups:
  - name: shop
    interval: 2s
    rules:
      - record: job:up:sum
        expr: sum by (cluster, job) (up)
      - alert: ShopDown
        expr: up{job="shop"} == 0
        for: 2s
        labels: {severity: critical}
        annotations: {summary: '{{ $labels.job }} of {{ $labels.cluster }} is down'}
      - alert: ShopLost
        expr: count by (region) (up{job="shop"} == 0)
        for: 2s
"""
SCRAPES = (
    "global: {{scrape_interval: 1s}}\n"
    "scrape_configs: [{{job_name: shop, static_configs: [{{targets: ['{target}']}}]}}]\n"
)
FLEET = """\
collect: {{interval: 2s, lag: 1s, profile: [], raw: [{{match: up}}]}}
clusters: [{{name: one, region: test, prometheus: {{url: '{source}'}}}}]
rules: {{files: [rules.yaml]}}
notify:
  route: {{receiver: pager, group_by: [alertname], group_wait: 0s, group_interval: 1s}}
  receivers: [{{name: pager, webhook: {{url: '{pager}/hook'}}}}]
grafana: {{url: '{grafana}', token: {token}}}
"""


@dataclass
class Shop:
    """What is scraped, until it is down."""

    down: bool = False

    def answer(self, _request: Request) -> Response:
        """Serve one scrape."""
        return Response(500 if self.down else 200, b"orders 1\n", content_type="text/plain")


@dataclass
class Pager:
    """A webhook's receiver: the notifications it took, by alert, and the alert it refuses."""

    refusing: str = ""
    refused: int = 0
    taken: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))

    def answer(self, request: Request) -> Response:
        """Take one notification, or refuse it."""
        assert (request.method, request.path) == ("POST", "/hook")
        assert request.headers["content-type"] == "application/json"
        notification = json.loads(request.body)
        alert = notification["groupLabels"]["alertname"]
        if alert == self.refusing:
            self.refused += 1
            return Response(503)
        self.taken[alert].append(notification)
        return Response(200)

    def heard(self, alert: str) -> list[str]:
        """Return the statuses of *alert* that arrived."""
        return [notification["status"] for notification in self.taken[alert]]


def value(server: RealServer, query: str) -> float | None:
    """Return the value of the only series of *query* at this moment, None without one."""
    url = f"{server.url}/prometheus/api/v1/query"
    answer = requests.get(url, params={"query": query}, timeout=10).json()
    rows = answer["data"]["result"]
    assert len(rows) <= 1
    return float(rows[0]["value"][1]) if rows else None


@dataclass
class Scene:
    """Everything around the aggregator, and how to start it again on the same data."""

    shop: Shop
    pager: Pager
    grafana: Grafana
    directory: Path
    config: str

    @contextmanager
    def centre(self) -> Iterator[RealServer]:
        """Run the aggregator, at least until its rules were evaluated."""
        begun = time.time()
        with aggregator(self.directory, self.config) as server:
            evaluated = "timestamp(job:up:sum)"
            wait_until(
                lambda: (value(server, evaluated) or 0) > begun, SECONDS, "rules are evaluated"
            )
            yield server


@pytest.fixture
def scene(tmp_path: Path, shared_dir: Path) -> Iterator[Scene]:
    """Run what is scraped, the Prometheus that does it, the pager and Grafana."""
    shop, pager, grafana = Shop(), Pager(), Grafana.load(shared_dir)
    centre = tmp_path / "centre"
    centre.mkdir()
    (centre / "rules.yaml").write_text(RULES)
    with (
        scripted(shop.answer) as target,
        scripted(pager.answer) as hook,
        scripted(grafana.answer) as dashboards,
        prometheus(
            tmp_path / "source", SCRAPES.format(target=target.url.removeprefix("http://"))
        ) as source,
    ):
        config = FLEET.format(
            source=source.url, pager=hook.url, grafana=dashboards.url, token=TOKEN
        )
        yield Scene(shop, pager, grafana, centre, config)


@pytest.mark.integration
def test_alerts_reach_the_pager_once_across_a_restart(scene: Scene) -> None:
    """A restart repeats no notification that arrived, loses none that did not, and both end."""
    pager = scene.pager
    with scene.centre() as server:
        assert value(server, "job:up:sum") == 1
        assert value(server, "count(ALERTS)") is None
        check_grafana(scene.grafana, server)
        pager.refusing = "ShopLost"
        scene.shop.down = True
        told = "the pager took one notification and refused the other"
        wait_until(lambda: pager.heard("ShopDown") and pager.refused, SECONDS, told)
        firing = 'ALERTS{alertname="ShopDown", alertstate="firing", cluster="one"}'
        wait_until(lambda: value(server, firing), SECONDS, "ALERTS shows it")
        assert value(server, "job:up:sum") == 0
        pending = 'count_over_time(ALERTS{alertname="ShopDown", alertstate="pending"}[5m])'
        assert (value(server, pending) or 0) >= 1
    pager.refusing = ""
    with scene.centre() as server:
        wait_until(lambda: pager.heard("ShopLost"), SECONDS, "what was refused comes again")
        assert value(server, firing) == 1
        assert pager.heard("ShopDown") == ["firing"]
        scene.shop.down = False
        alerts = ("ShopDown", "ShopLost")
        wait_until(
            lambda: all(len(pager.heard(alert)) > 1 for alert in alerts), SECONDS, "the ends come"
        )
        wait_until(lambda: value(server, "count(ALERTS)") is None, SECONDS, "ALERTS ends")
    assert pager.heard("ShopDown") == pager.heard("ShopLost") == ["firing", "resolved"]
    check_payloads(*pager.taken["ShopDown"])


def check_payloads(firing: dict[str, Any], resolved: dict[str, Any]) -> None:
    """Compare both notifications with what Alertmanager would have posted."""
    [alert], [ended] = firing.pop("alerts"), resolved.pop("alerts")
    labels = {"alertname": "ShopDown", "cluster": "one", "region": "test", "severity": "critical"}
    assert alert["labels"].items() >= (labels | {"job": "shop"}).items()
    assert alert["annotations"] == {"summary": "shop of one is down"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", alert["startsAt"])
    assert (alert["status"], alert["endsAt"]) == ("firing", NEVER)
    assert re.fullmatch("[0-9a-f]{16}", alert["fingerprint"])
    same = ("labels", "annotations", "startsAt", "fingerprint")
    assert {key: ended[key] for key in same} == {key: alert[key] for key in same}
    assert ended["status"] == "resolved"
    assert ended["endsAt"] > ended["startsAt"]
    for notification, status in ((firing, "firing"), (resolved, "resolved")):
        assert notification.pop("externalURL").startswith("http://127.0.0.1:")
        assert notification == {
            "receiver": "pager",
            "status": status,
            "groupLabels": {"alertname": "ShopDown"},
            "commonLabels": alert["labels"],
            "commonAnnotations": alert["annotations"],
            "version": "4",
            "groupKey": '{}:{alertname="ShopDown"}',
            "truncatedAlerts": 0,
        }


def check_grafana(grafana: Grafana, server: RealServer) -> None:
    """Check that Grafana's data source leads to our API, and the dashboard is in our folder."""
    wait_until(lambda: grafana.dashboards, SECONDS, "the dashboard arrives")
    source = grafana.datasources["fleet-metrics"]
    assert (source["type"], source["url"]) == ("prometheus", f"{server.url}/prometheus")
    query = {"query": "job:up:sum"}
    answer = requests.post(f"{source['url']}/api/v1/query", data=query, timeout=10).json()
    labels = {"__name__": "job:up:sum", "cluster": "one", "job": "shop"}
    assert [row["metric"] for row in answer["data"]["result"]] == [labels]
    assert grafana.dashboards["fleet-overview"]["meta"]["folderUid"] in grafana.folders
