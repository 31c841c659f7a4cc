"""A process that answers as one Prometheus whose series are all new at every collection.

    python -m tests.benchmarks.fake_churn PORT SERIES INTERVAL_SECONDS

Before the time of the first churned answer the series stay the same; the path chooses:
`/steady/api/v1/query` or `/churn/api/v1/query`.
"""

import asyncio
import gzip
import math
import sys

from tests.benchmarks.fake_fleet import FakeCluster

SERIES, INTERVAL = 50_000, 15


def rows(time: float, generation: int, template: str) -> str:
    """Return every series of one generation; *template* holds its samples."""
    return ",".join(
        f'{{"metric":{{"__name__":"churn_total","namespace":"team-{index % 37}",'
        f'"pod":"job-{generation}-{index:05x}","container":"app","node":"node-{index % 250}",'
        f'"uid":"{generation:08x}-{index:012x}"}},' + template.format(time, index) + "}"
        for index in range(SERIES)
    )


class ChurningCluster(FakeCluster):
    """Answers one connection."""

    def reply(self, path: str, query: dict[str, list[str]]) -> bytes:
        """Return the compressed answer of one query."""
        expression, time = query.get("query", [""])[0], float(query.get("time", ["0"])[0])
        if "churn_total" not in expression:
            return gzip.compress(b'{"status":"success","data":{"resultType":"vector","result":[]}}')
        generation = math.floor(time / INTERVAL) if path.startswith("/churn") else 0
        ranged = "[" in expression
        kind = "matrix" if ranged else "vector"
        template = '"values":[[{0:.3f},"{1}"]]' if ranged else '"value":[{0:.3f},"{1}"]'
        result = rows(time - 1 if ranged else time, generation, template)
        body = f'{{"status":"success","data":{{"resultType":"{kind}","result":[{result}]}}}}'
        return gzip.compress(body.encode(), 1)


async def main() -> None:
    """Serve until the process is ended."""
    global SERIES, INTERVAL
    port, SERIES, INTERVAL = (int(argument) for argument in sys.argv[1:4])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(ChurningCluster, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
