"""Keeps Grafana as we want it while the aggregator runs."""

import threading

import structlog

from aggregator import telemetry
from aggregator.errors import GrafanaError
from aggregator.grafana.objects import Action
from aggregator.grafana.provision import apply, bundled_dashboards, wanted
from aggregator.grafana.settings import GrafanaSettings
from aggregator.supervise import Loop

_LOG = structlog.get_logger(__name__)
_RETRY_SECONDS = 30.0


class GrafanaKeeper:
    """Applies what we want at the start, at intervals, and sooner after a failure."""

    def __init__(self, settings: GrafanaSettings, external_url: str) -> None:
        """Prepare; *external_url* is our own address. Raises `ConfigError` for broken files."""
        self._settings, self._external_url = settings, external_url
        self._dashboards = bundled_dashboards()
        self._loop = Loop("grafana", self._step)

    def start(self) -> None:
        """Start the first comparison."""
        self._loop.start()

    def stop(self) -> bool:
        """Stop; return whether the thread ended in time."""
        return self._loop.stop(self._settings.timeout / 1000 + 1)

    def _step(self, stopping: threading.Event) -> None:
        try:
            objects = wanted(self._settings, self._external_url, self._dashboards)
            changes = apply(self._settings, objects)
        except GrafanaError as error:
            telemetry.GRAFANA_RUNS.labels(error.kind).inc()
            _LOG.warning("Grafana is not up to date; it will be tried again", error=str(error))
            stopping.wait(min(_RETRY_SECONDS, self._settings.every / 1000))
            return
        telemetry.GRAFANA_RUNS.labels("ok").inc()
        for change in changes:
            if change.action is not Action.KEEP:
                _LOG.info(
                    "Grafana", what=change.what, action=change.action.value, reason=change.reason
                )
        stopping.wait(self._settings.every / 1000)
