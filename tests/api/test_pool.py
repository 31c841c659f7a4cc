"""The fair pool."""

import threading

import pytest

from aggregator import telemetry
from aggregator.api.pool import FairPool

DEADLINE = 10.0


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        """Return the time."""
        return self.now


@pytest.fixture
def clock():
    """Return a clock of our own."""
    return Clock()


@pytest.fixture
def pool(clock):
    """Return a running pool of one young slot and four threads."""
    pool = FairPool(1, 4, clock=clock)
    pool.start()
    yield pool
    pool.stop()


def _blocker(pool, client, line=""):
    started, release = threading.Event(), threading.Event()

    def job():
        started.set()
        release.wait(DEADLINE)

    assert pool.submit(client, line, job)
    assert started.wait(DEADLINE)
    return release


def test_clients_take_turns(pool):
    """A client with many requests waiting does not delay another one's first."""
    release = _blocker(pool, "first")
    order, done = [], threading.Event()
    for number in range(5):
        assert pool.submit("busy", "", lambda number=number: order.append(f"busy {number}"))
    assert pool.submit("late", "", lambda: order.append("late"))
    assert pool.submit("last", "", done.set)
    release.set()
    assert done.wait(DEADLINE)
    assert order.index("late") <= 2


def test_what_waits_is_exposed(pool):
    """Our own metrics say how many requests wait, and that none does any more."""
    release, done = _blocker(pool, "first"), threading.Event()
    waiting = telemetry.POOL_WAITING.labels("api")._value
    assert pool.submit("second", "", lambda: None)
    assert pool.submit("third", "", done.set)
    assert waiting.get() == 2
    release.set()
    assert done.wait(DEADLINE)
    assert waiting.get() == 0


def test_an_old_request_lets_the_next_one_start(pool, clock):
    """A request that runs for long keeps its thread and gives up its place."""
    release = _blocker(pool, "heavy")
    done = threading.Event()
    clock.now += 2.0
    assert pool.submit("small", "", done.set)
    assert done.wait(DEADLINE)
    release.set()


def test_a_client_holds_half_of_the_threads(pool, clock):
    """Heavy requests of one client, in whichever lines, leave threads for the others."""
    releases = []
    for number in range(2):
        releases.append(_blocker(pool, "heavy", str(number)))
        clock.now += 2.0
    third, other = threading.Event(), threading.Event()
    assert pool.submit("heavy", "2", third.set)
    assert pool.submit("other", "", other.set)
    assert other.wait(DEADLINE)
    assert not third.is_set()
    for release in releases:
        release.set()
    assert third.wait(DEADLINE)


def test_a_line_holds_a_third_of_the_threads(pool, clock):
    """Heavy requests of one line leave threads for the other lines of its client."""
    release = _blocker(pool, "grafana", "heavy")
    clock.now += 2.0
    second, other = threading.Event(), threading.Event()
    assert pool.submit("grafana", "heavy", second.set)
    assert pool.submit("grafana", "light", other.set)
    assert other.wait(DEADLINE)
    assert not second.is_set()
    release.set()
    assert second.wait(DEADLINE)


def test_lines_take_turns(pool):
    """A line with many requests waiting does not delay another line's first."""
    release = _blocker(pool, "first")
    order, done = [], threading.Event()
    for number in range(5):
        assert pool.submit("a", "busy", lambda number=number: order.append(f"busy {number}"))
    assert pool.submit("a", "late", lambda: order.append("late"))
    assert pool.submit("last", "", done.set)
    release.set()
    assert done.wait(DEADLINE)
    assert order.index("late") <= 1


def test_one_place_is_left_for_others(clock):
    """However much a client asks for, another one's request starts at once."""
    pool = FairPool(3, 8, clock=clock)
    pool.start()
    releases = [_blocker(pool, "heavy") for _ in range(2)]
    third, other = threading.Event(), threading.Event()
    assert pool.submit("heavy", "", third.set)
    assert pool.submit("other", "", other.set)
    assert other.wait(DEADLINE)
    assert not third.is_set()
    for release in releases:
        release.set()
    assert third.wait(DEADLINE)
    pool.stop()


def test_the_line_is_bounded(pool):
    """When too many wait, the next one is told so at once."""
    release = _blocker(pool, "a")
    taken = [pool.submit("a", str(number % 7), lambda: None) for number in range(700)]
    assert taken.count(True) == 600
    assert pool.submit("b", "", lambda: None)
    release.set()


def test_a_stopped_pool_takes_nothing():
    """After the end nothing is taken."""
    pool = FairPool(1, 1)
    pool.start()
    pool.stop()
    assert not pool.submit("a", "", lambda: None)
