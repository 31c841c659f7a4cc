"""The root of `fleet.yaml`: each block belongs to the package that declares its settings."""

from typing import Annotated

from pydantic import Field

from aggregator.api.settings import ApiSettings
from aggregator.fleet.settings import ClusterSettings, CollectSettings, WorkloadRule
from aggregator.grafana.settings import GrafanaSettings
from aggregator.notify.settings import NotifySettings
from aggregator.rules.settings import RulesSettings
from aggregator.settings import Settings
from aggregator.store.settings import StoreSettings


class FleetConfig(Settings):
    """Everything `fleet.yaml` and the files it includes may say."""

    include: tuple[str, ...] = ()
    clusters: Annotated[tuple[ClusterSettings, ...], Field(max_length=10_000)] = ()
    collect: CollectSettings = CollectSettings()
    workloads: Annotated[tuple[WorkloadRule, ...], Field(max_length=1_000)] = ()
    store: StoreSettings = StoreSettings()
    rules: RulesSettings = RulesSettings()
    notify: NotifySettings | None = None
    grafana: GrafanaSettings | None = None
    api: ApiSettings = ApiSettings()


# Blocks and keys that the format has a place for but this version does not act on. Silence would
# be a lie, so using one is an error. `*` stands for any list index.
NOT_AVAILABLE: tuple[tuple[str, ...], ...] = (
    ("workloads", "*", "replicas_in"),
    ("dns",),
    ("clusters", "*", "tempo"),
    ("clusters", "*", "push"),
    ("clusters", "*", "residency"),
    ("clusters", "*", "ingress_addresses"),
    ("clusters", "*", "prometheus", "auth", "oauth2"),
    ("collect", "backfill"),
    ("notify", "inhibit_rules"),
    ("notify", "time_intervals"),
    ("notify", "heartbeat"),
    ("grafana", "enforce"),
)

# Blocks that only a restart applies; a reload keeps their running values and says so.
NEEDS_RESTART: tuple[str, ...] = ("store", "api", "rules", "notify", "grafana")
