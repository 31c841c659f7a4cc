"""The webhook sends what Alertmanager sends, and never says where to."""

import json
import socket
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from pydantic import SecretStr

from aggregator.errors import NotifyError
from aggregator.model.alerts import Alert, label_set
from aggregator.notify.notification import Notification
from aggregator.notify.receivers.webhook import Webhook, WebhookSettings, payload
from tests.servers import Request, Response, alertmanager, free_port, scripted, wait_until

START, END = 1_700_000_000_120, 1_700_000_060_000
FIRING = Alert(
    label_set({"alertname": "A", "region": "eu", "cluster": "eu-1", "severity": "critical"}),
    label_set({"summary": "x", "runbook": "y"}),
    START,
)
ENDED = Alert(
    label_set({"alertname": "A", "region": "eu", "cluster": 'eu "2"\n', "severity": "critical"}),
    label_set({"summary": "x", "runbook": "z"}),
    START,
    END,
)


def _notification(*alerts: Alert) -> Notification:
    labels = label_set({"alertname": "A", "region": "eu"})
    return Notification("pager", '{}:{alertname="A", region="eu"}', labels, alerts, "http://a")


def _webhook(url: str, timeout_ms: int = 5_000) -> Webhook:
    return Webhook("pager", WebhookSettings(url=SecretStr(url), timeout=timeout_ms))


def test_the_payload_is_alertmanagers(tmp_path: Path) -> None:
    """A real Alertmanager, given the same alerts, posts the same JSON (but for its address)."""
    received: list[dict] = []

    def answer(request: Request) -> Response:
        received.append(json.loads(request.body))
        return Response(200)

    with scripted(answer) as hook:
        config = {
            "route": {
                "receiver": "pager", "group_by": ["alertname", "region"],
                "group_wait": "1s", "group_interval": "1s", "repeat_interval": "1h",
            },
            "receivers": [{"name": "pager", "webhook_configs": [{"url": hook.url + "/hook"}]}],
        }  # fmt: skip
        with alertmanager(tmp_path, json.dumps(config)) as server:
            start = int(time.time() * 1000)  # both wait group_wait, and come together
            alerts = [Alert(each.labels, each.annotations, start) for each in (FIRING, ENDED)]
            _post(server.url, alerts)
            wait_until(lambda: received, 20, "Alertmanager's notification")
            ended = Alert(ENDED.labels, ENDED.annotations, start, int(time.time() * 1000))
            _post(server.url, [ended])
            wait_until(lambda: len(received) > 1, 20, "Alertmanager's second notification")
        ours = [_notification(*alerts), _notification(alerts[0], ended)]
        _webhook(hook.url + "/hook").notify(ours[0])
        theirs_then_ours = [received[0], received[-1]]
    for theirs, notification in zip(received[:2], ours, strict=True):
        theirs["externalURL"] = "http://a"
        theirs["alerts"].sort(key=lambda alert: alert["labels"]["cluster"], reverse=True)
        mine = json.loads(json.dumps(payload(notification)))
        mine["alerts"].sort(key=lambda alert: alert["labels"]["cluster"], reverse=True)
        assert mine == theirs
    assert list(theirs_then_ours[1]) == list(theirs_then_ours[0])  # even in its order


def _post(url: str, alerts: list[Alert]) -> None:
    bodies = [
        {
            "labels": dict(alert.labels),
            "annotations": dict(alert.annotations),
            "startsAt": payload(_notification(alert))["alerts"][0]["startsAt"],
        }
        | (
            {"endsAt": payload(_notification(alert))["alerts"][0]["endsAt"]}
            if alert.ends_at_ms
            else {}
        )
        for alert in alerts
    ]
    request = urllib.request.Request(  # noqa: S310  always http
        f"{url}/api/v2/alerts",
        json.dumps(bodies).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310  always http
        assert response.status == 200


def test_common_labels_are_what_all_alerts_share() -> None:
    """A label or annotation that differs is not common; times are written as Go writes them."""
    body = payload(_notification(FIRING, ENDED))
    assert body["commonLabels"] == {"alertname": "A", "region": "eu", "severity": "critical"}
    assert body["commonAnnotations"] == {"summary": "x"}
    assert body["status"] == "firing"
    assert [alert["endsAt"] for alert in body["alerts"]] == [
        "0001-01-01T00:00:00Z",
        "2023-11-14T22:14:20Z",
    ]
    assert body["alerts"][0]["startsAt"] == "2023-11-14T22:13:20.12Z"


def test_long_notifications_are_cut() -> None:
    """`max_alerts` bounds the payload and says how many alerts are left out."""
    body = payload(_notification(FIRING, ENDED), 1)
    assert (len(body["alerts"]), body["truncatedAlerts"]) == (1, 1)


@pytest.mark.parametrize(
    ("status", "retryable"),
    [(302, False), (400, False), (401, False), (404, False), (408, True), (429, True), (500, True)],
)
def test_statuses_say_whether_to_try_again(status: int, retryable: bool) -> None:
    """Overload and server errors are worth another try, a refusal or a redirect is not."""
    location = {"Location": "http://127.0.0.1:9/s3cret"}
    with scripted(lambda _: Response(status, headers=location)) as hook:
        with pytest.raises(NotifyError, match=f"HTTP {status}") as caught:
            _webhook(hook.url + "/s3cret").notify(_notification(FIRING))
        assert caught.value.retryable is retryable
        assert "s3cret" not in str(caught.value)
        assert len(hook.requests) == 1


def test_a_refused_connection_is_retryable_and_nameless() -> None:
    """A failed connection names the error's type, not the URL, and its cause is not chained."""
    with pytest.raises(NotifyError) as caught:
        _webhook(f"http://127.0.0.1:{free_port()}/s3cret").notify(_notification(FIRING))
    assert caught.value.retryable
    assert str(caught.value) == "receiver pager: ConnectionError"
    assert caught.value.__suppress_context__


def test_a_slow_receiver_ends_at_the_deadline() -> None:
    """A server that trickles header bytes holds us no longer than the total deadline."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def trickle() -> None:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(5)
                while not stop.wait(0.05):
                    try:
                        connection.sendall(b"H")
                    except OSError:
                        return

        thread = threading.Thread(target=trickle)
        thread.start()
        began = time.monotonic()
        try:
            with pytest.raises(NotifyError, match="Timeout"):
                _webhook(f"http://127.0.0.1:{server.getsockname()[1]}/", 500).notify(
                    _notification(FIRING)
                )
            assert time.monotonic() - began < 2.0
        finally:
            stop.set()
            thread.join(5)


def test_a_huge_answer_is_not_read() -> None:
    """What a receiver answers is bounded."""
    with (
        scripted(lambda _: Response(200, b"x" * 10**6)) as hook,
        pytest.raises(NotifyError, match="TooLarge"),
    ):
        _webhook(hook.url).notify(_notification(FIRING))


def test_the_url_file_is_read_each_time(tmp_path: Path) -> None:
    """A changed file is used by the next notification, a missing or wrong one is retried."""
    file = tmp_path / "url"
    hook = Webhook("pager", WebhookSettings(url_file=file))
    with scripted(lambda _: Response(204)) as server:
        file.write_text(server.url + "/a\n")
        hook.notify(_notification(FIRING))
        file.write_text(server.url + "/b\n")
        hook.notify(_notification(FIRING))
        assert [request.path for request in server.requests] == ["/a", "/b"]
    for content in ("not a url", None):
        file.unlink() if content is None else file.write_text(content)
        with pytest.raises(NotifyError) as caught:
            hook.notify(_notification(FIRING))
        assert caught.value.retryable
    hook.close()
