"""Many clients that refresh a dashboard again and again, in a process of its own.

Each client holds ten connections and sends ten requests at a time; when the last answer is there
it refreshes again, without a pause. Prints what it saw as JSON.
"""

import asyncio
import sys
import time
from dataclasses import asdict, dataclass, field
from urllib.parse import urlsplit

import orjson

from tests.benchmarks.query.panels import Ask, refresh

CONNECTIONS = 10


@dataclass
class Seen:
    """Milliseconds of each request by kind, and of each whole refresh."""

    taken: dict[str, list[float]] = field(default_factory=dict)
    refreshes: list[float] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0


class Connection:
    """One kept-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, ask: Ask, seen: Seen) -> None:
        """Send a request and read the whole answer."""
        begun = time.perf_counter()
        self._writer.write(ask.data)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        if b"transfer-encoding: chunked" in head:
            while size := int(await self._reader.readuntil(b"\r\n"), 16):
                await self._reader.readexactly(size + 2)
            await self._reader.readexactly(2)
        else:
            length = head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]
            await self._reader.readexactly(int(length))
        status = head[9:12]
        if status == b"200":
            seen.taken.setdefault(ask.kind, []).append(1000 * (time.perf_counter() - begun))
        else:
            name = status.decode()
            seen.failures[name] = seen.failures.get(name, 0) + 1

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


def moment(number: int, turn: int, now: int) -> int:
    """Return the time at which a client looks: within a minute, at another second each turn."""
    return now - (number + 23 * turn) % 60


async def client(number: int, base: str, prefix: str, deadline: float, now: int) -> Seen:
    """Refresh until *deadline* (monotonic); a refresh that has begun is finished."""
    parts, seen = urlsplit(base), Seen()
    connections = [
        Connection(*await asyncio.open_connection(parts.hostname, parts.port, limit=2**20))
        for _ in range(CONNECTIONS)
    ]

    async def worker(connection: Connection, waiting: list[Ask]) -> None:
        while waiting:
            await connection.ask(waiting.pop(0), seen)

    while time.monotonic() < deadline:
        begun = time.perf_counter()
        waiting = refresh(parts.netloc, prefix, number, moment(number, len(seen.refreshes), now))
        await asyncio.gather(*(worker(connection, waiting) for connection in connections))
        seen.refreshes.append(1000 * (time.perf_counter() - begun))
    for connection in connections:
        connection.close()
    return seen


async def load(base: str, prefix: str, clients: int, seconds: float, now: int) -> Seen:
    """Run all clients and return what they saw together."""
    begun, cpu = time.monotonic(), time.process_time()
    runs = [client(number, base, prefix, begun + seconds, now) for number in range(clients)]
    total = Seen()
    for seen in await asyncio.gather(*runs):
        total.refreshes += seen.refreshes
        for kind, taken in seen.taken.items():
            total.taken.setdefault(kind, []).extend(taken)
        for status, count in seen.failures.items():
            total.failures[status] = total.failures.get(status, 0) + count
    total.wall_seconds = time.monotonic() - begun
    total.cpu_seconds = time.process_time() - cpu
    return total


if __name__ == "__main__":
    url, path, how_many, how_long, at = sys.argv[1:]
    result = asyncio.run(load(url, path, int(how_many), float(how_long), int(at)))
    sys.stdout.buffer.write(orjson.dumps(asdict(result)))
