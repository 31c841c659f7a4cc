"""Bars (d) and (f): queries over 28.8 M samples against Prometheus and VictoriaMetrics, over HTTP.

All three hold the same samples and answer the same requests in interleaved rounds of one run; ours
is `aggregator serve` on a store filled beforehand, the others were filled by remote write.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.query.cases import query_cases
from tests.benchmarks.query.dashboard import dashboard
from tests.benchmarks.query.data import HALF_MINUTE_MS, metrics
from tests.benchmarks.query.rounds import RSS_LIMIT_MB, compare, rows
from tests.benchmarks.query.sides import fill_peers, fill_store, peers, settle, sides
from tests.benchmarks.report import publish

ROUNDS = 7
FILL_SECONDS = 120  # about; the data ends when they have passed, so that it is new when asked for


def main() -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size, not recorded")
    parser.add_argument("--fill", metavar="DIRECTORY:SERIES:END_MS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fill:  # a process of its own: its memory is not the server's
        path, series, end = options.fill.rsplit(":", 2)
        fill_store(metrics(int(series), int(end)), Path(path))
        return 0
    per_metric, rounds, allowed = (50, 3, 20) if options.quick else (500, ROUNDS, FILL_SECONDS)
    end_ms = int((time.time() + allowed) // 60) * 60_000 + HALF_MINUTE_MS
    made = metrics(per_metric, end_ms)
    with contextlib.ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (base / "ours").mkdir()
        fill = f"{base / 'ours' / 'data'}:{per_metric}:{end_ms}"
        with subprocess.Popen([sys.executable, "-m", __spec__.parent, "--fill", fill]) as filling:
            servers = stack.enter_context(peers(base))
            fill_peers(made, servers)
        if filling.returncode:
            raise SystemExit("the store could not be filled")
        compared = stack.enter_context(sides(base / "ours", servers))
        settle(compared, end_ms)
        timings = compare(compared, query_cases(end_ms), rounds)
        size = f"{20 * per_metric} series × 24 h @ 30 s, {rounds} rounds"
        found = rows(timings, "d", size, compared[0].peak_rss_mb(), RSS_LIMIT_MB)
        found.append(dashboard(compared, end_ms, quick=options.quick))
    return publish(found, quick=options.quick)


if __name__ == "__main__":
    raise SystemExit(main())
