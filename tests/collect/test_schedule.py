"""When a cluster is collected, and how a failing one is left alone."""

import threading
from datetime import UTC, datetime, timedelta

from aggregator import telemetry
from aggregator.collect.breaker import Breaker
from aggregator.collect.clock import ClockWatch
from aggregator.collect.pools import Pool
from aggregator.collect.schedule import Schedule, grid_time, offset_ms
from tests.collect.stage import Stage
from tests.servers import wait_until


def test_grid_time():
    """T is the newest multiple of the interval that lies at least the lag back."""
    assert grid_time(1_019_999, 5_000, 15_000) == 1_005_000
    assert grid_time(1_025_000, 5_000, 15_000) == 1_020_000
    assert grid_time(1_024_999, 5_000, 15_000) == 1_005_000


def test_offsets_spread_over_half_an_interval():
    """Offsets are the same at every start and fill the first half of the interval evenly."""
    offsets = [offset_ms(f"cluster-{number}", 30_000) for number in range(500)]
    assert offsets == [offset_ms(f"cluster-{number}", 30_000) for number in range(500)]
    assert 0 <= min(offsets) < 1_000
    assert 14_000 < max(offsets) < 15_000
    quarters = [sum(q * 3_750 <= offset < (q + 1) * 3_750 for offset in offsets) for q in range(4)]
    assert min(quarters) > 90


def test_breaker_backs_off():
    """Three failures open it for 30 s; each further one doubles that, up to 300 s."""
    breaker, waits = Breaker(), []
    for _ in range(9):
        breaker = breaker.failed(1_000)
        waits.append(None if breaker.open_until_ms is None else breaker.open_until_ms - 1_000)
    assert waits == [None, None, 30_000, 60_000, 120_000, 240_000, 300_000, 300_000, 300_000]
    assert breaker.is_open(300_999)
    assert not breaker.is_open(301_000)
    assert not breaker.is_open(-3_600_000), "the clock was set back"


def test_first_failure_means_probing():
    """After one failure the cluster has to prove itself, and a success clears everything."""
    assert not Breaker().probing
    assert Breaker().failed(0).probing
    assert not Breaker().failed(0).is_open(1)


def test_schedule_ticks_each_cluster(stage: Stage):
    """Each cluster's job runs every interval until it is removed."""
    ticks: list[str] = []
    schedule = Schedule(ticks.append)
    schedule.start()
    try:
        for cluster in stage.registry("a", "b", interval="1s"):
            schedule.put(cluster)
        wait_until(lambda: ticks.count("a") >= 2 and ticks.count("b") >= 2, 10, "two ticks")
        schedule.remove("a")
        before = ticks.count("a")
        rest = ticks.count("b")
        wait_until(lambda: ticks.count("b") >= rest + 2, 10, "ticks of the other one")
        assert ticks.count("a") <= before + 1
    finally:
        schedule.stop()


def test_renewed_schedule_goes_on_at_once(stage: Stage):
    """A turn that lies far off, as after the clock was set back, comes within an interval."""
    ticks: list[str] = []
    schedule = Schedule(ticks.append)
    schedule.start()
    try:
        for cluster in stage.registry("a", interval="1s"):
            schedule.put(cluster)
        later = datetime.now(UTC) + timedelta(hours=1)
        schedule._scheduler.modify_job("a", next_run_time=later)
        before = len(ticks)
        schedule.renew()
        wait_until(lambda: len(ticks) >= before + 2, 10, "two ticks")
    finally:
        schedule.stop()


def test_clock_that_was_set_back_is_noticed_once():
    """Only a step back of the wall clock counts, neither one ahead nor a tiny one."""
    wall, steady = [1_000_000], [50.0]
    watch = ClockWatch(lambda: wall[0], lambda: steady[0])
    seen = []
    for moved in (1_000, 3_601_000, 500, -3_599_000, 1_000):
        wall[0] += moved
        steady[0] += 1
        seen.append(watch.set_back_ms())
    assert seen == [0, 0, 0, 3_600_000, 0]


def test_pool_is_bounded_and_seen():
    """A pool runs as many jobs as it has threads; what waits is counted, failures end nothing."""
    pool, release, running = Pool("test", 2), threading.Event(), threading.Semaphore(0)

    def job() -> None:
        running.release()
        release.wait(10)

    try:
        for _ in range(5):
            assert pool.submit(job)
        assert running.acquire(timeout=5)
        assert running.acquire(timeout=5)
        assert telemetry.POOL_WAITING.labels("test")._value.get() == 3
        assert telemetry.POOL_BUSY.labels("test")._value.get() == 2
        release.set()
        wait_until(lambda: telemetry.POOL_BUSY.labels("test")._value.get() == 0, 5, "all done")
    finally:
        release.set()
        pool.stop()
    assert not pool.submit(job)


def test_pool_survives_a_failing_job():
    """An unexpected exception ends a job, not its thread."""
    pool, done = Pool("test", 1), threading.Event()
    try:
        pool.submit(lambda: 1 // 0 and None)
        pool.submit(done.set)
        assert done.wait(5)
    finally:
        pool.stop()
