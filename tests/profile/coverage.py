"""The table of what real components serve: which candidate of each fleet metric has data.

`python -m tests.profile.coverage SHARED` runs a real Prometheus for each folder of SHARED and
writes the table into docs/fleet-metrics.md; a test compares it with what it finds itself.
"""

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aggregator.profile.format import Bound, Source
from aggregator.profile.load import load_profile
from tests.profile.asking import ask, collect, onboard
from tests.profile.flavours import WINDOW, running

PAGE = Path(__file__).resolve().parents[2] / "docs" / "fleet-metrics.md"
BEGIN, END = "<!-- coverage -->\n", "<!-- end of coverage -->\n"


@dataclass(frozen=True)
class Size:
    """How many series a Prometheus has, and how many fleet metrics make of them."""

    exposed: int
    recorded: int

    @staticmethod
    def of(url: str, recorded: int) -> "Size":
        """Count the series at *url*, those that a scrape adds of its own too."""
        return Size(int(ask(url, 'count({__name__!=""})')[0][1]), recorded)


def table(bindings: Mapping[str, list[Bound]], sizes: Mapping[str, Size]) -> str:
    """Return what is bound in each flavour, as a table; metrics that none serves are left out."""
    names = [name for name in bindings if bindings[name]]
    served: dict[str, dict[str, list[str]]] = {}
    for name in names:
        for item in bindings[name]:
            cells = served.setdefault(item.metric.name, {})
            cells.setdefault(name, []).append(item.candidate.id)
    lines = [f"| metric | {' | '.join(names)} |", "| --- |" + " --- |" * len(names)]
    for metric in load_profile("kubernetes").metrics:
        if metric.name in served:
            cells = served[metric.name]
            found = " | ".join(", ".join(cells.get(name, ["–"])) for name in names)
            lines.append(f"| `{metric.name}` | {found} |")
    counts = {
        "exposed": [sizes[name].exposed for name in names],
        "recorded": [sizes[name].recorded for name in names],
    }
    for title, numbers in counts.items():
        lines.append(f"| *series {title}* | {' | '.join(f'{number:,}' for number in numbers)} |")
    return "\n".join(lines) + "\n"


def documented() -> str:
    """Return the table as the page has it."""
    return PAGE.read_text().partition(BEGIN)[2].partition(END)[0]


def main(shared: str) -> None:
    """Write the table anew."""
    profile = load_profile("kubernetes").served_by(Source.PROMETHEUS)
    with tempfile.TemporaryDirectory() as base, running(Path(shared), Path(base)) as flavours:
        found = {name: onboard(one.url, profile, window=WINDOW) for name, one in flavours.items()}
        sizes = {
            name: Size.of(one.url, len(collect(one.url, found[name], window=WINDOW)))
            for name, one in flavours.items()
        }
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + table(found, sizes) + END + rest.partition(END)[2])


if __name__ == "__main__":
    main(sys.argv[1])
