"""The process of one simulated cluster: `python -m aggregator.demo.server SITE PORT FILE`.

It ends when its standard input does, so that it never outlives the demo.
"""

import signal
import sys
import time
from pathlib import Path

from aggregator.api.app import Dependencies, create_app
from aggregator.api.server import Server
from aggregator.api.settings import ApiSettings
from aggregator.demo import logs
from aggregator.demo.cluster import SimulatedCluster
from aggregator.demo.sites import SITES
from aggregator.promql.engine import Engine
from aggregator.supervise import Loop


def now_ms() -> int:
    """Return the wall clock in ms."""
    return int(time.time() * 1000)


def main(site_name: str, port: str, switches_file: str) -> None:
    """Serve one site until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the demo, which then ends us
    site = next(site for site in SITES if site.name == site_name)
    cluster = SimulatedCluster(site, Path(switches_file), now_ms)
    cluster.advance()
    settings = ApiSettings(listen=f"127.0.0.1:{port}")
    dependencies = Dependencies(
        settings=settings,
        engine=Engine(cluster.store),
        store=cluster.store,
        freshness=lambda _reads, _now, _clusters: (),
        clusters=lambda: (),
        waiting=lambda: (),
        now_ms=now_ms,
        routes=logs.routes(Path(switches_file), now_ms) if site.affected else (),
    )
    server = Server(create_app(dependencies), settings)
    loop = Loop(f"scrape {site.name}", cluster.step)
    server.start()
    loop.start()
    sys.stdin.read()
    loop.stop()
    server.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
