"""Settings of notification."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from aggregator.notify.settings import NotifySettings

WEBHOOK = {"name": "r", "webhook": {"url": "http://pager.example/hook?token=s3cret"}}


def _settings(**changes: object) -> NotifySettings:
    return NotifySettings.model_validate(
        {"route": {"receiver": "r"}, "receivers": [WEBHOOK]} | changes
    )


def test_defaults_are_alertmanagers() -> None:
    """Without more words the timers are Alertmanager's."""
    route = _settings().route
    assert (route.group_wait, route.group_interval) == (30_000, 300_000)
    assert (route.repeat_interval, route.group_by) == (4 * 3_600_000, ())


def test_the_url_is_a_secret() -> None:
    """A webhook's URL, which may hold a token, is in no repr."""
    assert "s3cret" not in repr(_settings())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"receivers": [{"name": "r", "pagerduty": {}}]}, "pagerduty is not available"),
        ({"receivers": [{"name": "r", "slack": {}, **WEBHOOK}]}, "slack is not available"),
        ({"receivers": [WEBHOOK, WEBHOOK]}, "same name"),
        ({"receivers": []}, "at least 1"),
        ({"route": {"receiver": "x"}}, "x is not among"),
        ({"route": {"receiver": "r", "routes": []}}, "routes is not available"),
        ({"route": {"receiver": "r", "group_by": ["a-b"]}}, "pattern"),
        ({"receivers": [{"name": "r", "webhook": {}}]}, "exactly one"),
        ({"receivers": [{"name": "r", "webhook": {"url": "ftp://s3cret"}}]}, "not an http"),
        ({"receivers": [{"name": "r", "webhook": {"url": "http://a", "url_file": "b"}}]}, "one of"),
    ],
)
def test_what_does_not_work_is_said(changes: dict[str, object], says: str) -> None:
    """Kinds of later versions, unknown receivers and bad values are errors without secrets."""
    with pytest.raises(ValidationError, match=says) as caught:
        _settings(**changes)
    assert "s3cret" not in str(caught.value)


def test_the_url_may_be_in_a_file(tmp_path: Path) -> None:
    """`url_file` takes the place of `url`."""
    file = tmp_path / "url"
    receivers = [{"name": "r", "webhook": {"url_file": str(file)}}]
    assert _settings(receivers=receivers).receiver.webhook.url_file == file
