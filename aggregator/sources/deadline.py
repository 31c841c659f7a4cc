"""A hard end for every request, whatever the other side does.

A socket timeout counts from one operation to the next, so a server that sends a byte now and then
holds a thread for ever, in the TLS handshake and in the headers as well, where nothing of ours
runs. One reaper thread therefore shuts the socket down at the deadline. What was read until then
can look complete (http.client takes the end of the stream for the end of the headers): the caller
has to look at `expired` after success too.
"""

import heapq
import itertools
import os
import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from aggregator import supervise


class Exchange:
    """One request and its answer, with the time (`time.monotonic()`) when they have to end.

    A context manager: inside it, connections of this thread that open or are used are watched.
    """

    def __init__(self, ends: float, connect_seconds: float) -> None:
        self.ends, self.connect_seconds = ends, connect_seconds
        self.connected = False  # whether a connection was opened, not one that was kept alive
        self._lock = threading.Lock()
        self._watched: list[int] = []
        self._over = self._expired = False

    def __enter__(self) -> Self:
        _LOCAL.exchange = self
        _REAPER.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _LOCAL.exchange = None
        with self._lock:
            self._over = True
            watched, self._watched = self._watched, []
        for descriptor in watched:
            os.close(descriptor)

    @property
    def expired(self) -> bool:
        """Whether the deadline passed before the exchange was over."""
        return self._expired or (not self._over and time.monotonic() >= self.ends)

    def left(self) -> float:
        """Return the seconds that are left; raises TimeoutError when there are none."""
        seconds = self.ends - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds

    def watch(self, sock: socket.socket) -> None:
        """Have *sock* shut down at the deadline.

        The descriptor is duplicated, for TLS takes the socket object apart during the handshake,
        and a number that is ours cannot be closed and given to another connection meanwhile.
        """
        descriptor = os.dup(sock.fileno())
        with self._lock:
            self._watched.append(descriptor)
            expired = self._expired
        if expired:
            _shut_down(descriptor)

    def expire(self) -> None:
        """End the exchange now, unless it is over."""
        with self._lock:
            if self._over:
                return
            self._expired = True
            for descriptor in self._watched:
                _shut_down(descriptor)


def current() -> Exchange | None:
    """Return the exchange that this thread is in."""
    exchange: Exchange | None = getattr(_LOCAL, "exchange", None)
    return exchange


def _shut_down(descriptor: int) -> None:
    sock = socket.socket(fileno=descriptor)
    try:
        with suppress(OSError):  # not connected yet, or no longer
            sock.shutdown(socket.SHUT_RDWR)
    finally:
        sock.detach()


class _Reaper:
    """The thread that ends exchanges at their deadline; it starts with the first one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, Exchange]] = []
        self._order = itertools.count()
        self._loop: supervise.Loop | None = None

    def add(self, exchange: Exchange) -> None:
        with self._changed:
            if self._loop is None:
                self._loop = supervise.Loop("deadline reaper", self._step)
                self._loop.start()
            heapq.heappush(self._heap, (exchange.ends, next(self._order), exchange))
            if self._heap[0][2] is exchange:
                self._changed.notify()

    def _step(self, stopping: threading.Event) -> None:
        with self._changed:
            while not self._heap or self._heap[0][0] > time.monotonic():
                left = self._heap[0][0] - time.monotonic() if self._heap else None
                self._changed.wait(left)
                if stopping.is_set():
                    return
            exchange = heapq.heappop(self._heap)[2]
        exchange.expire()


_LOCAL = threading.local()
_REAPER = _Reaper()
