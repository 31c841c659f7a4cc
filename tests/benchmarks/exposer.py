"""A process that exposes synthetic series for real Prometheus servers to scrape.

    python -m tests.benchmarks.exposer PORT SERIES

Every path exposes SERIES series of 13 labels, kube-like, spread over 20 metrics. The values change
at every scrape; the text before each value is rendered once.
"""

import asyncio
import random
import sys


def label_text(index: int) -> str:
    """Return the series text of number *index*, without its value."""
    labels = {
        "namespace": f"team-{index % 37}",
        "pod": f"service-{index % 211}-{index * 7919 % 99991:05x}-{index:05x}",
        "container": ("app", "proxy", "init")[index % 3],
        "node": f"ip-10-0-{index % 17}-{index % 251}.internal",
        "service": f"service-{index % 211}",
        "instance": f"10.0.{index % 17}.{index % 251}:8080",
        "job": "kubernetes-pods",
        "endpoint": "http-metrics",
        "zone": f"zone-{index % 3}",
        "image": f"registry.example.com/team-{index % 37}/service:{index % 11}",
        "uid": f"{index:08x}-aaaa-bbbb-cccc-{index * 31 % 2**32:012x}",
        "version": f"v1.{index % 29}",
        "tier": ("front", "back")[index % 2],
    }
    inner = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return f"bench_metric_{index % 20}{{{inner}}} "


class Exposer(asyncio.Protocol):
    """Answers any GET with the exposition; keep-alive."""

    series: list[str]
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answer every complete request."""
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            _, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
            noise = [f"{random.random() * 1e6:.3f}\n" for _ in range(997)]
            body = "".join(
                text + noise[index % 997] for index, text in enumerate(self.series)
            ).encode()
            head = (
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            self.transport.write(head.encode() + body)


async def main() -> None:
    """Serve until the process is ended."""
    port, count = int(sys.argv[1]), int(sys.argv[2])
    Exposer.series = [label_text(index) for index in range(count)]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Exposer, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
