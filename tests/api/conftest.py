"""The HTTP interface over the memory store and the real engine, behind a real socket."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
import pytest
import requests

from aggregator.api.app import Dependencies, create_app
from aggregator.api.exchange import Route
from aggregator.api.server import Server
from aggregator.api.settings import ApiSettings
from aggregator.api.status import Metadata
from aggregator.fleet.view import ClusterView
from aggregator.model.samples import SampleBlock
from aggregator.promql.context import Read
from aggregator.promql.engine import Engine
from aggregator.rules.runner import GroupReport
from aggregator.store.memory import MemoryStore
from aggregator.web.pages import Pages

NOW_MS = 1_795_328_222_000


@dataclass
class Api:
    """A running server, and what it is told by the rest of the aggregator."""

    store: MemoryStore = field(default_factory=MemoryStore)
    clusters: list[ClusterView] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    metadata: dict[str, list[Metadata]] = field(default_factory=dict)
    rules: list[GroupReport] = field(default_factory=list)
    now_ms: int = NOW_MS
    url: str = ""
    session: requests.Session = field(default_factory=requests.Session)

    def get(self, path: str, **parameters: object) -> requests.Response:
        """Ask with a query string."""
        return self.session.get(self.url + path, params=parameters, timeout=30)

    def post(self, path: str, **form: object) -> requests.Response:
        """Ask with a form."""
        return self.session.post(self.url + path, data=form, timeout=30)

    def seed(self, labels: Mapping[str, str], samples: Sequence[tuple[int, float]]) -> None:
        """Store one series; times in seconds relative to now."""
        ids = self.store.series_ids([labels])
        times = np.array([NOW_MS + second * 1000 for second, _ in samples], dtype=np.int64)
        values = np.array([value for _, value in samples], dtype=np.float64)
        self.store.write(SampleBlock(np.repeat(ids, times.size), times, values))

    def freshness(
        self, reads: Sequence[Read], _now_ms: int, _clusters: Collection[str] | None
    ) -> Sequence[str]:
        """Remember what was read and answer the warnings that are set."""
        self.reads.extend(reads)
        return self.warnings


class Running:
    """A server for the length of a `with` block."""

    def __init__(self, settings: ApiSettings, routes: Sequence[Route] = ()) -> None:
        self.api = Api()
        dependencies = Dependencies(
            settings=settings,
            engine=Engine(self.api.store),
            store=self.api.store,
            freshness=self.api.freshness,
            clusters=lambda: self.api.clusters,
            waiting=lambda: self.api.waiting,
            now_ms=lambda: self.api.now_ms,
            metadata=lambda: self.api.metadata,
            rules=lambda: self.api.rules,
            routes=routes,
            docs_page=Pages().docs,
        )
        self.server = Server(create_app(dependencies), settings)

    def __enter__(self) -> Api:
        self.server.start()
        self.api.url = f"http://127.0.0.1:{self.server.port}"
        self.api.session.trust_env = False
        return self.api

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.api.session.close()
        self.server.stop()


@pytest.fixture
def run() -> Callable[..., Running]:
    """Return what starts a server with settings, on a free port unless they say where."""

    def started(routes: Sequence[Route] = (), **settings: object) -> Running:
        given = {"listen": "127.0.0.1:0", **settings}
        return Running(ApiSettings.model_validate(given), routes)

    return started


@pytest.fixture
def api(run: Callable[..., Running]) -> Iterator[Api]:
    """Return a running server without tokens."""
    with run() as running:
        yield running
