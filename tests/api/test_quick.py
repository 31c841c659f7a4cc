"""The lane of quick jobs."""

import asyncio

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
