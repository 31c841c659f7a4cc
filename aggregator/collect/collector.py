"""Runs the collection of the whole fleet: schedule, pools, breakers, and reconfiguration."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from aggregator import telemetry
from aggregator.collect.breaker import Breaker
from aggregator.collect.clock import ClockWatch
from aggregator.collect.context import Context
from aggregator.collect.cycle import ClusterCollector
from aggregator.collect.logcollector import LogCollector
from aggregator.collect.pools import Pools
from aggregator.collect.registry_series import RegistrySeries
from aggregator.collect.schedule import Schedule
from aggregator.errors import SourceError, StoreError
from aggregator.fleet.freshness import Freshness, LogMetrics, least_fresh_ms
from aggregator.fleet.health import Outcome
from aggregator.fleet.registry import Cluster, Registry
from aggregator.fleet.subjects import PROMETHEUS
from aggregator.profile.format import Profile, Source
from aggregator.supervise import Loop

_LOG = structlog.get_logger(__name__)
_COMMIT_SECONDS = 1.0


@dataclass(slots=True)
class _Slot:
    """One cluster on the schedule.

    `busy` is taken while a cycle waits or runs, `reading` while a piece of history does; `missed`
    tells that a tick came meanwhile. A slot that is `removed` runs no more cycles; if it is
    `retiring` its series are to be ended.
    """

    collector: ClusterCollector
    breaker: Breaker = field(default_factory=Breaker)
    busy: threading.Lock = field(default_factory=threading.Lock)
    reading: threading.Lock = field(default_factory=threading.Lock)
    missed: bool = False
    removed: bool = False
    retiring: bool = False


def freshness_of(registry: Registry, profile: Profile, context: Context) -> Freshness:
    """Return the freshness of what *profile* has collected of *registry*."""
    metrics = profile.served_by(Source.PROMETHEUS).metrics
    return Freshness(
        registry,
        {metric.name: metric.group for metric in metrics},
        context.watermarks,
        context.gaps,
        context.health,
        logs=LogMetrics.of(profile, context.log_health),
    )


class Collector:
    """Collects every cluster of the registry; none can delay another."""

    def __init__(self, registry: Registry, profile: Profile, context: Context) -> None:
        self._profile, self._context = profile, context
        self._pools = Pools.make()
        self._schedule = Schedule(self.tick)
        self._committer = Loop("watermarks", self._commit)
        self._slots: dict[str, _Slot] = {}
        self._registry = registry
        self._logs = LogCollector(profile.served_by(Source.LOKI), context)
        self._freshness = freshness_of(registry, profile, context)
        self._own = RegistrySeries(self._freshness, profile, context)
        self._writer = Loop("registry series", self._own.step)
        self._clock = ClockWatch(context.now)
        self._durable = True

    def start(self) -> None:
        """Begin: every cluster's first cycle is submitted at once."""
        for name in self._context.watermarks.clusters():
            if self._registry.get(name) is None:  # it left while we were not running
                self._forget(name)
        self._cap()
        self._schedule.start()
        self._committer.start()
        self._logs.start(self._registry)
        self.apply(self._registry)
        self._writer.start()

    def stop(self) -> None:
        """End every cycle and make the last watermarks durable; stop the writer before."""
        self._writer.stop()
        self._schedule.stop()
        for slot in self._slots.values():
            slot.removed = True
        self._logs.stop()
        self._pools.stop()
        for slot in self._slots.values():
            slot.collector.close()
        self._committer.stop()
        self._flush()

    def apply(self, registry: Registry) -> None:
        """Collect the clusters of *registry* from now on; what is the same goes on undisturbed."""
        self._registry = registry
        self._freshness.apply(registry)
        self._logs.apply(registry)
        for name in [name for name in self._slots if registry.get(name) is None]:
            self._remove(name, retire=True)
            self._forget(name)
        for cluster in registry:
            slot = self._slots.get(cluster.name)
            if slot is not None and slot.collector.cluster == cluster:
                continue
            if slot is not None:
                moved = slot.collector.cluster.region != cluster.region
                self._remove(cluster.name, retire=moved)
            self._add(cluster)

    def tick(self, name: str) -> None:
        """Submit a cycle of one cluster, unless one is under way or the breaker is open."""
        slot = self._slots.get(name)
        if slot is None:
            return
        if slot.breaker.is_open(self._context.now()):
            telemetry.CYCLES_SKIPPED.labels(name, "breaker_open").inc()
        elif not slot.busy.acquire(blocking=False):
            slot.missed = True
            telemetry.CYCLES_SKIPPED.labels(name, "busy").inc()
        elif slot.breaker.probing:
            self._submit(slot, self._pools.probing.submit, self._probe)
        else:
            self._submit(slot, self._pools.healthy.submit, self._cycle)

    def _submit(
        self,
        slot: _Slot,
        submit: Callable[[Callable[[], None]], bool],
        job: Callable[[_Slot], bool],
    ) -> None:
        """Run *job* in a pool; the slot is free again once *job* says that it is done."""

        def work() -> None:
            done, returned = True, False
            try:
                done = slot.removed or job(slot)
                returned = True
            finally:
                if not returned:
                    self._failed(slot)
                if done:
                    self._free(slot)

        if not submit(work):
            slot.busy.release()

    def _free(self, slot: _Slot) -> None:
        """Let the next cycle come; make up at once for a tick that came while this one ran."""
        missed, slot.missed = slot.missed, False
        slot.busy.release()
        self._retire(slot)
        self._tidy(slot)
        if missed and not slot.removed and not slot.breaker.probing:
            self.tick(slot.collector.cluster.name)

    def _probe(self, slot: _Slot) -> bool:
        """See whether a cluster that failed answers again; if so, run its cycle as usual."""
        try:
            slot.collector.ping()
        except SourceError as error:
            kind = str(error.kind)
            self._count(slot, kind)
            self._ended(slot, Outcome(self._context.now(), False, error.detail, kind))
            return True
        self._submit(slot, self._pools.healthy.submit, self._cycle)
        return False

    def _cycle(self, slot: _Slot) -> bool:
        outcome = slot.collector.cycle()
        if outcome is not None:
            self._ended(slot, outcome)
        if slot.collector.history_pending and not slot.breaker.probing:
            self._read_history(slot)
        return True

    def _failed(self, slot: _Slot) -> None:
        """Note that a job ended with an exception nobody expected; supervise logs which."""
        self._count(slot, "internal")
        error = "collection failed unexpectedly; see our log"
        self._ended(slot, Outcome(self._context.now(), False, error, "internal"))

    @staticmethod
    def _count(slot: _Slot, result: str) -> None:
        telemetry.COLLECTIONS.labels(slot.collector.cluster.name, result).inc()

    def _ended(self, slot: _Slot, outcome: Outcome) -> None:
        slot.breaker = Breaker() if outcome.answered else slot.breaker.failed(outcome.time_ms)
        if not slot.removed:
            name = slot.collector.cluster.name
            self._context.health.ended(name, outcome, slot.breaker.open_until_ms)

    def _read_history(self, slot: _Slot) -> None:
        """Submit one piece of a cluster's history; the next piece queues up behind the others'."""
        if not slot.reading.acquire(blocking=False):
            return

        def read() -> None:
            more = False
            try:
                more = not slot.removed and slot.collector.read_history()
            finally:
                slot.reading.release()
                self._tidy(slot)
            if more:
                self._read_history(slot)

        if not self._pools.backfill.submit(read):
            slot.reading.release()

    def _add(self, cluster: Cluster) -> None:
        self._slots[cluster.name] = _Slot(ClusterCollector(cluster, self._profile, self._context))
        self._schedule.put(cluster)
        self.tick(cluster.name)

    def _remove(self, name: str, *, retire: bool) -> None:
        """Stop collecting a cluster; *retire* says that its series are not to be seen any more."""
        slot = self._slots.pop(name)
        slot.retiring = retire
        slot.removed = True
        self._schedule.remove(name)
        slot.collector.close()
        self._retire(slot)

    def _retire(self, slot: _Slot) -> None:
        """End the series of a slot that is retiring, once no cycle is under way: none follows."""
        if slot.retiring and slot.busy.acquire(blocking=False):
            self._pools.healthy.submit(slot.collector.retire)

    def _tidy(self, slot: _Slot) -> None:
        """Drop what a job still wrote while its cluster left the registry."""
        name = slot.collector.cluster.name
        if slot.removed and self._registry.get(name) is None:
            self._forget(name)

    def _forget(self, name: str) -> None:
        """Drop what is known of a cluster that left the registry."""
        context = self._context
        try:
            context.watermarks.forget(name)
            context.gaps.forget(cluster=name)
            context.bindings.forget(name)
        except StoreError as error:  # a full disk must not end a reload halfway
            _LOG.error("a cluster that left is forgotten at the next start", error=str(error))
        context.health.forget(name)
        context.log_health.forget(name)
        telemetry.forget_cluster(name)

    def _commit(self, stopping: threading.Event) -> None:
        """Make watermarks durable, and expose how old the data of each cluster is."""
        stopping.wait(_COMMIT_SECONDS)
        back_ms = self._clock.set_back_ms()
        if back_ms:
            _LOG.warning("the clock was set back; collecting goes on", by_seconds=back_ms / 1000)
            self._schedule.renew()
            self._logs.renew()
        self._cap()
        self._expose_age(self._context.now())
        self._flush()

    def _cap(self) -> None:
        """Bring back watermarks that lie in the future; no data can be newer than now."""
        capped = self._context.watermarks.cap(self._context.now())
        if capped:
            _LOG.warning(
                "data of the future: the clock was set back; watermarks begin again at present",
                clusters=len(capped),
                first=capped[0],
            )

    def _expose_age(self, now_ms: int) -> None:
        """Expose the age that the API shows: that of the least fresh subject."""
        for name, slot in list(self._slots.items()):
            units = self._freshness.units(slot.collector.cluster, now_ms)
            until = least_fresh_ms(unit for unit in units if unit.subject.source == PROMETHEUS)
            if until is None:  # nothing is expected, or nothing came yet
                telemetry.DATA_AGE_SECONDS.remove_by_labels({"cluster": name})
            else:
                age_ms = max(0, now_ms - until)
                telemetry.DATA_AGE_SECONDS.labels(name).set(age_ms / 1000)

    def _flush(self) -> None:
        """Make watermarks durable; if that fails the next call makes up for it."""
        try:
            self._context.watermarks.flush()
        except StoreError as error:
            if self._durable:
                _LOG.error("watermarks are not durable; trying on", error=str(error))
            self._durable = False
        else:
            if not self._durable:
                _LOG.info("watermarks are durable again")
            self._durable = True
