"""The whole HTTP interface over a store, a registry and rules that a test exchanges as it runs."""

from collections.abc import Collection, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests

from aggregator.api import pages
from aggregator.api.app import Dependencies, create_app
from aggregator.api.scope import visible
from aggregator.api.server import Server
from aggregator.api.settings import ApiSettings
from aggregator.api.status import Metadata
from aggregator.diagnose.overview import overview
from aggregator.fleet.freshness import Freshness
from aggregator.fleet.health import HealthBoard, Outcome
from aggregator.fleet.registry import Registry
from aggregator.fleet.settings import ClusterSettings, CollectSettings
from aggregator.fleet.view import cluster_views
from aggregator.model.alerts import ActiveAlert, AlertState, label_set
from aggregator.promql.engine import Engine
from aggregator.rules.groups import AlertingRule, RecordingRule, RuleGroup
from aggregator.rules.runner import GroupReport, RuleReport
from aggregator.rules.state import Timing
from aggregator.rules.template import compile_template
from aggregator.state.bindings import Bindings
from aggregator.state.database import Database, open_database
from aggregator.state.gaps import Gaps
from aggregator.state.watermarks import Watermarks
from aggregator.store.memory import MemoryStore
from aggregator.web.pages import Pages
from tests.promql.peer import SPAN_MS, START_MS
from tests.promql.scoped import REGIONS

NOW_MS = START_MS + SPAN_MS
METRICS = ("gauge", "sparse", "counter_total", "hist_bucket", "unknown")
NODES = "fleet:node_ready"
EXPECTED = ("gauge", "sparse", "counter_total", NODES)
FIRING = AlertingRule(
    "Down", "gauge < 0", Timing(60_000), (("severity", compile_template("page")),),
    (("summary", compile_template("{{ $labels.cluster }} is down")),), 1,
)  # fmt: skip
RECORDING = RecordingRule("sum:gauge", "sum(gauge)", (), 2)


class Shelf:
    """Stands before the store of the moment."""

    def __init__(self) -> None:
        self.store = MemoryStore()

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)


@dataclass
class Fleet:
    """One server and what it answers from: its store, its clusters, its alerts."""

    database: Database
    url: str = ""
    shelf: Shelf = field(default_factory=Shelf)
    session: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        self.session.trust_env = False
        self.bindings, self.health = Bindings(self.database), HealthBoard()
        self.marks, self.gaps = Watermarks(self.database), Gaps(self.database)
        for number, name in enumerate(REGIONS):
            until = START_MS + (number + 1) * SPAN_MS // 5
            self.marks.advance(name, until, with_data=["raw:gauge", "raw:sparse"])
            gap = ("raw:counter_total", START_MS, START_MS + (number + 1) * 60_000)
            self.gaps.record(name, [gap], "unreachable", NOW_MS)
            for _ in range(number):
                self.health.ended(name, Outcome(NOW_MS, False, f"{name} refused", "refused"), None)
        self.holds(tuple(REGIONS))

    def holds(
        self,
        clusters: Collection[str],
        alerts: Sequence[ActiveAlert] = (),
        metrics: Collection[str] = EXPECTED,
    ) -> None:
        """Register *clusters*, of which *metrics* are expected; *alerts* are active."""
        settings = [
            ClusterSettings.model_validate(
                {"name": name, "region": REGIONS[name], "prometheus": {"url": "http://127.0.0.1:9"}}
            )
            for name in REGIONS
            if name in clusters
        ]
        raw = [{"match": name} for name in metrics if name != NODES]
        registry = Registry(settings, CollectSettings.model_validate({"raw": raw}))
        self.freshness = Freshness(
            registry,
            {NODES: "nodes"} if NODES in metrics else {},
            self.marks,
            self.gaps,
            self.health,
        )
        group = RuleGroup("group", Path("rules.yaml"), 30_000, 100, (FIRING, RECORDING))
        rules = (RuleReport(FIRING, tuple(alerts)), RuleReport(RECORDING))
        self.reports = [GroupReport(group, rules, NOW_MS, NOW_MS)]

    def ask(self, method: str, path: str, pairs: Sequence[tuple[str, str]], token: str):
        """Return status and body of an answer."""
        given = {"data": pairs} if method == "POST" else {"params": pairs}
        answer = self.session.request(
            method,
            self.url + path,
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
            **given,
        )
        return answer.status_code, answer.content

    def _warnings(self, reads, now_ms, clusters):
        return self.freshness.warnings(reads, now_ms, clusters)

    def _views(self):
        return cluster_views(self.freshness, self.bindings, NOW_MS)

    def dependencies(self, settings: ApiSettings) -> Dependencies:
        """Return what the interface needs, as the running server has it."""
        engine, html = Engine(self.shelf), Pages()

        def overview_of(request):
            def query(expression, time_ms):
                return engine.instant(expression, time_ms, request.budget, scope=request.scope)

            return overview(visible(request, self._views()), query, NOW_MS)

        return Dependencies(
            settings=settings,
            engine=engine,
            store=self.shelf,
            freshness=self._warnings,
            clusters=self._views,
            waiting=lambda: [f"the first answer of cluster {name}" for name in REGIONS],
            now_ms=lambda: NOW_MS,
            metadata=lambda: {name: [Metadata("gauge", name, "")] for name in METRICS},
            rules=lambda: self.reports,
            routes=pages.routes(overview_of, html.fleet, html.static),
            docs_page=html.docs,
        )


@contextmanager
def serving(directory: Path, tokens: Sequence[dict[str, str]]):
    """Run the interface with *tokens* until the block ends."""
    database = open_database(directory / "state.db")
    fleet = Fleet(database)
    settings = ApiSettings.model_validate({"listen": "127.0.0.1:0", "tokens": tokens})
    server = Server(create_app(fleet.dependencies(settings)), settings)
    server.start()
    try:
        fleet.url = f"http://127.0.0.1:{server.port}"
        yield fleet
    finally:
        fleet.session.close()
        server.stop()
        database.close()


def alert(cluster: str, state: AlertState) -> ActiveAlert:
    """Return an alert of the rule `Down` for *cluster*."""
    labels = {"alertname": "Down", "severity": "page", "cluster": cluster, "job": cluster[-1]}
    labels["region"] = REGIONS[cluster]
    summary = label_set({"summary": f"{cluster} is down"})
    return ActiveAlert(label_set(labels), state, 1.5, summary, START_MS)
