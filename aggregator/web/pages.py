"""The pages: HTML rendered from view objects, and the few static files they need."""

from collections.abc import Mapping
from dataclasses import asdict
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import jinja2

from aggregator.diagnose.overview import Overview
from aggregator.diagnose.signals import SIGNALS

_CHARTS = ("errors", "latency", "cpu", "restarts")
_METHODS = ("get", "post", "delete")
_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "LICENSE": "text/plain; charset=utf-8",
}


class Pages:
    """Everything a browser gets, rendered or loaded once."""

    def __init__(self) -> None:
        templates = jinja2.Environment(
            loader=jinja2.PackageLoader("aggregator.web"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._fleet = templates.get_template("fleet.html")
        self._docs = templates.get_template("docs.html")
        self._charts = [signal for signal in SIGNALS if signal.name in _CHARTS]
        self._signals = [{**asdict(signal), "unit": signal.unit.value} for signal in self._charts]
        self._static = dict(_static_files(files("aggregator.web") / "static", ""))

    def fleet(self, overview: Overview) -> bytes:
        """Return the first page."""
        return self._fleet.render(
            page="fleet", overview=overview, charts=self._charts, signals=self._signals
        ).encode()

    def docs(self, document: Mapping[str, Any]) -> bytes:
        """Return the page that shows an OpenAPI *document*."""
        return self._docs.render(page="docs", document=document, methods=_METHODS).encode()

    def static(self, name: str) -> tuple[bytes, str] | None:
        """Return a static file's bytes and content type, or None if there is none so called."""
        return self._static.get(name)


def _static_files(folder: Traversable, prefix: str) -> list[tuple[str, tuple[bytes, str]]]:
    found: list[tuple[str, tuple[bytes, str]]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _static_files(entry, f"{prefix}{entry.name}/")
        else:
            suffix = entry.name.rsplit(".", 1)[-1]
            found.append((prefix + entry.name, (entry.read_bytes(), _TYPES[suffix])))
    return found
