"""Runs the collection of log metrics of the whole fleet, apart from that of Prometheus."""

import threading
from dataclasses import dataclass, field, replace

from aggregator import telemetry
from aggregator.collect.breaker import Breaker
from aggregator.collect.context import Context
from aggregator.collect.logs import ClusterLogs
from aggregator.collect.pools import Pool
from aggregator.collect.schedule import Schedule
from aggregator.collect.spacing import SPACING_MS
from aggregator.fleet.health import Outcome
from aggregator.fleet.registry import Cluster, Registry
from aggregator.profile.format import Profile
from aggregator.state.bindings import Standing


@dataclass(slots=True)
class _Slot:
    """One cluster with a Loki; `busy` is taken while a turn waits or runs."""

    cluster: Cluster
    logs: ClusterLogs
    breaker: Breaker = field(default_factory=Breaker)
    busy: threading.Lock = field(default_factory=threading.Lock)
    removed: bool = False
    retiring: bool = False


class LogCollector:
    """Gives every cluster that has a Loki a turn each minute; none can delay another.

    A Loki that failed has its turns among others that did, until it answers again.
    """

    def __init__(self, profile: Profile, context: Context) -> None:
        self._profile, self._context = profile, context
        self._answering, self._failing = Pool("logs", 16), Pool("logs-failing", 8)
        self._schedule = Schedule(self.tick)
        self._slots: dict[str, _Slot] = {}

    def start(self, registry: Registry) -> None:
        """Begin: every cluster's first turn is submitted at once."""
        self._schedule.start()
        self.apply(registry)

    def stop(self) -> None:
        """End every turn; stop the writer after."""
        self._schedule.stop()
        for slot in self._slots.values():
            slot.removed = True
        for pool in (self._failing, self._answering):
            pool.stop()
        for slot in self._slots.values():
            slot.logs.close()

    def renew(self) -> None:
        """Find every turn again, after the clock was set back."""
        self._schedule.renew()

    def apply(self, registry: Registry) -> None:
        """Collect the clusters of *registry* from now on; what is the same goes on undisturbed."""
        for name, slot in list(self._slots.items()):
            cluster = registry.get(name)
            if cluster is None or cluster.loki is None:
                self._remove(name, retire=True)
            elif cluster != slot.cluster:
                self._remove(name, retire=cluster.region != slot.cluster.region)
        for cluster in registry:
            if cluster.loki is None:
                self._unbind(cluster)
            elif cluster.name not in self._slots and self._profile.metrics:
                logs = ClusterLogs(cluster, cluster.loki, self._profile, self._context)
                self._slots[cluster.name] = _Slot(cluster, logs)
                self._schedule.put(cluster, every_ms=SPACING_MS)
                self.tick(cluster.name)

    def tick(self, name: str) -> None:
        """Submit a turn of one cluster, unless one is under way."""
        slot = self._slots.get(name)
        if slot is None:
            return
        if not slot.busy.acquire(blocking=False):
            telemetry.CYCLES_SKIPPED.labels(name, "logs_busy").inc()
            return
        pool = self._failing if slot.breaker.probing else self._answering
        if not pool.submit(lambda: self._turn(slot)):
            slot.busy.release()

    def _turn(self, slot: _Slot) -> None:
        now_ms, answered = self._context.now(), False
        try:
            if slot.removed:
                answered = True
                return
            ask = not slot.breaker.is_open(now_ms)
            outcome = slot.logs.turn(ask=ask, probe=slot.breaker.probing)
            if outcome is not None:
                self._ended(slot, outcome)
            answered = True
        finally:
            if not answered:  # with an exception nobody expected; supervise logs which
                error = "counting in logs failed unexpectedly; see our log"
                self._ended(slot, Outcome(now_ms, False, error, "internal"))
            slot.busy.release()
            self._retire(slot)

    def _ended(self, slot: _Slot, outcome: Outcome) -> None:
        slot.breaker = Breaker() if outcome.answered else slot.breaker.failed(outcome.time_ms)
        if not slot.removed:
            health = self._context.log_health
            health.ended(slot.cluster.name, outcome, slot.breaker.open_until_ms)

    def _remove(self, name: str, *, retire: bool) -> None:
        """Stop collecting a cluster; *retire* says that its series are not to be seen any more."""
        slot = self._slots.pop(name)
        slot.retiring, slot.removed = retire, True
        self._schedule.remove(name)
        slot.logs.close()
        self._retire(slot)

    def _retire(self, slot: _Slot) -> None:
        """End the series of a slot that is retiring, once no turn is under way: none follows."""
        if slot.retiring and slot.busy.acquire(blocking=False):
            self._answering.submit(slot.logs.retire)
            self._context.log_health.forget(slot.cluster.name)

    def _unbind(self, cluster: Cluster) -> None:
        """Forget what counted the logs of a cluster that has no Loki any more."""
        kept = self._context.bindings.of(cluster.name)
        served = [
            replace(kept[name], candidates=(), quality="", standing=Standing.NEVER)
            for name in self._profile.by_name
            if name in kept and kept[name].candidates
        ]
        self._context.bindings.save(cluster.name, served)
