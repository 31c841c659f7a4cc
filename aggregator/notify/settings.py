"""Settings of notification, in Alertmanager's words."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from aggregator.notify.receivers.webhook import WebhookSettings
from aggregator.settings import Duration, Name, Settings, parse_duration_ms

LabelName = Annotated[str, Field(pattern=r"^(\.\.\.|[a-zA-Z_][a-zA-Z0-9_]*)$")]
# What Alertmanager can send to and this version cannot.
_LATER = frozenset({
    "discord", "email", "msteams", "opsgenie", "pagerduty", "pushover", "slack", "sns", "telegram",
    "victorops", "webex", "wechat",
})  # fmt: skip


class ReceiverSettings(Settings):
    """Where notifications go."""

    name: Name
    webhook: WebhookSettings

    @model_validator(mode="before")
    @classmethod
    def _kinds(cls, data: object) -> object:
        for kind in sorted(_LATER & set(data)) if isinstance(data, dict) else ():
            raise ValueError(f"{kind} is not available in this version; use webhook")
        return data


class RouteSettings(Settings):
    """How alerts are grouped and how often a receiver hears of a group.

    `group_by: ['...']` makes every label set a group of its own.
    """

    receiver: Name
    group_by: tuple[LabelName, ...] = ()
    group_wait: Duration = parse_duration_ms("30s")
    group_interval: Annotated[Duration, Field(gt=0)] = parse_duration_ms("5m")
    repeat_interval: Annotated[Duration, Field(gt=0)] = parse_duration_ms("4h")

    @model_validator(mode="before")
    @classmethod
    def _one_route(cls, data: object) -> object:
        for key in ("routes", "matchers", "continue", "mute_time_intervals"):
            if isinstance(data, dict) and key in data:
                raise ValueError(f"{key} is not available in this version; there is one route")
        return data


class NotifySettings(Settings):
    """One route, and the receivers it may name."""

    route: RouteSettings
    receivers: Annotated[tuple[ReceiverSettings, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _receiver_exists(self) -> Self:
        names = [receiver.name for receiver in self.receivers]
        if len(set(names)) < len(names):
            raise ValueError("two receivers have the same name")
        if self.route.receiver not in names:
            raise ValueError(f"route.receiver {self.route.receiver} is not among the receivers")
        return self

    @property
    def receiver(self) -> ReceiverSettings:
        """The receiver of the route."""
        return next(each for each in self.receivers if each.name == self.route.receiver)
