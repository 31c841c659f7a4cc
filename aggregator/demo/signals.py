"""Values as a pure function of seed, labels, absolute time and the list of switches.

Every series is a linear combination of a few functions of time (`Basis`), so a whole cluster is
one matrix product. A counter combines their integrals since a fixed epoch, a gauge their values.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from aggregator.demo.scenario import STAGES, Curve, Switch, curve
from aggregator.model.arrays import Bools, Floats, Ints

EPOCH_SECONDS = 1_767_225_600.0  # 2026-01-01: counters began to count here
_DAY = 86_400.0
_PERIODS = {"day": _DAY, "hour": 3_300.0, "swing": 611.0, "flutter": 97.0}

CONSTANT = "constant"
RHYTHM = tuple(f"{name}-{part}" for name in _PERIODS for part in ("sin", "cos"))
BASIS = (CONSTANT, *RHYTHM, *(stage.name for stage in STAGES))


@dataclass(frozen=True, slots=True)
class Signal:
    """How one series behaves: what it is made of, and from when to when it exists.

    `mix` maps names of `BASIS` to coefficients (a counter's are rates per second). `noise` is the
    amplitude of a gauge's jitter; `whole` rounds down, as counts of things do.
    """

    labels: Mapping[str, str]
    mix: Mapping[str, float]
    counter: bool = False
    noise: float = 0.0
    whole: bool = False
    begin_ms: int = 0
    end_ms: int = 2**62


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Many signals as arrays; `values` computes all of them at once."""

    signals: Sequence[Signal]
    counters: Floats
    gauges: Floats
    noise: Floats
    whole: Bools
    seeds: Ints
    lives: Ints
    curves: Sequence[Curve] = field(repr=False)

    @staticmethod
    def build(signals: Sequence[Signal], switches: Sequence[Switch], seed: int) -> "Ensemble":
        """Lay out *signals*; equal arguments give equal values for ever."""
        position = {name: column for column, name in enumerate(BASIS)}
        mixed = np.zeros((len(signals), len(BASIS)))
        for row, signal in enumerate(signals):
            for name, coefficient in signal.mix.items():
                mixed[row, position[name]] = coefficient
        counter = np.array([signal.counter for signal in signals])
        return Ensemble(
            signals,
            np.where(counter[:, None], mixed, 0.0),
            np.where(counter[:, None], 0.0, mixed),
            np.array([signal.noise for signal in signals]),
            np.array([signal.whole for signal in signals]),
            np.array([_hash(signal.labels, seed) for signal in signals], dtype=np.int64),
            np.array([(signal.begin_ms, signal.end_ms) for signal in signals], dtype=np.int64),
            [curve(switches, stage) for stage in STAGES],
        )

    def values(self, times: Ints) -> tuple[Floats, Bools]:
        """Return values and existence at *times* (ms), both `[signals, times]`."""
        seconds = times / 1000.0
        at, integral = self._basis(seconds)
        out = self.gauges @ at + self.counters @ integral
        out += self.noise[:, None] * _jitter(self.seeds[:, None], times[None, :])
        out[self.whole] = np.floor(out[self.whole])
        np.maximum(out, 0.0, out=out)
        alive = (times >= self.lives[:, :1]) & (times < self.lives[:, 1:])
        return out, alive

    def _basis(self, seconds: Floats) -> tuple[Floats, Floats]:
        """Return each basis function's value and integral since the epoch, `[basis, times]`."""
        since = seconds - EPOCH_SECONDS
        at, integral = [np.ones_like(since)], [since]
        for period in _PERIODS.values():
            omega = 2 * np.pi / period
            at += [np.sin(omega * since), np.cos(omega * since)]
            integral += [(1 - np.cos(omega * since)) / omega, np.sin(omega * since) / omega]
        at += [stage.at(seconds) for stage in self.curves]
        integral += [stage.integral(seconds) for stage in self.curves]
        return np.stack(at), np.stack(integral)


def rhythm(seed_text: str, level: float, depth: float) -> dict[str, float]:
    """Return the mix of something that hovers around *level*, ± *depth* of it, in its own rhythm.

    The swings together stay below *depth*, so that a rate of it never gets negative for depth < 1.
    """
    random = np.random.default_rng(zlib.crc32(seed_text.encode()))
    mix = {CONSTANT: level}
    shares = {"day": 0.4, "hour": 0.3, "swing": 0.2, "flutter": 0.1}
    for name, share in shares.items():
        phase = random.uniform(0, 2 * np.pi)
        mix[f"{name}-sin"] = level * depth * share * float(np.cos(phase))
        mix[f"{name}-cos"] = level * depth * share * float(np.sin(phase))
    return mix


def scaled(mix: Mapping[str, float], factor: float, **extra: float) -> dict[str, float]:
    """Return *mix* times *factor*, plus the *extra* coefficients."""
    out = {name: coefficient * factor for name, coefficient in mix.items()}
    for name, coefficient in extra.items():
        out[name] = out.get(name, 0.0) + coefficient
    return out


def _hash(labels: Mapping[str, str], seed: int) -> int:
    text = repr(sorted(labels.items())).encode()
    return zlib.crc32(text) ^ seed << 32


def _jitter(seeds: Ints, times: Ints) -> Floats:
    """Return noise in [-1, 1) that depends on seed and time only (splitmix64's finaliser)."""
    with np.errstate(over="ignore"):
        mixed = seeds.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + times.astype(np.uint64)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    uniform: Floats = (mixed >> np.uint64(11)).astype(np.float64) / 2.0**52
    return uniform - 1.0
