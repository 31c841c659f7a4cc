"""A process that answers as one Prometheus whose series are all new every 15 s, for a while.

    python -m tests.benchmarks.fake_churn PORT SERIES BEGIN END

Between the times BEGIN and END (s since 1970) every quarter of a minute has SERIES series of its
own; before and after, they stay the same.
"""

import asyncio
import gzip
import sys

from tests.benchmarks.fake_fleet import FakeCluster

SERIES, BEGIN, END = 50_000, 0, 0
INTERVAL = 15


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

    def reply(self, _path: str, query: dict[str, list[str]]) -> bytes:
        """Return the compressed answer of one query."""
        expression, time = query.get("query", [""])[0], float(query.get("time", ["0"])[0])
        if "churn_total" not in expression:
            return gzip.compress(b'{"status":"success","data":{"resultType":"vector","result":[]}}')
        generation = int(time // INTERVAL) if BEGIN <= time < END else 0
        ranged = "[" in expression
        kind = "matrix" if ranged else "vector"
        template = '"values":[[{0:.3f},"{1}"]]' if ranged else '"value":[{0:.3f},"{1}"]'
        result = rows(time - 1 if ranged else time, generation, template)
        body = f'{{"status":"success","data":{{"resultType":"{kind}","result":[{result}]}}}}'
        return gzip.compress(body.encode(), 1)


async def main() -> None:
    """Serve until the process is ended."""
    global SERIES, BEGIN, END
    port, SERIES, BEGIN, END = (int(argument) for argument in sys.argv[1:5])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(ChurningCluster, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
