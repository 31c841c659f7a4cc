"""Series of our own: what they say, at which times, and when they end."""

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from aggregator.collect.collector import Collector
from aggregator.collect.registry_series import RegistrySeries
from aggregator.fleet.freshness import Freshness
from aggregator.fleet.health import Outcome, Served
from aggregator.fleet.registry import Registry
from aggregator.fleet.settings import ClusterSettings, CollectSettings, WorkloadRule
from aggregator.model.samples import SampleBlock
from aggregator.profile.format import Profile
from aggregator.state.bindings import Binding
from tests.collect.stage import T0, Stage, profile
from tests.servers import wait_until
from tests.sources.test_expiry import jwt

STEP = 15_000
LABELS = {"provider": "aws", "group": "shop", "role": "active", "empty": ""}


def registry(*names: str, workloads: Sequence[dict[str, object]] = (), **own: object) -> Registry:
    """Return clusters in Europe; those whose name begins with `us` are in the us."""
    clusters = [
        ClusterSettings.model_validate(
            {
                "name": name,
                "region": "us" if name.startswith("us") else "europe",
                "labels": LABELS,
                "prometheus": {"url": "http://127.0.0.1:1"},
                **own,
            }
        )
        for name in names
    ]
    rules = [WorkloadRule.model_validate(rule) for rule in workloads]
    return Registry(clusters, CollectSettings.model_validate({"interval": "15s"}), rules)


def series(stage: Stage, clusters: Registry, asked: Profile | None = None) -> RegistrySeries:
    """Return a writer of the series of *clusters*."""
    context = stage.context
    freshness = Freshness(
        clusters, {"fleet:m": "things"}, context.watermarks, context.gaps, context.health
    )
    return RegistrySeries(freshness, asked or profile("m"), context)


def put(stage: Stage, name: str, value: float, cluster: str, time_ms: int = T0, **labels: str):
    """Store a sample as a cluster's collector would."""
    stamped = {"__name__": name, "cluster": cluster, "region": "x", **labels}
    ids = stage.store.series_ids([stamped])
    stage.store.write(SampleBlock(ids, np.array([time_ms]), np.array([value])))


def newest(stage: Stage, name: str, **matching: str) -> dict[str, float | str]:
    """Return the newest value of each series of a metric."""
    return {key: found[-1][1] for key, found in stage.samples(name, **matching).items()}


def test_what_a_cluster_is(stage: Stage):
    """Registry labels, state and bindings are series of value 1."""
    saved = [
        Binding("fleet:m", ("only",), "close", "", 1),
        Binding("fleet:n", (), "", "no candidate has data", 1),
    ]
    stage.context.bindings.save("eu-1", saved)
    series(stage, registry("eu-1")).write(T0)
    info = {"group=shop,provider=aws,role=active": [(0, 1.0)]}
    assert stage.samples("fleet:cluster_info", cluster="eu-1", region="europe") == info
    assert stage.samples("fleet:cluster_state") == {"state=never": [(0, 1.0)]}
    assert stage.samples("fleet:binding_info") == {
        "candidate=only,metric=fleet:m,quality=exact": [(0, 1.0)]
    }


def test_how_collection_goes(stage: Stage):
    """Success, duration, age and interval are there for each source, when they are known."""
    own = series(stage, registry("eu-1"))
    own.write(T0)
    assert newest(stage, "fleet:collection_interval_seconds") == {"source=prometheus": 15.0}
    assert newest(stage, "fleet:collection_success") == {}
    assert newest(stage, "fleet:data_age_seconds") == {}
    stage.context.watermarks.advance("eu-1", T0, with_data=["fleet:things"])
    done = Outcome(T0, answered=True, duration_seconds=0.25, clock_offset_ms=-1_500)
    stage.context.health.ended("eu-1", done, None)
    own.write(T0 + STEP)
    prometheus = "source=prometheus"
    assert newest(stage, "fleet:collection_success") == {prometheus: 1.0}
    assert newest(stage, "fleet:collection_duration_seconds") == {prometheus: 0.25}
    assert newest(stage, "fleet:data_age_seconds") == {prometheus: 15.0}
    name = "fleet:collection_last_success_timestamp_seconds"
    assert newest(stage, name) == {prometheus: T0 / 1000}
    assert newest(stage, "fleet:cluster_clock_offset_seconds") == {"": -1.5}
    stage.context.health.ended("eu-1", Outcome(T0, False, "refused", "refused"), None)
    own.write(T0 + 2 * STEP)
    assert newest(stage, "fleet:collection_success") == {prometheus: 0.0}
    assert newest(stage, "fleet:data_age_seconds") == {prometheus: 30.0}


def test_credentials_tell_their_end(stage: Stage):
    """The end of a token is there whether the cluster answers or not."""
    token = jwt({"exp": 1_800_000_000})
    prometheus = {"url": "http://127.0.0.1:1", "auth": {"bearer_token": token}}
    series(stage, registry("eu-1", prometheus=prometheus)).write(T0)
    assert newest(stage, "fleet:credential_expiry_timestamp_seconds") == {
        "credential=token,source=prometheus": 1_800_000_000.0
    }


def test_a_state_follows_another(stage: Stage):
    """A cluster has one state: the one before ends, also while nothing is asked of the cluster."""
    own = series(stage, registry("eu-1"))
    own.write(T0)
    for _ in range(3):
        stage.context.health.ended("eu-1", Outcome(T0, False, "refused", "refused"), None)
    own.write(T0 + STEP)
    own.write(T0 + 2 * STEP)
    assert stage.samples("fleet:cluster_state") == {
        "state=never": [(0, 1.0), (STEP, "stale")],
        "state=unreachable": [(STEP, 1.0), (2 * STEP, 1.0)],
    }


def test_a_cluster_that_leaves(stage: Stage):
    """The series of a cluster that left the registry end; those of the others go on."""
    own = series(stage, registry("eu-1", "eu-2"))
    own.write(T0)
    own.freshness.apply(registry("eu-2"))
    own.write(T0 + STEP)
    assert set(newest(stage, "fleet:cluster_info", cluster="eu-1").values()) == {"stale"}
    assert set(newest(stage, "fleet:cluster_info", cluster="eu-2").values()) == {1.0}
    assert set(newest(stage, "fleet:cluster_state", cluster="eu-1").values()) == {"stale"}


def test_empty_bindings_are_counted(stage: Stage):
    """Empty answers count while the cluster has what the metric is made of."""
    own = series(stage, registry("eu-1"))
    lost, away = Served(T0, 4, present=True), Served(T0, 4, present=False)
    stage.context.health.serve("eu-1", {"fleet:m": lost, "fleet:n": away})
    own.write(T0)
    assert newest(stage, "fleet:binding_empty_cycles") == {"metric=fleet:m": 4.0}
    stage.context.health.serve("eu-1", {"fleet:m": Served(T0, 0, present=True)})
    own.write(T0 + STEP)
    assert newest(stage, "fleet:binding_empty_cycles") == {"metric=fleet:m": "stale"}


def test_versions(stage: Stage):
    """The API server's newest minor version, and the kubelets' oldest."""
    versions = {"apiserver": ["v1.30.2", "v1.31.0"], "kubelet": ["v1.29.9", "v1.31.1", "strange"]}
    for component, texts in versions.items():
        for text in texts:
            put(
                stage,
                "fleet:cluster_version_info",
                1.0,
                "eu-1",
                component=component,
                git_version=text,
            )
    series(stage, registry("eu-1")).write(T0)
    assert newest(stage, "fleet:cluster_kubernetes_minor") == {"": 31.0}
    assert newest(stage, "fleet:kubelet_minor") == {"": 29.0}


@pytest.mark.parametrize(
    ("cluster", "places", "text"),
    [
        ("eu-1", ({"provider_region": "eu-west-1"},), ""),
        ("eu-1", ({"provider_region": "eu-west-1", "zone": "eu-west-1a"}, {}), ""),
        ("eu-1", ({"zone": "eu-west-1a"},), ""),
        ("eu-1", ({"zone": "rack-7"},), ""),
        ("us-1", ({"zone": "eu-west-1a"},), "provider_region 'eu-west-1' is in 'europe'"),
        (
            "eu-1",
            ({"provider_region": "eu-west-1"}, {"zone": "us-east-1b"}),
            "eu-west-1, us-east-1",
        ),
    ],
)
def test_places_of_nodes(stage: Stage, cluster: str, places: tuple[dict[str, str], ...], text: str):
    """Nodes in another region than the cluster's, or in several, are told; it stays where it is."""
    for place in places:
        put(stage, "fleet:cluster_nodes", 3.0, cluster, **place)
    series(stage, registry(cluster)).write(T0)
    said = stage.context.health.get(cluster).place
    assert text in said
    assert bool(said) == bool(text)


def test_nodes_elsewhere_than_the_registry_says(stage: Stage):
    """A cluster's own `provider_region` is compared with what its nodes say, however spelled."""
    labels = {"provider_region": "West Europe"}
    own = series(stage, registry("eu-1", labels=labels))
    put(stage, "fleet:cluster_nodes", 3.0, "eu-1", provider_region="westeurope")
    own.write(T0)
    assert stage.context.health.get("eu-1").place == ""
    other = T0 + 6 * 60_000
    put(stage, "fleet:cluster_nodes", 3.0, "eu-1", other, provider_region="northeurope")
    own.write(other)
    assert "its nodes are in 'northeurope'" in stage.context.health.get("eu-1").place


def test_region_sums(stage: Stage):
    """A region has what its clusters have together; what one had last counts for an hour."""
    for cluster, cores in (("eu-1", 10.0), ("eu-2", 4.0), ("us-1", 1.0)):
        put(stage, "fleet:namespace_cpu_requests_cores", cores / 2, cluster, namespace="a")
        put(stage, "fleet:namespace_cpu_requests_cores", cores / 2, cluster, namespace="b")
        put(stage, "fleet:cluster_cpu_allocatable_cores", 2 * cores, cluster)
    clusters = registry("eu-1", "eu-2", "us-1", capacity={"cpu_cores": 12})
    own = series(stage, clusters)
    own.write(T0)
    europe, place = "europe", "group=shop,role=active"
    assert newest(stage, "fleet:region_cpu_requests_cores", region=europe) == {place: 14.0}
    assert newest(stage, "fleet:region_cpu_requests_cores", region="us") == {place: 1.0}
    assert newest(stage, "fleet:region_cpu_allocatable_cores", region=europe) == {place: 28.0}
    assert newest(stage, "fleet:region_cpu_max_cores", region=europe) == {place: 32.0}
    assert newest(stage, "fleet:region_memory_requests_bytes") == {}
    put(stage, "fleet:cluster_cpu_allocatable_cores", 7.0, "eu-1", T0 + 3_000_000)
    own.write(T0 + 3_000_000)
    assert newest(stage, "fleet:region_cpu_allocatable_cores", region=europe) == {place: 15.0}
    own.write(T0 + 3_660_000)
    assert newest(stage, "fleet:region_cpu_allocatable_cores", region=europe) == {place: 7.0}
    assert newest(stage, "fleet:region_cpu_requests_cores", region=europe) == {place: "stale"}


def test_workloads(stage: Stage):
    """The first rule that says something of a workload counts; others have no series."""
    for workload, namespace in (("api", "pay-eu"), ("web", "pay-eu"), ("web", "shop")):
        put(
            stage,
            "fleet:workload_replicas_desired",
            1.0,
            "eu-1",
            namespace=namespace,
            workload=workload,
        )
    rules = [
        {"match": {"namespace": "pay-.*", "workload": "api"}, "criticality": "high"},
        {"match": {"namespace": "pay-.*"}, "placement": "eu-only", "criticality": "low"},
    ]
    series(stage, registry("eu-1", workloads=rules)).write(T0)
    assert set(stage.samples("fleet:workload_info")) == {
        "criticality=high,namespace=pay-eu,placement=eu-only,workload=api",
        "criticality=low,namespace=pay-eu,placement=eu-only,workload=web",
    }


def test_steady_names_are_kept(stage: Stage):
    """While nothing changes no series is named again."""
    own = series(stage, registry("eu-1", "eu-2"))
    own.write(T0)
    before, live = stage.store.series_count, own._live.copy()
    own.write(T0 + STEP)
    assert stage.store.series_count == before
    assert own._live.tolist() == live.tolist()
    times = [at for at, _ in stage.samples("fleet:cluster_info", cluster="eu-1").popitem()[1]]
    assert times == [0, STEP]


def test_a_store_that_is_behind(stage: Stage):
    """What is not taken is left out, and what was to end then ends later."""
    own = series(stage, registry("eu-1", "eu-2"))
    own.write(T0)
    own.freshness.apply(registry("eu-2"))
    stage.accepting[0] = False
    own.write(T0 + STEP)
    stage.accepting[0] = True
    own.write(T0 + 2 * STEP)
    ended = stage.samples("fleet:cluster_info", cluster="eu-1").popitem()[1]
    assert ended == [(0, 1.0), (2 * STEP, "stale")]


def test_each_instant_is_written_once(stage: Stage):
    """The loop writes at every instant of the grid, once."""
    own = series(stage, registry("eu-1"))
    stopping = threading.Event()
    stopping.set()
    for _ in range(6):
        own.step(stopping)
        stage.clock[0] += STEP // 2
    times = [at for at, _ in stage.samples("fleet:cluster_info").popitem()[1]]
    assert times == [0, STEP, 2 * STEP]


def test_the_collector_writes_them(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    """A running collector writes what it knows, of clusters that do not answer as well."""
    collector = Collector(registry("eu-1"), profile("m"), stage.context)
    monkeypatch.setattr("aggregator.collect.registry_series._SHORTEST_MS", 100)
    collector.start()
    try:
        wait_until(lambda: stage.samples("fleet:cluster_info"), 10, "the cluster's labels")
        collector.apply(Registry([], CollectSettings()))
        stage.clock[0] += 60_000
        wait_until(lambda: "stale" in newest(stage, "fleet:cluster_info").values(), 20, "its end")
    finally:
        collector.stop()
