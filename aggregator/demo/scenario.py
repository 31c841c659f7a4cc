"""What happens in the simulated fleet: a list of switches with their times, kept in one file."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

import numpy as np

from aggregator.errors import ConfigError
from aggregator.model.arrays import Floats, Ints


class Scenario(Enum):
    """What the fleet can be told to do."""

    CALM = "calm"
    EUROPE_SLOW = "europe-slow"


@dataclass(frozen=True, slots=True)
class Switch:
    """From `time_ms` on the fleet plays `scenario`."""

    time_ms: int
    scenario: Scenario


@dataclass(frozen=True, slots=True)
class Stage:
    """One consequence of an incident: it begins `delay` s after it and takes `ramp` s to unfold."""

    name: str
    delay_seconds: float
    ramp_seconds: float


# After a rollout a database pool saturates; latency and errors rise; restarts follow.
POOL = Stage("pool", 30, 120)
LATENCY = Stage("latency", 90, 150)
ERRORS = Stage("errors", 150, 150)
RESTARTS = Stage("restarts", 300, 120)
STAGES = (POOL, LATENCY, ERRORS, RESTARTS)
_RECOVERY_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Curve:
    """A continuous, piecewise linear function of time, and its integral.

    `times` (s) ascend; outside them the function keeps its first and last value.
    """

    times: Floats
    values: Floats

    def at(self, seconds: Floats) -> Floats:
        """Return the value at each time."""
        return np.interp(seconds, self.times, self.values)

    def integral(self, seconds: Floats) -> Floats:
        """Return the integral from the first knot to each time, exact; 0 before it."""
        widths = np.diff(self.times)
        areas = np.concatenate(
            [[0.0], np.cumsum(widths * (self.values[1:] + self.values[:-1]) / 2)]
        )
        knot = np.clip(np.searchsorted(self.times, seconds, side="right") - 1, 0, None)
        within = np.maximum(seconds - self.times[knot], 0.0)
        mean = (self.values[knot] + self.at(seconds)) / 2
        return np.where(seconds < self.times[0], 0.0, areas[knot] + within * mean)


def curve(switches: Sequence[Switch], stage: Stage) -> Curve:
    """Return how strongly *stage* shows over time, between 0 and 1."""
    times, values = [0.0], [0.0]

    def reach(begin: float, end: float, target: float) -> None:
        """Stay at the present value until *begin*, then move to *target* by *end*."""
        level = float(np.interp(begin, times, values))
        while times and times[-1] >= begin:
            times.pop()
            values.pop()
        times.extend((begin, end))
        values.extend((level, target))

    for switch in sorted(switches, key=lambda switch: switch.time_ms):
        begin = switch.time_ms / 1000
        if switch.scenario is Scenario.EUROPE_SLOW:
            start = begin + stage.delay_seconds
            reach(start, start + stage.ramp_seconds, 1.0)
        else:
            reach(begin, begin + _RECOVERY_SECONDS, 0.0)
    return Curve(np.array(times), np.array(values))


def load_switches(file: Path) -> tuple[Switch, ...]:
    """Read the switches; none if there is no file. Raises ConfigError if it cannot be read."""
    try:
        rows = json.loads(file.read_text())
        return tuple(Switch(int(row["time_ms"]), Scenario(row["scenario"])) for row in rows)
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = "is not the list of scenario switches; delete it to begin anew"
        raise ConfigError(message, file=file) from error


def add_switch(file: Path, switch: Switch) -> None:
    """Append *switch* to the file, atomically."""
    rows = [*load_switches(file), switch]
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as draft:
        json.dump(
            [{**asdict(row), "scenario": row.scenario.value} for row in rows], draft, indent=1
        )
    Path(draft.name).replace(file)


def rollouts(switches: Sequence[Switch]) -> Ints:
    """Return when a rollout took place: an incident begins with one, and its end is another."""
    return np.array(sorted(switch.time_ms for switch in switches), dtype=np.int64)
