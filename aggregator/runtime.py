"""Builds the parts from the configuration and joins them; nothing else does."""

import gc
import os
import resource
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import structlog

from aggregator.api import pages
from aggregator.api.app import Dependencies, create_app
from aggregator.api.exchange import Request
from aggregator.api.scope import visible
from aggregator.api.server import Server
from aggregator.api.status import Metadata
from aggregator.collect.collector import Collector, freshness_of
from aggregator.collect.context import Context
from aggregator.config.document import FleetConfig
from aggregator.diagnose.overview import Overview, overview
from aggregator.errors import ConfigError, QueryError, StoreError
from aggregator.fleet.health import HealthBoard
from aggregator.fleet.registry import Registry
from aggregator.fleet.view import ClusterView, cluster_views
from aggregator.grafana.keeper import GrafanaKeeper
from aggregator.model.arrays import Floats
from aggregator.model.budget import Budget
from aggregator.model.samples import SampleBlock
from aggregator.notify.pipeline import Notifier
from aggregator.profile.load import load_profile
from aggregator.promql.engine import Engine
from aggregator.promql.result import QueryResult
from aggregator.rules.groups import RuleGroup, load_groups
from aggregator.rules.runner import Tools
from aggregator.rules.scheduler import RuleScheduler
from aggregator.state.alerts import AlertStates
from aggregator.state.bindings import Bindings
from aggregator.state.database import open_database
from aggregator.state.gaps import Gaps
from aggregator.state.notifications import Notifications
from aggregator.state.watermarks import Watermarks
from aggregator.store.interface import Store
from aggregator.store.open import open_store
from aggregator.store.process import release_memory, tune_process
from aggregator.store.writer import StoreWriter
from aggregator.supervise import Loop
from aggregator.web.pages import Pages

_LOG = structlog.get_logger(__name__)

_GC_THRESHOLDS = (100_000, 20, 50)
_FLUSH_SECONDS = 2.0
_RECORD_SECONDS = 10.0
_RULE_SECONDS = 30.0
_RETENTION_SECONDS = 600.0
_WARM_AGAIN_SECONDS = 60.0
_FIRST_QUEUE_SECONDS = 5.0  # how long a cluster's first request may wait behind those of others


def now_ms() -> int:
    """Return the wall clock in ms UTC."""
    return int(time.time() * 1000)


class Runtime:
    """Everything a running server consists of.

    Raises `ConfigError` or `StoreError` when something cannot be built; what was opened until then
    is closed again.
    """

    def __init__(self, config: FleetConfig, base: Path) -> None:
        """Build everything; relative paths of the configuration are relative to *base*."""
        prepare_process()
        self._config = config
        self._profile = load_profile(config.collect.profile, base=base)
        groups = load_groups(config.rules.paths(base), config.rules)
        with ExitStack() as opened:
            self._store: Store = open_store(config.store)
            opened.callback(self._store.close)
            self._state = open_database(config.store.path / "state.db")
            opened.callback(self._state.close)
            self._join(Registry(config.clusters, config.collect, config.workloads), groups)
            opened.pop_all()

    def _join(self, registry: Registry, groups: Sequence[RuleGroup]) -> None:
        """Build the parts over the open store and state."""
        config = self._config
        self._engine = Engine(self._store)
        self._writer = StoreWriter(self._store, flush_seconds=_flush_seconds(registry))
        self._retention = Loop("retention", self._forget_old)
        self._warming = Loop("head", self._warm)
        self._bindings, self._gaps = Bindings(self._state), Gaps(self._state)
        context = Context(
            series=self._store,
            writer=self._writer,
            watermarks=Watermarks(self._state),
            gaps=self._gaps,
            bindings=self._bindings,
            health=HealthBoard(),
            now=now_ms,
            query=self._rule_query,
        )
        self._freshness = freshness_of(registry, self._profile, context)
        self._collector = Collector(registry, self._profile, context)
        self._notifier = self._build_notifier()
        self._rules = RuleScheduler(groups, self._tools())
        self._grafana = (
            None
            if config.grafana is None
            else GrafanaKeeper(config.grafana, config.api.external_address)
        )
        self._started = time.monotonic()
        self._server = self._build_server()

    @property
    def port(self) -> int:
        """Where the API listens."""
        return self._server.port

    def start(self) -> None:
        """Start every part; collection begins at once."""
        self._started = time.monotonic()
        self._writer.start()
        self._retention.start()
        self._warming.start()
        self._collector.start()
        if self._notifier is not None:
            self._notifier.start()
        self._rules.start()
        if self._grafana is not None:
            self._grafana.start()
        self._server.start()

    def stop(self) -> None:
        """Stop every part, in the order that loses nothing."""
        with ExitStack() as opened:  # the engine ends the process badly if it is left open
            opened.callback(self._store.close)
            opened.callback(self._state.close)
            self._server.stop()
            if self._grafana is not None:
                self._grafana.stop()
            self._rules.stop()
            if self._notifier is not None:
                self._notifier.stop()
            self._warming.stop()
            self._retention.stop()
            self._writer.stop()
            self._collector.stop()

    def apply(self, config: FleetConfig) -> None:
        """Collect the clusters of *config* from now on."""
        self._config = config
        registry = Registry(config.clusters, config.collect, config.workloads)
        self._freshness.apply(registry)
        self._collector.apply(registry)

    def _tools(self) -> Tools:
        notifier = self._notifier
        return Tools(
            query=self._rule_query,
            record=self._record,
            settle=self._settle,
            notify=(lambda _alerts: None) if notifier is None else notifier.submit,
            freshness=self._freshness,
            now_ms=now_ms,
            states=AlertStates(self._state),
            hold_ms=self._config.rules.hold,
        )

    def _build_notifier(self) -> Notifier | None:
        settings = self._config.notify
        if settings is None:
            return None
        return Notifier(
            settings,
            Notifications(self._state),
            external_url=self._config.api.external_address,
            now_ms=now_ms,
        )

    def _build_server(self) -> Server:
        settings = self._config.api
        html = Pages()
        dependencies = Dependencies(
            settings=settings,
            engine=self._engine,
            store=self._store,
            freshness=self._freshness.warnings,
            clusters=self._views,
            waiting=self._waiting,
            now_ms=now_ms,
            metadata=self._metadata,
            rules=self._rules.reports,
            docs_page=html.docs,
            routes=pages.routes(self._overview, html.fleet, html.static),
        )
        return Server(create_app(dependencies), settings)

    def _views(self) -> list[ClusterView]:
        return cluster_views(self._freshness, self._bindings, now_ms())

    def _metadata(self) -> Mapping[str, Sequence[Metadata]]:
        """Return what the profile says of each fleet metric: all of them are gauges."""
        return {
            metric.name: [Metadata("gauge", metric.help, metric.unit.value)]
            for metric in self._profile.metrics
        }

    def _overview(self, request: Request) -> Overview:
        def query(expression: str, time_ms: int) -> QueryResult:
            return self._engine.instant(expression, time_ms, request.budget, scope=request.scope)

        return overview(visible(request, self._views()), query, now_ms())

    def _waiting(self) -> Sequence[str]:
        """Return what readiness waits for, in words."""
        freshness, passed_seconds = self._freshness, time.monotonic() - self._started
        return [
            f"the first answer of cluster {name}"
            for name in untried(freshness.registry, freshness.health, passed_seconds)
        ]

    def _forget_old(self, stopping: threading.Event) -> None:
        """Drop what is past retention, now and every few minutes."""
        before_ms = now_ms() - self._config.store.retention
        try:
            self._store.expire(before_ms)
            self._gaps.forget(before_ms=before_ms)
        except StoreError as error:
            _LOG.error("old samples could not be dropped; tried again later", error=str(error))
        settle_memory()
        stopping.wait(_RETENTION_SECONDS)

    def _warm(self, stopping: threading.Event) -> None:
        """Bring what was stored last into memory, once; queries read the disk until then."""
        try:
            self._store.warm(stopping)
        except (QueryError, StoreError) as error:
            _LOG.warning("recent samples could not be read; tried again later", error=str(error))
            stopping.wait(_WARM_AGAIN_SECONDS)
        else:
            stopping.wait()

    def _rule_query(self, expression: str, time_ms: int) -> QueryResult:
        return self._engine.instant(expression, time_ms, Budget(timeout_seconds=_RULE_SECONDS))

    def _record(self, series: Sequence[Mapping[str, str]], time_ms: int, values: Floats) -> None:
        """Hand one sample of each series to the writer."""
        ids = self._store.series_ids(series)
        block = SampleBlock(ids, np.full(ids.size, time_ms, dtype=np.int64), values)
        if not self._writer.submit(block, lambda: None, _RECORD_SECONDS):
            raise StoreError("the store is behind; see aggregator_writer_queue_samples")

    def _settle(self) -> None:
        """Return when all that rules recorded is stored."""
        if not self._writer.settle(_RECORD_SECONDS):
            raise StoreError("the store is behind; see aggregator_writer_queue_samples")


def untried(registry: Registry, board: HealthBoard, passed_seconds: float) -> list[str]:
    """Return the clusters not tried in the *passed_seconds* since the start that may still be.

    A cluster whose own first request would have ended by now is not waited for any longer.
    """
    return [
        cluster.name
        for cluster in registry
        if passed_seconds < cluster.request_seconds + _FIRST_QUEUE_SECONDS
        and board.get(cluster.name).tried_ms is None
    ]


def settle_memory() -> None:
    """Collect garbage once, spare the collector what lives on, and give back what is free.

    With its default thresholds the collector took a third of the CPU of copying 100,000 series: it
    walked long-lived label tables again and again. What large answers leave free stays with malloc
    until it is asked: a third of all after ten minutes of new series.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    release_memory()


def _flush_seconds(registry: Registry) -> float:
    """Return how long samples may wait to be stored together.

    A cluster is late when an interval passes without data. Half of that goes by before it is
    asked; a quarter may go by here.
    """
    shortest_ms = min((cluster.collect.interval for cluster in registry), default=60_000)
    return min(_FLUSH_SECONDS, shortest_ms / 4_000)


def prepare_process() -> None:
    """Set what holds for the whole process, and check what would break it silently.

    Raises `ConfigError`.
    """
    if find_spec("urllib3_future") is not None:
        raise ConfigError(
            "the package urllib3-future replaces urllib3 under requests and leaks threads; "
            "uninstall it: pip uninstall urllib3-future niquests, then reinstall urllib3"
        )
    os.umask(0o077)  # what we store is for our own user
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    tune_process()
    gc.set_threshold(*_GC_THRESHOLDS)
