"""Runs what takes milliseconds on the event loop, one job in each of its rounds.

Threads would spend as much on handing each other the interpreter lock as on such answers: a
dashboard of 32 requests took 190 ms of processor time in twelve threads, 75 ms here. In between the
event loop does what else there is to do, so nobody, health neither, waits for more than one job.

After a job it looks for the next request a fifth of a millisecond before it sleeps: who asks one
thing after the other is answered sooner by what it takes to wake up, which is as long as the job.
"""

import asyncio
import time
from collections import OrderedDict

from aggregator import telemetry
from aggregator.api.turns import Job, Turn, Turns
from aggregator.supervise import run

_KINDS = 4_096
_AWAKE_SECONDS = 0.0002
_WAITING = telemetry.POOL_WAITING.labels("quick")


class QuickLane:
    """The jobs that wait for the event loop, and which kinds of them are known to be quick.

    Lives on the event loop.
    """

    def __init__(self) -> None:
        self._turns = Turns()
        self._kinds: OrderedDict[int, None] = OrderedDict()
        self._used = self._turning = False
        self._awake_until = 0.0

    def knows(self, kind: int) -> bool:
        """Tell whether the last job of this *kind* was quick."""
        if kind not in self._kinds:
            return False
        self._kinds.move_to_end(kind)
        return True

    def learn(self, kind: int, *, quick: bool) -> None:
        """Remember whether a job of this *kind* was quick."""
        if not quick:
            self._kinds.pop(kind, None)
            return
        self._kinds[kind] = None
        if len(self._kinds) > _KINDS:
            self._kinds.popitem(last=False)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and no job has run in this round: the next one may run at once."""
        return not self._used

    def stay_awake(self) -> None:
        """Look for the next request for a while: a job has ended."""
        self._awake_until = time.perf_counter() + _AWAKE_SECONDS

    def submit(self, client: str, line: str, job: Job) -> bool:
        """Let *job* run when *client* and its *line* have their turn; False if too many wait."""
        if not self._turns.add(Turn(client, line, job)):
            return False
        self.take_round()
        return True

    def take_round(self) -> None:
        """Take this round: no other job runs in it. Who finds the lane idle may run one then."""
        self._used = True
        if not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._round)

    def _round(self) -> None:
        turn = self._turns.take(lambda _client, _line: True) if self._turns else None
        self._used = turn is not None
        self._turning = self._used or time.perf_counter() < self._awake_until
        if self._turning:
            asyncio.get_running_loop().call_soon(self._round)
        if turn is not None:
            _WAITING.set(len(self._turns))
            run("api", turn.job)
            self.stay_awake()
