"""Alerts move as Prometheus moves them, and missing data does not move them."""

import itertools
import json
import random
import subprocess
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from aggregator.model.alerts import ActiveAlert, AlertState
from aggregator.rules.state import (
    RESOLVED_RETENTION_MS,
    Observation,
    Timing,
    held,
    seen,
    unseen,
)
from tests.servers import binary

MINUTE = 60_000
LABELS = (("alertname", "A"), ("cluster", "eu-1"))
NOTHING = Observation(1.0, ())

timings = st.builds(
    Timing,
    st.integers(0, 4).map(lambda steps: steps * MINUTE),
    st.integers(0, 4).map(lambda steps: steps * MINUTE),
)
histories = st.lists(st.sampled_from(["seen", "unseen", "held"]), max_size=60)


def _run(history: list[str], timing: Timing) -> list[ActiveAlert | None]:
    alert: ActiveAlert | None = None
    states = []
    for step, event in enumerate(history, start=1):
        time_ms = step * MINUTE
        if event == "seen":
            alert = seen(LABELS, alert, NOTHING, time_ms, timing)
        elif alert is not None:
            gone = unseen(alert, time_ms, timing)
            alert = held(alert, time_ms, "no data") if event == "held" else gone
        states.append(alert)
    return states


@given(histories, timings)
def test_an_alert_fires_after_for_and_not_before(history: list[str], timing: Timing) -> None:
    """A firing alert has been active for at least `for`, a pending one for less, as last seen."""
    for alert, event in zip(_run(history, timing), history, strict=True):
        if alert is None or event != "seen":
            continue
        now = alert.fired_at_ms or alert.active_at_ms
        assert alert.state in (AlertState.PENDING, AlertState.FIRING)
        if alert.state is AlertState.FIRING:
            assert now - alert.active_at_ms >= timing.for_ms


@given(histories, timings)
def test_held_alerts_do_not_move(history: list[str], timing: Timing) -> None:
    """Without data an alert keeps its state and its times; only that it is held changes."""
    states = _run(history, timing)
    for before, after, event in zip(states, states[1:], history[1:], strict=False):
        if event != "held" or before is None or before.state is AlertState.RESOLVED:
            continue
        assert after is not None
        assert (after.state, after.active_at_ms, after.fired_at_ms) == (
            before.state,
            before.active_at_ms,
            before.fired_at_ms,
        )
        assert after.held_since_ms > 0


@given(histories, timings)
def test_a_firing_alert_never_vanishes(history: list[str], timing: Timing) -> None:
    """What fired is resolved before it is forgotten, and is remembered as resolved for a while."""
    states = _run(history, timing)
    for before, after in itertools.pairwise(states):
        if before is not None and before.state is AlertState.FIRING:
            assert after is not None
    for step, alert in enumerate(states, start=1):
        if alert is not None and alert.state is AlertState.RESOLVED:
            assert step * MINUTE - alert.resolved_at_ms <= RESOLVED_RETENTION_MS


@given(st.lists(st.booleans(), max_size=40), timings)
def test_holding_only_adds_time(visible: list[bool], timing: Timing) -> None:
    """An alert held in the middle of its life ends as it would have ended without the hold."""
    plain = ["seen" if each else "unseen" for each in visible]
    states = _run(plain, timing)
    if states and states[-1] is not None and states[-1].state is AlertState.FIRING:
        resumed = _run([*plain, *["held"] * 200, "seen"], timing)[-1]
        assert resumed is not None
        assert resumed.state is AlertState.FIRING
        assert resumed.fired_at_ms == states[-1].fired_at_ms


def test_firing_is_prometheuss(tmp_path: Path) -> None:
    """Over random series, with `for` and `keep_firing_for`, the same alerts fire in promtool."""
    random.seed(7)
    rules, series, tests = [], [], []
    for number, (wait, keep) in enumerate([(0, 0), (2, 0), (0, 3), (2, 3), (5, 1)]):
        timing = Timing(wait * MINUTE, keep * MINUTE)
        visible = [random.random() < 0.75 for _ in range(60)]
        rules.append(
            {
                "alert": f"A{number}",
                "expr": f"x{number} > 0",
                "for": f"{wait}m",
                "keep_firing_for": f"{keep}m",
            }
        )
        values = " ".join("1" if each else "0" for each in visible)
        series.append({"series": f"x{number}", "values": values})
        # promtool evaluates at 0 too; our instants start one step later, which shifts nothing
        states = _run(["seen" if each else "unseen" for each in visible], timing)
        for step, alert in enumerate(states):
            firing = alert is not None and alert.state is AlertState.FIRING
            expected = [{"exp_labels": {}}] if firing else []
            tests.append(
                {"alertname": f"A{number}", "eval_time": f"{step}m", "exp_alerts": expected}
            )
    (tmp_path / "rules.json").write_text(json.dumps({"groups": [{"name": "g", "rules": rules}]}))
    test = {"interval": "1m", "input_series": series, "alert_rule_test": tests}
    document = {"rule_files": ["rules.json"], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "tests.json").write_text(json.dumps(document))
    done = subprocess.run(
        [binary("promtool"), "test", "rules", "tests.json"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[:4000] + done.stderr


def test_a_reason_ends_an_alert_at_once() -> None:
    """A cluster that leaves ends its alerts with that reason, whatever `keep_firing_for` says."""
    firing = seen(LABELS, None, NOTHING, MINUTE, Timing())
    ended = unseen(firing, 2 * MINUTE, Timing(0, 10 * MINUTE), "cluster eu-1 is not registered")
    assert ended is not None
    assert (ended.state, ended.reason) == (AlertState.RESOLVED, "cluster eu-1 is not registered")
