"""Serves what real components expose, with advancing counters, for a real Prometheus to scrape.

While it serves, a component can go away or restart (its counters begin again), a pod can vanish
and a label can change, as they do in a living cluster.
"""

import lzma
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers import Request, Response, scripted

_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*(?:\{.*\})?) (\S+)(?: -?\d+)?$")
_COUNTED = ("counter", "histogram", "summary")
# Counters grow by this share of their value a second, and by the same in all buckets.
_GROWTH_PER_SECOND = 0.001


@dataclass(frozen=True)
class Exposition:
    """One component's text: lines as they are, or the series and value of a counter."""

    lines: tuple[str | tuple[str, float], ...]

    @staticmethod
    def parse(text: str) -> "Exposition":
        """Split *text*; explicit timestamps are dropped, since the server exposes 'now'."""
        counted = False
        lines: list[str | tuple[str, float]] = []
        for line in text.splitlines():
            if line.startswith("# TYPE"):
                counted = line.rsplit(" ", 1)[1] in _COUNTED
            match = _SAMPLE.match(line)
            if match is None:
                lines.append(line)
            elif counted and float(match[2]) == float(match[2]):
                lines.append((match[1], float(match[2])))
            else:
                lines.append(f"{match[1]} {match[2]}")
        return Exposition(tuple(lines))

    def render(self, seconds: float, edit: Callable[[str], str | None]) -> bytes:
        """Return the text *seconds* after the component started; *edit* changes or drops lines."""
        factor = 1 + _GROWTH_PER_SECOND * seconds
        out: list[str] = []
        for line in self.lines:
            text = line if isinstance(line, str) else f"{line[0]} {line[1] * factor!r}"
            kept = edit(text)
            if kept is not None:
                out.append(kept)
        return ("\n".join(out) + "\n").encode()


@dataclass
class ExposedCluster:
    """The components of one cluster behind `/<component>` of one server."""

    components: Mapping[str, Exposition]
    started: dict[str, float] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    vanished_pods: set[str] = field(default_factory=set)
    replaced: dict[str, str] = field(default_factory=dict)
    url: str = ""

    def answer(self, request: Request) -> Response:
        """Serve one scrape."""
        name = request.path.strip("/")
        if name in self.gone or name not in self.components:
            return Response(404, b"gone", content_type="text/plain")
        seconds = time.monotonic() - self.started[name]
        body = self.components[name].render(seconds, self._edit)
        return Response(200, body, content_type="text/plain; version=0.0.4")

    def restart(self, component: str) -> None:
        """Let the counters of *component* begin again, below where they were."""
        self.started[component] = time.monotonic()

    def _edit(self, line: str) -> str | None:
        for pod in self.vanished_pods:
            if f'pod="{pod}"' in line:
                return None
        for before, after in self.replaced.items():
            line = line.replace(before, after)
        return line

    def scrape_config(self, interval: str) -> str:
        """Return a Prometheus configuration that scrapes every component each *interval*."""
        host = self.url.removeprefix("http://")
        jobs = [
            f"  - job_name: {name}\n"
            f"    metrics_path: /{name}\n"
            "    honor_labels: true\n"
            "    static_configs:\n"
            f"      - targets: ['{host}']\n"
            for name in self.components
        ]
        head = f"global: {{scrape_interval: {interval}, scrape_timeout: {interval}}}\n"
        return head + "scrape_configs:\n" + "".join(jobs)


@contextmanager
def exposed(
    folder: Path, *, without: Collection[str] = (), age_seconds: float = 3600.0
) -> Iterator[ExposedCluster]:
    """Serve the components in *folder* as if they had started *age_seconds* ago."""
    files = {file.name.removesuffix(".prom.xz"): file for file in sorted(folder.glob("*.prom.xz"))}
    components = {
        name: Exposition.parse(lzma.decompress(file.read_bytes()).decode())
        for name, file in files.items()
        if name not in without
    }
    begun = time.monotonic() - age_seconds
    cluster = ExposedCluster(components, dict.fromkeys(components, begun))
    with scripted(cluster.answer) as server:
        cluster.url = server.url
        yield cluster
