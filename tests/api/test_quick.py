"""The lane of quick jobs."""

import asyncio
import time

import pytest
import uvloop

from aggregator.api.quick import QuickLane


def test_other_work_is_done_between_jobs():
    """One job runs in each round of the event loop, clients in turns."""
    order = []

    async def scenario():
        lane, loop = QuickLane(), asyncio.get_running_loop()

        def tick(number):
            order.append("tick")
            if number:
                loop.call_soon(tick, number - 1)

        for client in ("a", "a", "b"):
            assert lane.submit(client, "", lambda client=client: order.append(client))
        tick(5)
        for _ in range(20):
            await asyncio.sleep(0)

    asyncio.run(scenario())
    assert [each for each in order if each != "tick"] == ["a", "b", "a"]
    assert "".join(order).find("ab") == -1


def test_a_failure_does_not_end_the_lane():
    """A job that fails unexpectedly is reported, and the next one runs."""

    async def scenario():
        lane, done = QuickLane(), asyncio.Event()
        assert lane.submit("a", "", lambda: 1 // 0)
        assert lane.submit("a", "", done.set)
        await asyncio.wait_for(done.wait(), 10)

    asyncio.run(scenario())


def test_kinds_are_forgotten():
    """Few thousand kinds are known, those asked last; a slow one no longer is."""
    lane = QuickLane()
    for kind in range(5_000):
        lane.learn(kind, quick=True)
    assert sum(map(lane.knows, range(5_000))) == 4_096
    assert lane.knows(4_999)
    lane.learn(4_999, quick=False)
    assert not lane.knows(4_999)


@pytest.mark.parametrize("new_loop", [uvloop.Loop, asyncio.SelectorEventLoop])
def test_the_loop_sleeps_when_nobody_asks(new_loop):
    """After a job the loop looks for another one for a moment, then it takes no time any more."""

    async def scenario():
        lane, loop, later = QuickLane(), asyncio.get_running_loop(), asyncio.Event()
        for _ in range(3):
            assert lane.idle
            lane.take_round()
            lane.stay_awake()
            assert not lane.idle
            await asyncio.sleep(0)
        used = time.thread_time()
        loop.call_later(0.5, later.set)
        await later.wait()
        return time.thread_time() - used

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(scenario()) < 0.02


def test_jobs_that_wait_go_first():
    """While jobs wait for their turn, no other one runs at once."""

    async def scenario():
        lane, done = QuickLane(), []
        for number in range(3):
            assert lane.submit("a", "", lambda number=number: done.append(number))
        while len(done) < 3:
            assert not lane.idle
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        return done, lane.idle

    assert asyncio.run(scenario()) == ([0, 1, 2], True)
