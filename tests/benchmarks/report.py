"""One row for each bar, printed and kept in docs/BENCHMARKS.md.

A row is replaced when its benchmark runs again; the others stay. A bar that was run smaller than
it is defined, or without its peer, counts as missed.
"""

import datetime as dt
import os
import platform
import re
from dataclasses import astuple, dataclass
from pathlib import Path

FILE = Path(__file__).resolve().parents[2] / "docs" / "BENCHMARKS.md"
_HEAD = """# Benchmarks

Written by `make bench`: one row for each bar, measured side by side with its peer in one run. The
figures move with the machine; the ratios are what counts. `make bench-quick` runs the same code
at a fraction of the size and does not write here.

Rows d, e and f: Debian's Prometheus 2.42 with `--storage.tsdb.retention.time=60d` and the remote
write receiver, else its defaults; Debian's VictoriaMetrics 1.79 with `-search.disableCache` and
`nocache=1`, limits of a million series raised. All hold the same samples, answer over HTTP on
loopback in interleaved rounds, and must answer alike before anything is measured: ours and
Prometheus to 10⁻⁶, VictoriaMetrics to 5 % (its functions do not extrapolate). In its turn each is
asked for a tenth of a second, once at least, before the time counts; where all take less than
10 ms that is the median of nine requests, and there are three turns a round, else it is one
request. Times are minimum/median, ratios are of medians.

Where Prometheus takes less than 1 ms, most of what is measured is the way through HTTP and the work
of the client, which is `http.client`; Debian's Python (3.11.2) runs a tenth faster than one that
was built without optimisation.

In f each client looks at another second, and every time at another one: ranges are aligned to steps
of 30 s as Grafana does it, instants and label requests are not.

| bar | size | ours | peer | ratio | bar to meet | memory | result | when, where |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True)
class Row:
    """One bar: what was measured and whether it holds."""

    bar: str
    size: str
    ours: str
    peer: str
    ratio: str
    target: str
    memory: str
    passed: bool

    @property
    def verdict(self) -> str:
        """What came out, in a word."""
        return "pass" if self.passed else "**missed**"


def publish(rows: list[Row], *, quick: bool) -> int:
    """Print *rows*, keep them unless *quick*, and return the process's exit status."""
    for row in rows:
        print(
            f"{row.verdict:10} {row.bar}: {row.size}: ours {row.ours}, peer {row.peer}, "
            f"ratio {row.ratio} ({row.target}), memory {row.memory}"
        )
    if not quick:
        kept = _kept()
        where = (
            f"{dt.date.today()}, {os.cpu_count()} cores, {platform.machine()}, "  # noqa: DTZ011
            f"Python {platform.python_version()}"
        )
        for row in rows:
            cells = [str(cell) for cell in astuple(row)[:-1]]
            cells += [row.verdict, where]
            kept[row.bar] = "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"
        FILE.parent.mkdir(exist_ok=True)
        FILE.write_text(_HEAD + "\n".join(kept[bar] for bar in sorted(kept)) + "\n")
    return 0 if quick or all(row.passed for row in rows) else 1


def _kept() -> dict[str, str]:
    if not FILE.exists():
        return {}
    lines = [line for line in FILE.read_text().splitlines() if re.match(r"\| (?!bar |---)", line)]
    return {line.split(" | ")[0].removeprefix("| "): line for line in lines}
