"""The registry: the clusters of the configuration with the settings that hold for each."""

from aggregator.fleet.registry import Registry
from aggregator.fleet.settings import ClusterSettings, CollectSettings


def registry(**own: object) -> Registry:
    """Return a registry of one cluster with its own settings."""
    cluster = {"name": "a", "region": "r", "prometheus": {"url": "http://localhost:1"}, **own}
    defaults = {"interval": "30s", "raw": [{"match": "up"}], "limits": {"series": 9}}
    return Registry(
        [ClusterSettings.model_validate(cluster)], CollectSettings.model_validate(defaults)
    )


def test_a_cluster_overrides_the_fleet():
    """What a cluster sets holds for it, everything else is the fleet's."""
    [cluster] = registry(collect={"interval": "15s", "limits": {"timeout": "3s"}, "raw": []})
    assert cluster.collect.interval == 15_000
    assert cluster.collect.lag == 5_000
    assert cluster.collect.raw == ()
    assert (cluster.collect.limits.series, cluster.collect.limits.timeout) == (9, 3_000)


def test_equal_settings_make_equal_clusters():
    """Two readings of one configuration are equal, so that a reload disturbs nobody."""
    assert list(registry()) == list(registry())
    assert list(registry()) != list(registry(collect={"lag": "9s"}))


def test_look_up_by_name():
    """A cluster is found by its name."""
    clusters = registry()
    assert clusters.get("a") is next(iter(clusters))
    assert clusters.get("b") is None
    assert len(clusters) == 1
