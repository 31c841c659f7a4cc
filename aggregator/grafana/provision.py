"""Compares what we want in Grafana with what it has, and writes the difference."""

from collections.abc import Sequence

from grafana_client import GrafanaApi

from aggregator.bundled import bundled_files
from aggregator.errors import GrafanaError
from aggregator.grafana.connect import connect, read_token
from aggregator.grafana.objects import (
    Action,
    Change,
    Dashboard,
    DataSource,
    Folder,
    Wanted,
    load_dashboards,
)
from aggregator.grafana.settings import GrafanaSettings


def bundled_dashboards() -> tuple[Dashboard, ...]:
    """Return the dashboards that come with the aggregator. Raises `ConfigError`."""
    return load_dashboards(bundled_files("dashboards", "*.json"))


def wanted(
    settings: GrafanaSettings, external_url: str, dashboards: Sequence[Dashboard]
) -> tuple[Wanted, ...]:
    """Return what is to be in Grafana, in the order of writing. Raises `GrafanaError`."""
    url = str(settings.datasource_url or f"{external_url}/prometheus")
    path = settings.datasource_token_file
    token = "" if path is None else read_token(path)
    return (Folder(settings.folder), DataSource(url, token), *dashboards)


def plan(settings: GrafanaSettings, objects: Sequence[Wanted]) -> list[Change]:
    """Return what `apply` would do, writing nothing. Raises `GrafanaError`."""
    with connect(settings) as api:
        return [each.decide(api) for each in objects]


def apply(settings: GrafanaSettings, objects: Sequence[Wanted]) -> list[Change]:
    """Create and update what differs; return what was done. Raises `GrafanaError`.

    A second run writes nothing.
    """
    with connect(settings) as api:
        return [_settle(api, each) for each in objects]


def _settle(api: GrafanaApi, each: Wanted) -> Change:
    change = each.decide(api)
    if change.action not in (Action.CREATE, Action.UPDATE):
        return change
    try:
        each.write(api, change)
    except GrafanaError as error:
        if error.kind != "conflict":
            raise
        # Somebody was faster: look again, and write once more if it is still needed.
        change = each.decide(api)
        if change.action in (Action.CREATE, Action.UPDATE):
            each.write(api, change)
    return change
