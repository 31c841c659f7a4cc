"""A webhook with Alertmanager's payload, version 4."""

from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Self

import orjson
import requests
from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from aggregator.errors import ConfigError, NotifyError
from aggregator.model.alerts import Alert, LabelSet
from aggregator.notify.notification import Notification
from aggregator.settings import Duration, Settings, parse_duration_ms
from aggregator.sources.outbound import BoundedSession

_MAX_ANSWER_BYTES = 65_536
_MAX_URL_BYTES = 8_192
_NEVER = "0001-01-01T00:00:00Z"  # Go's zero time: the alert has not ended
_URL = TypeAdapter(AnyHttpUrl)


def _is_url(value: SecretStr) -> SecretStr:
    try:
        _URL.validate_python(value.get_secret_value())
    except ValidationError:
        raise ValueError("is not an http or https URL") from None
    return value


class WebhookSettings(Settings):
    """Where to post; the URL is a secret, for it often contains one."""

    url: Annotated[SecretStr, AfterValidator(_is_url)] | None = None
    url_file: Path | None = None
    ca_file: Path | None = None
    max_alerts: Annotated[int, Field(ge=0)] = 0
    send_resolved: bool = True
    timeout: Annotated[Duration, Field(ge=100)] = parse_duration_ms("10s")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.url is None) == (self.url_file is None):
            raise ValueError("give exactly one of url and url_file")
        return self


class Webhook:
    """Posts notifications to one address."""

    def __init__(self, name: str, settings: WebhookSettings) -> None:
        """Prepare the receiver *name*. Raises `ConfigError` if the CA file cannot be used."""
        self.name, self._settings = name, settings
        try:
            self._http = BoundedSession(
                timeout_seconds=settings.timeout / 1000,
                max_bytes=_MAX_ANSWER_BYTES,
                ca_file=settings.ca_file,
            )
        except OSError as error:
            message = f"{name}: {settings.ca_file} cannot be used ({error.strerror or error})"
            raise ConfigError(message, path="notify.receivers") from error

    def notify(self, notification: Notification) -> None:
        """Send *notification*, or raise `NotifyError` and say whether to try again."""
        body = orjson.dumps(payload(notification, self._settings.max_alerts))
        headers = {"Content-Type": "application/json"}
        try:
            response = self._http.post(self._url(), data=body, headers=headers)
        except (requests.RequestException, OSError, ValueError) as error:
            # The message could contain the URL, and the URL a token.
            raise NotifyError(self.name, type(error).__name__, retryable=True) from None
        if not 200 <= response.status_code < 300:
            retryable = response.status_code in (408, 429) or response.status_code >= 500
            raise NotifyError(self.name, f"HTTP {response.status_code}", retryable=retryable)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _url(self) -> str:
        """Return the address, read again each time. Raises OSError or ValueError."""
        url, path = self._settings.url, self._settings.url_file
        if path is None:
            return "" if url is None else url.get_secret_value()
        with path.open("rb") as file:
            text = file.read(_MAX_URL_BYTES).decode().strip()
        return str(_URL.validate_python(text))


def payload(notification: Notification, max_alerts: int = 0) -> dict[str, Any]:
    """Return what Alertmanager would post; *max_alerts* 0 sends all of the alerts."""
    alerts = notification.alerts
    shown = alerts[:max_alerts] if max_alerts else alerts
    firing = any(not alert.resolved for alert in alerts)
    return {
        "receiver": notification.receiver,
        "status": "firing" if firing else "resolved",
        "alerts": [_alert(alert) for alert in shown],
        "groupLabels": dict(notification.group_labels),
        "commonLabels": _common([alert.labels for alert in shown]),
        "commonAnnotations": _common([alert.annotations for alert in shown]),
        "externalURL": notification.external_url,
        "version": "4",
        "groupKey": notification.group_key,
        "truncatedAlerts": len(alerts) - len(shown),
    }


def _alert(alert: Alert) -> dict[str, Any]:
    return {
        "status": "resolved" if alert.resolved else "firing",
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "startsAt": _time(alert.starts_at_ms),
        "endsAt": _time(alert.ends_at_ms) if alert.resolved else _NEVER,
        "generatorURL": alert.generator_url,
        "fingerprint": alert.fingerprint,
    }


def _common(sets: list[LabelSet]) -> dict[str, str]:
    shared = reduce(lambda left, right: left & right, (set(each) for each in sets))
    return dict(sorted(shared))


def _time(time_ms: int) -> str:
    """Return a time as Go writes it: RFC 3339, no trailing zeros of a second's fraction."""
    seconds, milliseconds = divmod(time_ms, 1000)
    fraction = f".{milliseconds:03d}".rstrip("0") if milliseconds else ""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"
