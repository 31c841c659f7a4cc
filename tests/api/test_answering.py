"""Where requests are answered, and that the same question is answered once."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from aggregator.api.answering import Answering, Question
from aggregator.api.exchange import Access, Reach, Reply, Request, Route
from aggregator.api.pool import FairPool
from aggregator.api.settings import QueryLimits
from aggregator.model.budget import Budget
from tests.servers import wait_until

DEADLINE = 10.0
TOKENS = [{"name": name, "token": name, "role": "operator"} for name in ("first", "second")]


class Counting:
    """Answers with the thread and the number of the call; `act` is done before."""

    def __init__(self):
        self.calls = []
        self.release = threading.Event()

    def __call__(self, request):
        """Answer a request."""
        self.calls.append(threading.current_thread().name)
        self.act(request)
        return Reply(f"{len(self.calls)} {self.calls[-1]}".encode())

    def act(self, request):
        """Do nothing."""

    def block(self, _request):
        """Wait to be released."""
        assert self.release.wait(DEADLINE)


@pytest.fixture
def counting():
    """Return a handler."""
    return Counting()


class Blocked:
    """An `Answering` over one thread, which is busy until `counting.release` is set."""

    def __init__(self, counting):
        self.counting, self.pool = counting, FairPool(1, 1)
        self.answering = Answering(self.pool, QueryLimits())
        self.route = Route("/count", counting, "Count")
        self.leaving = asyncio.Event()

    async def __aenter__(self):
        """Take the only thread."""
        self.pool.start()
        started = threading.Event()
        assert self.pool.submit("", "", lambda: (started.set(), self.counting.block(None)))
        assert started.wait(DEADLINE)
        return self

    async def __aexit__(self, *_):
        """End the thread."""
        self.pool.stop()

    def ask(self, *pairs, leaves=False):
        """Ask, and return the task; who *leaves* goes when `leaving` is set."""
        request = Request({}, pairs, b"", None, Budget())
        question = Question(self.route, request, "client", "", gzip=False)
        never = asyncio.Event()

        async def receive():
            await (self.leaving if leaves else never).wait()
            return {"type": "http.disconnect"}

        return asyncio.create_task(self.answering.answer(question, receive))


def test_a_question_that_waits_is_asked_once(counting):
    """Who asks what somebody else waits for gets the same answer; other questions have theirs."""

    async def scenario():
        async with Blocked(counting) as blocked:
            same = [blocked.ask(("query", "up"), ("time", "5")) for _ in range(6)]
            other = blocked.ask(("query", "up"), ("time", "6"))
            await asyncio.sleep(0)  # each of them asks
            counting.release.set()
            answers = await asyncio.gather(*same, other)
        assert len({answer.body for answer in answers[:6]}) == 1
        assert answers[6].body != answers[0].body

    asyncio.run(scenario())
    assert len(counting.calls) == 2


def test_one_who_leaves_does_not_stop_the_others(counting):
    """The answer is made as long as anybody waits for it."""

    async def scenario():
        async with Blocked(counting) as blocked:
            leaving, staying = blocked.ask(leaves=True), blocked.ask()
            blocked.leaving.set()
            assert await leaving is None
            counting.release.set()
            assert (await staying).status == 200

    asyncio.run(scenario())
    assert len(counting.calls) == 1


def test_nothing_is_done_for_nobody(counting):
    """Work that everybody has left is not done, and the next one who asks is answered."""

    async def scenario():
        async with Blocked(counting) as blocked:
            leaving = [blocked.ask(leaves=True) for _ in range(2)]
            blocked.leaving.set()
            assert await asyncio.gather(*leaving) == [None, None]
            staying = blocked.ask()
            await asyncio.sleep(0)
            counting.release.set()
            assert (await staying).status == 200

    asyncio.run(scenario())
    assert len(counting.calls) == 1


def ask_until_quick(api, counting, **question):
    """Ask until the event loop itself answers: on a busy machine the first may take too long."""

    def is_quick():
        assert api.get("/count", **question).status_code == 200
        return counting.calls[-1] == "api"

    wait_until(is_quick, DEADLINE, "an answer of the event loop")


def ask_in_pool(api, counting, **question):
    """Ask, and see that a thread of the pool answers."""
    answer = api.get("/count", **question)
    assert (answer.status_code, answer.text.split()[1][:4]) == (200, "api-")
    assert counting.calls[-1] == answer.text.split()[1]


def test_what_was_quick_is_answered_at_once(run, counting):
    """The first of a kind runs in the pool, the next one, at another time, on the event loop."""
    with run(routes=[Route("/count", counting, "Count")]) as api:
        ask_in_pool(api, counting, query="up", time=0)
        ask_until_quick(api, counting, query="up", time=1)
        ask_in_pool(api, counting, query="down", time=1)


def test_what_is_quick_no_more_goes_to_the_pool(run, counting):
    """A question that needs the disk, or too much, is asked again where it may take its time."""
    with run(routes=[Route("/count", counting, "Count")]) as api:
        for need in (
            lambda request: request.budget.use_disk(),
            lambda request: request.budget.spend_samples(1_000_000),
        ):
            ask_until_quick(api, counting, query="up")
            counting.act = need
            ask_in_pool(api, counting, query="up")
            counting.act = lambda _request: None


def test_a_longer_time_or_more_series_are_of_another_kind(run, counting):
    """What was quick over an hour, or for who sees little, says nothing of a year, or of all."""
    tokens = [{"name": "all", "token": "all"}, {"name": "few", "token": "few", "match": 'job="a"'}]
    route = Route("/count", counting, "Count", reach=Reach.SCOPED)
    with run(routes=[route], tokens=tokens) as api:
        api.session.headers["Authorization"] = "Bearer few"
        ask_in_pool(api, counting, query="up", start=0, end=3_600)
        ask_until_quick(api, counting, query="up", start=1, end=3_601)
        api.session.headers["Authorization"] = "Bearer all"
        ask_in_pool(api, counting, query="up", start=2, end=3_602)
        ask_in_pool(api, counting, query="up", start=0, end=31_536_000)
        ask_in_pool(api, counting, query="up", start=0)


def test_what_cannot_be_compressed_is_an_error(run):
    """Whatever goes wrong behind the handler, who waits gets an answer, with the usual headers."""
    with run(routes=[Route("/text", lambda _request: Reply("no bytes" * 1_000), "Text")]) as api:
        for _ in range(2):
            answer = api.get("/text")
            assert (answer.status_code, answer.json()["errorType"]) == (500, "internal")
            assert answer.headers["x-content-type-options"] == "nosniff"


def test_changes_are_made_for_each_request(run, counting):
    """What may change something is neither shared nor tried twice."""
    route = Route("/change", counting, "Change", methods=("POST",), access=Access.OPERATOR)
    with run(routes=[route]) as api, ThreadPoolExecutor(4) as pool:
        answers = [
            pool.submit(requests.post, f"{api.url}/change", timeout=DEADLINE) for _ in range(8)
        ]
        assert all(each.result(DEADLINE).status_code == 200 for each in answers)
    assert len(counting.calls) == 8
    assert all(name.startswith("api-") for name in counting.calls)


def test_callers_do_not_share(run, counting):
    """Two tokens that ask the same are answered apart: they may not see the same."""
    counting.act = counting.block
    route = Route("/count", counting, "Count")
    with run(routes=[route], tokens=TOKENS) as api, ThreadPoolExecutor(2) as pool:
        answers = [
            pool.submit(
                requests.get,
                f"{api.url}/count",
                headers={"Authorization": f"Bearer {token['token']}"},
                timeout=DEADLINE,
            )
            for token in TOKENS
        ]
        wait_until(lambda: len(counting.calls) == 2, DEADLINE, "both at work")
        counting.release.set()
        assert all(each.result(DEADLINE).status_code == 200 for each in answers)
