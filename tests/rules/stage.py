"""A small fleet for tests of rules: the real engine, freshness and state, and a clock of ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from aggregator.fleet.freshness import Freshness
from aggregator.fleet.health import HealthBoard
from aggregator.fleet.registry import Registry
from aggregator.fleet.settings import ClusterSettings, CollectSettings
from aggregator.model.alerts import Alert
from aggregator.model.arrays import Floats
from aggregator.model.budget import Budget
from aggregator.model.samples import SampleBlock
from aggregator.promql.engine import Engine
from aggregator.promql.result import QueryResult
from aggregator.rules.groups import RuleGroup, load_groups
from aggregator.rules.runner import GroupRunner, Tools
from aggregator.rules.settings import RulesSettings
from aggregator.state.alerts import AlertStates
from aggregator.state.database import Database
from aggregator.state.gaps import Gaps
from aggregator.state.watermarks import Watermarks
from aggregator.store.memory import MemoryStore

T0 = 1_700_000_010_000  # a multiple of 30 s
STEP = 30_000
MINUTE = 60_000
REGIONS = {"eu-1": "europe", "eu-2": "europe", "us-1": "us"}
GROUPS = {"fleet:ingress_error_ratio": "ingress", "fleet:node_ready": "nodes"}


def registry(
    names: Sequence[str] = tuple(REGIONS), changes: Mapping[str, Mapping[str, object]] | None = None
) -> Registry:
    """Return a registry of the clusters *names*, some settings changed."""
    clusters = [
        ClusterSettings.model_validate(
            {
                "name": name,
                "region": REGIONS[name],
                "prometheus": {"url": "http://127.0.0.1:9"},
                **(changes or {}).get(name, {}),
            }
        )
        for name in names
    ]
    return Registry(clusters, CollectSettings(interval=STEP, lag=5_000))


@dataclass
class Stage:
    """The fleet, what was handed to notification, and the clock."""

    database: Database
    now: int = T0
    handed: list[list[Alert]] = field(default_factory=list)
    failing: Exception | None = None

    def __post_init__(self) -> None:
        self.store = MemoryStore()
        self.watermarks = Watermarks(self.database)
        self.health = HealthBoard()
        gaps = Gaps(self.database)
        self.freshness = Freshness(registry(), GROUPS, self.watermarks, gaps, self.health)
        self.engine = Engine(self.store)
        self.tools = Tools(
            query=self._query,
            record=self.record,
            settle=lambda: None,
            notify=lambda alerts: self.handed.append(list(alerts)),
            freshness=self.freshness,
            now_ms=lambda: self.now,
            states=AlertStates(self.database),
            hold_ms=60 * MINUTE,
        )

    def record(self, series: Sequence[Mapping[str, str]], time_ms: int, values: Floats) -> None:
        """Store one sample for each series."""
        ids = self.store.series_ids(series)
        self.store.write(SampleBlock(ids, np.full(ids.size, time_ms, np.int64), values))

    def collect(
        self, time_ms: int, ratios: Mapping[str, float | None], metric: str = "ingress_error_ratio"
    ) -> None:
        """Store a value for each cluster and move its watermarks; None: there is no series."""
        for name, value in ratios.items():
            labels = {"__name__": f"fleet:{metric}", "cluster": name, "region": REGIONS[name]}
            if value is not None:
                self.record([labels], time_ms, np.array([value]))
            self.watermarks.advance(name, time_ms, with_data=["fleet:ingress", "fleet:nodes"])

    def value(self, expression: str, time_ms: int) -> dict[str, float]:
        """Return the result of an instant query: values by their labels as text."""
        matrix = self._query(expression, time_ms).matrix
        assert matrix is not None
        texts = [
            ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
            for labels in matrix.series.dicts()
        ]
        return dict(zip(texts, matrix.values[:, 0].tolist(), strict=True))

    def group(self, path: Path, text: str) -> RuleGroup:
        """Load the only group of a rule file."""
        path.write_text(text)
        [group] = load_groups([path], RulesSettings())
        return group

    def runner(self, group: RuleGroup) -> GroupRunner:
        """Return a runner of *group*, as after a start."""
        return GroupRunner(group, self.tools)

    def last(self) -> list[tuple[str, str]]:
        """Return what was handed over last: cluster (or region) and state of each alert."""
        return [
            (
                dict(alert.labels).get("cluster", dict(alert.labels).get("region", "")),
                "ended" if alert.resolved else "held" if alert.held else "firing",
            )
            for alert in sorted(self.handed[-1], key=lambda each: each.labels)
        ]

    def _query(self, expression: str, time_ms: int) -> QueryResult:
        if self.failing is not None:
            raise self.failing
        return self.engine.instant(expression, time_ms, Budget())
