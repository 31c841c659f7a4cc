"""Runs every group in a thread of its own, a few at a time."""

import threading
from collections.abc import Sequence

from aggregator import telemetry
from aggregator.model.alerts import Alert
from aggregator.rules.groups import RuleGroup, rule_keys
from aggregator.rules.runner import GroupReport, GroupRunner, Tools, count_states
from aggregator.supervise import Loop

_POLL_SECONDS = 0.25
_AT_ONCE = 2


class RuleScheduler:
    """All rule groups; waits for data, not for each other."""

    def __init__(self, groups: Sequence[RuleGroup], tools: Tools) -> None:
        self._tools = tools
        self._turns = threading.BoundedSemaphore(_AT_ONCE)
        self._known = [key for group in groups for key in rule_keys(group)]
        self._runners = [GroupRunner(group, tools) for group in groups]
        self._loops = [self._loop(runner) for runner in self._runners]

    def start(self) -> None:
        """Resolve the alerts of rules that are gone, then start evaluating."""
        now_ms = self._tools.now_ms()
        gone = [
            Alert(alert.labels, (("ended", "the rule was removed"),), alert.fired_at_ms, now_ms)
            for alert in self._tools.states.keep_only(self._known)
        ]
        if gone:
            self._tools.notify(gone)
        for loop in self._loops:
            loop.start()

    def stop(self) -> bool:
        """Stop evaluating; return whether every thread ended in time."""
        stopped = [loop.stop() for loop in self._loops]
        return all(stopped)

    def reports(self) -> list[GroupReport]:
        """Return the last evaluation of every group, in the order of the files."""
        return [runner.report() for runner in self._runners]

    def _loop(self, runner: GroupRunner) -> Loop:
        def step(stopping: threading.Event) -> None:
            with self._turns:
                runner.step(stopping)
            for state, count in count_states(self.reports()).items():
                telemetry.ALERTS.labels(state).set(count)
            stopping.wait(_POLL_SECONDS)

        return Loop(f"rules {runner.group.name}", step)
