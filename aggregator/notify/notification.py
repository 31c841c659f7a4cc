"""What a receiver is sent: the alerts of one group, and its form in the outbox."""

from dataclasses import dataclass

import msgspec

from aggregator.model.alerts import Alert, LabelSet


@dataclass(frozen=True, slots=True)
class Notification:
    """The alerts of one group for one receiver, at least one of them."""

    receiver: str
    group_key: str
    group_labels: LabelSet
    alerts: tuple[Alert, ...]
    external_url: str = ""

    def encode(self) -> bytes:
        """Return the notification as bytes for the outbox."""
        return msgspec.json.encode(self)

    @staticmethod
    def decode(body: bytes) -> "Notification":
        """Return the notification that `encode` made *body* of."""
        return msgspec.json.decode(body, type=Notification)
