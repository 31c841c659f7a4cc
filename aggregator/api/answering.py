"""Has requests answered, in the pool or at once, and the same question once for all who wait.

People look at the same dashboards, the more so when something is wrong. Who asks what somebody else
waits for already gets the same answer; it is read from the store after both have asked.

What a request costs shows when it has been answered: the first of its kind runs in the pool. If it
took little and read no disk the next one runs on the event loop, within a budget so small that what
has become slow is given up soon; then it goes to the pool after all.
"""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, TypeAlias

from starlette.types import Receive

from aggregator.api import errors
from aggregator.api.exchange import Access, Reply, Request, RequestError, Route
from aggregator.api.pool import FairPool
from aggregator.api.quick import QuickLane
from aggregator.api.settings import QueryLimits
from aggregator.api.times import MAX_MS, MIN_MS, parse_time_ms
from aggregator.model.budget import Budget
from aggregator.model.record import record

Key: TypeAlias = tuple[object, ...]
Waiter: TypeAlias = "asyncio.Future[Reply | None]"

_WATCH_SECONDS = 0.02  # a quick answer does not need to know whether the client is still there
# of processor time, and between call and answer: threads may have to wait for each other
_QUICK_SECONDS, _QUICK_WALL_SECONDS = 0.01, 0.05
# What is within these takes tens of milliseconds from one look at the clock to the next.
_QUICK_SAMPLES, _QUICK_SERIES, _QUICK_BYTES = 200_000, 20_000, 8 << 20
_QUICK_VISITS = 4_000_000
# They tell questions of one kind apart: dashboards move on, and cost the same over the same span.
_TIMES: Final = frozenset({"time", "start", "end"})


@record
class Question:
    """A request, who answers it, and whose turn it waits for."""

    route: Route
    request: Request
    client: str
    line: str
    gzip: bool

    @property
    def changes(self) -> bool:
        """Whether the answer may be a change of something, which is made once for each request."""
        return self.route.access is Access.OPERATOR

    @property
    def key(self) -> Key:
        """What two questions with the same answer have in common."""
        request = self.request
        pairs = tuple(request.pairs)
        own = object() if self.changes else None
        of_path = tuple(request.path.items())
        return (self.route.path, of_path, pairs, request.body, request.caller, self.gzip, own)

    @property
    def kind(self) -> int:
        """A number that questions of about the same cost have in common."""
        request = self.request
        pairs = [pair for pair in request.pairs if pair[0] not in _TIMES]
        of_path = request.path.items()
        return hash((self.route.path, *of_path, *pairs, request.scope, _span(request)))

    def answered(self, request: Request) -> Reply:
        """Return the answer to *request*, an error whatever goes wrong: somebody waits for it."""
        return errors.answer(self.route.handler, request, gzip=self.gzip)


@dataclass(slots=True)
class _Work:
    """An answer in the making, and who waits for it."""

    question: Question
    key: Key
    kind: int
    loop: asyncio.AbstractEventLoop
    waiting: list[Waiter] = field(default_factory=list)

    def deliver(self, reply: Reply | None) -> None:
        """Give everybody the answer."""
        waiting, self.waiting = self.waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(reply)


class Answering:
    """Lives on the event loop; only what the pool runs is elsewhere."""

    def __init__(self, pool: FairPool, limits: QueryLimits) -> None:
        self._pool, self._lane = pool, QuickLane()
        self._quick_limits = (
            min(limits.samples, _QUICK_SAMPLES),
            min(limits.series, _QUICK_SERIES),
            min(limits.bytes, _QUICK_BYTES),
        )
        self._asked: dict[Key, _Work] = {}

    @property
    def idle(self) -> bool:
        """Whether this round of the event loop has a quick answer left."""
        return self._lane.idle

    def at_once(self, question: Question) -> Reply | None:
        """Return the answer if it is one of the quick ones, else None; the lane must be idle."""
        kind = question.kind
        if not self._is_quick(question, kind) or (self._asked and question.key in self._asked):
            return None
        self._lane.take_round()
        reply = self._quick_reply(question, question.request, kind)
        self._lane.stay_awake()
        return reply

    async def answer(self, question: Question, receive: Receive) -> Reply | None:
        """Return the answer, or None if the client goes away before.

        Raises `RequestError` (503) if too many requests wait.
        """
        loop, key = asyncio.get_running_loop(), question.key
        waiter: Waiter = loop.create_future()
        work = self._asked.get(key) or self._begun(_Work(question, key, question.kind, loop))
        work.waiting.append(waiter)
        watching: list[asyncio.Task[None]] = []
        later = loop.call_later(
            _WATCH_SECONDS, lambda: watching.append(loop.create_task(_watch(receive, waiter)))
        )
        try:
            return await waiter
        finally:
            later.cancel()
            for task in watching:
                task.cancel()
            self._leave(work, waiter)

    def _is_quick(self, question: Question, kind: int) -> bool:
        return not question.changes and self._lane.knows(kind)

    def _begun(self, work: _Work) -> _Work:
        """Let *work* wait for its turn, and others join it."""
        self._asked[work.key] = work
        quick = self._is_quick(work.question, work.kind)
        lane: QuickLane | FairPool = self._lane if quick else self._pool
        job = partial(self._here if quick else self._in_pool, work)
        if not lane.submit(work.question.client, work.question.line, job):
            self._forget(work)
            raise busy("too many requests are waiting")
        return work

    def _leave(self, work: _Work, waiter: Waiter) -> None:
        """Stop the work when nobody waits for it any more."""
        if waiter in work.waiting:
            work.waiting.remove(waiter)
            if not work.waiting:
                self._forget(work)
                work.question.request.budget.cancel("the client went away")

    def _forget(self, work: _Work) -> None:
        """Let nobody join *work* any more. Any thread may call it."""
        if self._asked.get(work.key) is work:
            self._asked.pop(work.key, None)

    def _here(self, work: _Work) -> None:
        """Answer on the event loop; what is not quick after all goes to the pool."""
        self._forget(work)
        question = work.question
        if not work.waiting:
            return
        given = question.request
        waited = given.budget.elapsed_seconds
        request = replace(given, budget=self.quick_budget(), queued_seconds=waited)
        reply = self._quick_reply(question, request, work.kind)
        if reply is not None:
            work.deliver(reply)
        elif not self._pool.submit(question.client, question.line, partial(self._in_pool, work)):
            work.deliver(errors.of(busy("too many requests are waiting")))

    def _quick_reply(self, question: Question, request: Request, kind: int) -> Reply | None:
        """Return the answer, None if it is not to be had quickly."""
        reply = question.answered(request)
        answered = reply.status == 200
        if not answered or not request.budget.remaining_seconds:
            self._lane.learn(kind, quick=False)
        return reply if answered else None

    def _in_pool(self, work: _Work) -> None:
        """Answer in a thread of the pool."""
        self._forget(work)
        given = work.question.request
        budget = given.budget
        began, used = time.perf_counter(), time.thread_time()
        request = replace(given, queued_seconds=budget.elapsed_seconds)
        reply = work.question.answered(request)
        quick = (
            reply.status == 200
            and not budget.used_disk
            and time.thread_time() - used < _QUICK_SECONDS
            and time.perf_counter() - began < _QUICK_WALL_SECONDS
        )
        with contextlib.suppress(RuntimeError):  # the loop has ended, nobody waits
            work.loop.call_soon_threadsafe(partial(self._deliver, work, reply, quick=quick))

    def _deliver(self, work: _Work, reply: Reply, *, quick: bool) -> None:
        self._lane.learn(work.kind, quick=quick)
        work.deliver(reply)

    def quick_budget(self) -> Budget:
        """Return what a quick answer may cost."""
        samples, series, size = self._quick_limits
        return Budget(
            timeout_seconds=_QUICK_WALL_SECONDS,
            max_samples=samples,
            max_series=series,
            max_bytes=size,
            max_visits=_QUICK_VISITS,
            may_use_disk=False,
        )


def busy(reason: str) -> RequestError:
    """Return the error for a request that there is no room for."""
    return RequestError(503, "unavailable", f"{reason}; try again", {"retry-after": "1"})


def _span(request: Request) -> int:
    """Return how many binary digits the ms from `start` to `end` have.

    It is 0 if they are no times, and -1 if there is neither.
    """
    start, end = request.first("start"), request.first("end")
    if not start and not end:
        return -1
    try:
        first = parse_time_ms(start) if start else MIN_MS
        return ((parse_time_ms(end) if end else MAX_MS) - first).bit_length()
    except ValueError:
        return 0


async def _watch(receive: Receive, waiter: Waiter) -> None:
    """End the waiting when the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass
    if not waiter.done():
        waiter.set_result(None)
