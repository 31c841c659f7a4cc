"""When a receiver needs to hear of a group."""

import pytest

from aggregator.notify.dedup import is_news
from aggregator.state.notifications import Notified

REPEAT = 1_000


def _state(time_ms: int, firing: str, resolved: str = "") -> Notified:
    return Notified(time_ms, frozenset(firing), frozenset(resolved))


@pytest.mark.parametrize(
    ("before", "after", "send_resolved", "news"),
    [
        (None, _state(0, "a"), True, True),
        (None, _state(0, "", "a"), True, False),
        (_state(0, "a"), _state(1, "a"), True, False),
        (_state(0, "a"), _state(1, "ab"), True, True),
        (_state(0, "ab"), _state(1, "a"), True, False),
        (_state(0, "ab"), _state(1, "a", "b"), True, True),
        (_state(0, "ab"), _state(1, "a", "b"), False, False),
        (_state(0, "a", "b"), _state(1, "a", "b"), True, False),
        (_state(0, "a"), _state(1, "", "a"), True, True),
        (_state(0, "a"), _state(1, "", "a"), False, False),
        (_state(0, "", "a"), _state(1, "", "a"), True, False),
        (_state(0, "", "a"), _state(5 * REPEAT, "", "a"), True, False),
        (_state(0, "", "a"), _state(1, "a"), True, True),
        (_state(0, "a"), _state(REPEAT - 1, "a"), True, False),
        (_state(0, "a"), _state(REPEAT, "a"), True, True),
    ],
)
def test_news_are_new_alerts_ends_and_repeats(
    before: Notified | None, after: Notified, send_resolved: bool, news: bool
) -> None:
    """As in Alertmanager: what was told already is not told again before repeat_interval."""
    assert is_news(before, after, REPEAT, send_resolved) is news
