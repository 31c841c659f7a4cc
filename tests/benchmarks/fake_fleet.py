"""A process that answers for many cheap clusters: `/c/<number>/api/v1/query…`.

    python -m tests.benchmarks.fake_fleet PORT SERIES HANGING

Every cluster serves the same SERIES series of one recorded metric, rendered and compressed once
for each evaluation time; clusters below HANGING accept requests and never answer. What is not a
batch (probes, a range) gets a small honest answer.
"""

import asyncio
import gzip
import sys
from urllib.parse import parse_qs, urlsplit

SERIES, HANGING = 2_000, 0


def labels(index: int) -> str:
    """Return one series' labels as JSON members."""
    return (
        f'"__rule__":"0","namespace":"team-{index % 37}","pod":"service-{index % 211}-{index:05x}",'
        f'"container":"app","node":"ip-10-0-{index % 17}-{index % 251}",'
        f'"workload":"s-{index % 211}"'
    )


def vector(time: str) -> bytes:
    """Return the compressed answer of the batch at *time*."""
    seconds = float(time)
    rows = ",".join(
        f'{{"metric":{{{labels(index)}}},"value":[{time},"{(index * 37 + seconds) % 1e6 / 7}"]}}'
        for index in range(SERIES)
    )
    body = f'{{"status":"success","data":{{"resultType":"vector","result":[{rows}]}}}}'
    return gzip.compress(body.encode(), 1)


class FakeCluster(asyncio.Protocol):
    """Reads the requests of one connection; what is answered is for subclasses to say."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answer every complete request."""
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, rest = self.buffer.split(b"\r\n\r\n", 1)
            length = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            if len(rest) < length:
                return
            self.buffer = rest[length:]
            self.answer(head.split(b" ", 2)[1].decode(), rest[:length].decode())

    def answer(self, target: str, form: str) -> None:
        """Answer one request."""
        parts = urlsplit(target)
        self.serve(parts.path, parse_qs(parts.query or form))

    def serve(self, path: str, query: dict[str, list[str]]) -> None:
        """Answer one query, or never."""
        self.send(self.reply(path, query))

    def reply(self, path: str, query: dict[str, list[str]]) -> bytes:
        """Return the compressed answer of one query."""
        raise NotImplementedError

    def send(self, body: bytes) -> None:
        """Send a compressed JSON answer."""
        head = (
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self.transport.write(head.encode() + body)


class FakeFleet(FakeCluster):
    """Answers for all clusters: each path is one of them."""

    answers: dict[str, bytes]

    def serve(self, path: str, query: dict[str, list[str]]) -> None:
        """Answer one query, or never if the cluster hangs."""
        if int(path.split("/")[2]) >= HANGING:
            super().serve(path, query)

    def reply(self, path: str, query: dict[str, list[str]]) -> bytes:
        """Return the compressed answer of one query."""
        expression = query.get("query", [""])[0]
        if not path.endswith("/query") or "fleet_bench" not in expression:
            kind = "matrix" if path.endswith("/query_range") else "vector"
            empty = f'{{"status":"success","data":{{"resultType":"{kind}","result":[]}}}}'
            return gzip.compress(empty.encode())
        time = query["time"][0]
        if "count(" in expression:
            return gzip.compress(_count(time).encode())
        if time not in self.answers:
            self.answers[time] = vector(time)
            while len(self.answers) > 8:
                del self.answers[next(iter(self.answers))]
        return self.answers[time]


def _count(time: str) -> str:
    row = f'{{"metric":{{"__rule__":"0"}},"value":[{time},"{SERIES}"]}}'
    return f'{{"status":"success","data":{{"resultType":"vector","result":[{row}]}}}}'


async def main() -> None:
    """Serve until the process is ended."""
    global SERIES, HANGING
    port, SERIES, HANGING = (int(argument) for argument in sys.argv[1:4])
    FakeFleet.answers = {}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(FakeFleet, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
