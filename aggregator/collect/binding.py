"""Decides which candidates serve a cluster's fleet metrics, and when to ask about that again."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import xxhash

from aggregator.collect.bisect import QUERY_REFUSED
from aggregator.collect.context import Context
from aggregator.collect.questions import Findings, Questioner
from aggregator.collect.served import binding_record
from aggregator.fleet.health import Served
from aggregator.fleet.registry import Cluster
from aggregator.model.arrays import Bools
from aggregator.profile.batch import MAX_EXPRESSIONS
from aggregator.profile.format import Bound, Candidate, FleetMetric, Merge, Profile
from aggregator.profile.probe import Probe, bind, probes
from aggregator.sources.prometheus import PrometheusSource
from aggregator.state.bindings import Binding, Standing

# The signals that a report of slow responses is looked at with first (CPU, network, restarts,
# ingress errors, databases), and what else the first page shows. They are asked about at once, the
# others within a minute.
FIRST = (
    "fleet:cluster_cpu_utilisation_ratio",
    "fleet:node_memory_utilisation_ratio",
    "fleet:node_ready",
    "fleet:ingress_latency_seconds",
    "fleet:inter_region_rtt_seconds",
    "fleet:node_tcp_retransmit_ratio",
    "fleet:namespace_container_restarts",
    "fleet:ingress_requests_per_second",
    "fleet:db_connections_used_ratio",
    "fleet:db_query_latency_seconds",
    "fleet:db_replication_lag_seconds",
)
EMPTY_CYCLES = 3
_SPREAD_MS = 60_000
_DAY_MS = 86_400_000
# How long a question waits at most when its last answer was so.
_LONGEST_MS = {
    Standing.BOUND: 600_000,  # bound, but empty
    Standing.NOT_NOW: 600_000,
    Standing.FAILED: 600_000,
    Standing.NEVER: 3_600_000,
}
# Whose data says that a cluster is scraped at all, for metrics that name no presence.
_ANY_PRESENCE = "up{$sel}"


@dataclass(frozen=True, slots=True)
class _Turn:
    """When a metric was asked about, and how long until it is again."""

    asked_ms: int
    wait_ms: int

    def due(self, now_ms: int) -> bool:
        """Tell whether it is time to ask; also after the clock was set back."""
        return not 0 <= now_ms - self.asked_ms < self.wait_ms


@dataclass(slots=True)
class Binder:
    """The bindings of one cluster; `bound` is what is collected now.

    `_empty` counts the answers in a row that had nothing of a bound candidate.
    """

    cluster: Cluster
    profile: Profile
    context: Context
    bound: list[Bound] = field(default_factory=list)
    _kept: dict[str, Binding] = field(default_factory=dict)
    _asked: dict[str, list[Probe]] = field(default_factory=dict)
    _turns: dict[str, _Turn] = field(default_factory=dict)
    _empty: dict[tuple[str, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._kept = self.context.bindings.of(self.cluster.name)
        self.bound = self.profile.resolve(
            (metric, candidate)
            for metric, binding in self._kept.items()
            for candidate in binding.candidates
        )
        for probe in probes(self.profile):
            self._asked.setdefault(probe.metric, []).append(probe)
        self._begin()

    def _begin(self) -> None:
        """Plan when to ask at first: what is served daily, the rest by pieces within a minute."""
        served, now_ms = self.metrics, self.context.now()
        for name in served & self._asked.keys():
            self._turns[name] = _Turn(self._kept[name].probed_ms, self._daily_ms(name))
        first = [name for name in FIRST if name in self._asked]
        rest = [name for name in self._asked if name not in first]
        pieces = self._pieces([name for name in first + rest if name not in served])
        for number, piece in enumerate(pieces):
            wait_ms = 0 if piece[0] in first else _SPREAD_MS * number // len(pieces)
            self._turns.update({name: _Turn(now_ms, wait_ms) for name in piece})

    @property
    def metrics(self) -> frozenset[str]:
        """The metrics that are collected now."""
        return frozenset(item.metric.name for item in self.bound)

    def due(self, now_ms: int) -> bool:
        """Tell whether it is some metric's turn to be asked about."""
        return any(turn.due(now_ms) for turn in self._turns.values())

    def ask(self, source: PrometheusSource, time_ms: int, seconds: float) -> list[Bound]:
        """Ask about the metrics whose turn it is, for *seconds* at most; return what is new.

        Raises `SourceError`, and asks again at the next cycle.
        """
        now_ms = self.context.now()
        before = {item.key for item in self.bound}
        names = [name for name, turn in self._turns.items() if turn.due(now_ms)]
        asking = Questioner(
            source, self.cluster.prometheus.selector, time_ms, time.monotonic() + seconds
        )
        for piece in self._pieces(names):
            if time.monotonic() >= asking.ends:
                break
            asked = [probe for name in piece for probe in self._questions(name)]
            self._settle(piece, asking.ask(asked))
        return [item for item in self.bound if item.key not in before]

    def observe(self, bound: Sequence[Bound], there: Bools, time_ms: int) -> None:
        """Note which of *bound* a complete answer for *time_ms* had data of.

        What was empty three times running is asked about at once.
        """
        served: dict[str, list[bool]] = {}
        for item, has_data in zip(bound, there.tolist(), strict=True):
            served.setdefault(item.metric.name, []).append(has_data)
            count = 0 if has_data else self._empty.get(item.key, 0) + 1
            self._empty[item.key] = count
            if count == EMPTY_CYCLES and item.metric.name in self._turns:
                self._turns[item.metric.name] = _Turn(self.context.now(), 0)
        board, name = self.context.health, self.cluster.name
        known = board.get(name).served
        updates: dict[str, Served] = {}
        for metric, found in served.items():
            last = known.get(metric, Served())
            updates[metric] = (
                replace(last, data_until_ms=time_ms, empty_cycles=0)
                if any(found)
                else replace(last, empty_cycles=last.empty_cycles + 1)
            )
        board.serve(name, updates)

    def _pieces(self, names: Sequence[str]) -> list[list[str]]:
        """Group metrics so that the questions of a piece fit into one request."""
        pieces: list[list[str]] = []
        room = 0
        for name in names:
            count = len(self._asked[name])
            if count > room:
                pieces.append([])
                room = MAX_EXPRESSIONS
            pieces[-1].append(name)
            room -= count
        return pieces

    def _questions(self, name: str) -> list[Probe]:
        """Return what to ask about a metric; of one that went empty whether anything is there."""
        asked = self._asked[name]
        lost = name in self.metrics and self._lost(name)
        if lost and all(probe.candidate for probe in asked):
            return [*asked, Probe(name, "", _ANY_PRESENCE)]
        return asked

    def _lost(self, name: str) -> bool:
        return any(
            count >= EMPTY_CYCLES for (metric, _), count in self._empty.items() if metric == name
        )

    def _settle(self, names: Sequence[str], findings: Findings) -> None:
        """Bind what *findings* say of the metrics *names*, keep it, and plan the next question."""
        asked = [name for name in names if name not in findings.left]
        found = {
            name: [probe for probe in findings.found if probe.metric == name] for name in asked
        }
        held = {item.key: item for item in self.bound}
        kept = [Probe(*key, "") for key, item in held.items() if self._stays(item, found, findings)]
        chosen = bind(
            self.profile, [*kept, *(probe for list_ in found.values() for probe in list_)]
        )
        before, self.bound = self._by_metric(), chosen
        self._save(asked, findings, before)
        for name in asked:
            present = any(not probe.candidate for probe in found[name])
            if self._lost(name):
                last = self.context.health.get(self.cluster.name).served.get(name, Served())
                self.context.health.serve(self.cluster.name, {name: replace(last, present=present)})
            self._plan_next(name, served=any(probe.candidate for probe in found[name]))

    @staticmethod
    def _stays(item: Bound, found: dict[str, list[Probe]], findings: Findings) -> bool:
        """Tell whether a binding stays: nothing takes its place, or it is part of a union."""
        if item.candidate.expr is None:
            return False  # what is derived follows its source
        metric = item.metric
        if metric.name not in found or item.key in findings.failed:
            return True
        able = {probe.candidate for probe in found[metric.name]}
        place = _place(metric, item.candidate)
        rivals = (one for one in metric.candidates if one.id in able)
        taken = any(_place(metric, one) == place for one in rivals)
        return not taken or item.candidate.merge is Merge.UNION

    def _by_metric(self) -> dict[str, list[Bound]]:
        by_metric: dict[str, list[Bound]] = {}
        for item in self.bound:
            by_metric.setdefault(item.metric.name, []).append(item)
        return by_metric

    def _save(
        self, asked: Sequence[str], findings: Findings, before: dict[str, list[Bound]]
    ) -> None:
        """Keep what became of the metrics *asked*, and of those whose binding changed with them."""
        after, now_ms, saved = self._by_metric(), self.context.now(), []
        for metric in self.profile.metrics:
            items = after.get(metric.name, [])
            ids = tuple(item.candidate.id for item in items)
            old = tuple(item.candidate.id for item in before.get(metric.name, []))
            new = metric.name not in self._asked and metric.name not in self._kept
            if not (metric.name in asked or ids != old or new):
                continue
            saved.append(self._binding(metric, items, old, findings, now_ms))
        self.context.bindings.save(self.cluster.name, saved)
        self._kept.update({binding.metric: binding for binding in saved})

    def _binding(
        self,
        metric: FleetMetric,
        items: Sequence[Bound],
        old: tuple[str, ...],
        findings: Findings,
        now_ms: int,
    ) -> Binding:
        if old != tuple(item.candidate.id for item in items):
            for candidate in old:
                self._empty.pop((metric.name, candidate), None)
        return binding_record(
            self.cluster.name,
            metric,
            items,
            self._kept.get(metric.name),
            old=old,
            now_ms=now_ms,
            unserved=_standing(metric, findings),
        )

    def _plan_next(self, name: str, *, served: bool) -> None:
        now_ms, before = self.context.now(), self._turns[name]
        if served and not self._lost(name):
            self._turns[name] = _Turn(now_ms, self._daily_ms(name))
            return
        shortest = 2 * self.cluster.collect.interval
        longest = max(_LONGEST_MS[self._kept[name].standing], shortest)
        self._turns[name] = _Turn(now_ms, min(max(2 * before.wait_ms, shortest), longest))

    def _daily_ms(self, name: str) -> int:
        """Return when to ask again about what is served: about daily, each at its own time."""
        own = xxhash.xxh3_64_intdigest(f"{self.cluster.name} {name}".encode())
        return _DAY_MS * 3 // 4 + own % (_DAY_MS // 2)


def _place(metric: FleetMetric, candidate: Candidate) -> tuple[str, ...]:
    """Return which of the metric's parts a candidate serves; one candidate serves each."""
    return tuple(candidate.const[label] for label in metric.each)


def _standing(metric: FleetMetric, findings: Findings) -> tuple[Standing, str]:
    """Return why nothing serves *metric*."""
    [derive, *_] = [candidate.derive for candidate in metric.candidates]
    if derive is not None:
        return Standing.NEVER, f"derived from {derive.metric}, which nothing serves"
    failed = {
        candidate: error
        for (name, candidate), error in findings.failed.items()
        if name == metric.name and candidate
    }
    asked = [candidate for candidate in metric.candidates if candidate.expr is not None]
    refused = ""
    for candidate, error in failed.items():
        refused = f"; {candidate} is refused: {error.detail}"
        # one of several may be written for another kind of server
        if error.kind not in QUERY_REFUSED or len(failed) == len(asked):
            return Standing.FAILED, error.detail
    recent = findings.recent.get(metric.name)
    if recent is not None:
        reads = f"what {recent} reads had data within the last hour"
        return Standing.NOT_NOW, f"{reads}, but it has none now"
    return Standing.NEVER, f"no candidate has data, or had any within the last hour{refused}"
