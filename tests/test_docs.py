"""The documentation says what there is: every setting, fleet metric, command and decision.

`python -m tests.test_docs` writes docs/fleet-metrics.md anew from the bundled profile.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import typer.main

from aggregator.cli import app
from aggregator.config.schema import json_schema
from aggregator.profile.format import FleetMetric, Source
from aggregator.profile.load import load_profile
from tests.profile import coverage

ROOT = Path(__file__).resolve().parents[1]
METRICS = ROOT / "docs" / "fleet-metrics.md"
_HEAD = """# Fleet metrics

What the bundled profile `kubernetes` records. Each is a finished gauge with one name, unit and
meaning in every cluster, and the labels `cluster` and `region` beside its own. The first candidate
that has data in a cluster serves it, or each that is marked *and*; `/api/v1/clusters/<name>` says
which ones do. *exact* means the same meaning, *close* a small known bias, *rough* a proxy that
should not be compared between clusters. [Profiles](profile.md) says how to add, change and remove
metrics; what the aggregator knows without asking is in [series of our own](own-series.md).

Written from the profile by `python -m tests.test_docs`; a test fails when the two differ.
"""
_ROW = """| metric | unit | labels | what it is | candidates, best first |
| --- | --- | --- | --- | --- |"""
_CONTROLLERS = """
## Ingress controllers side by side

Whatever a cluster has in front of its services, the names, labels and units are the same. A label
that a controller cannot serve is empty. Latencies carry the `point` where they were measured: at
the `client`'s side of the controller, or `upstream` of it; the two are not compared.

"""
_COVERAGE = """
## What real components serve

Found by a real Prometheus that scraped what these components of these versions expose, written by
`python -m tests.profile.coverage`. What is not in the table had no data in any of them.

"""
_SHOWN = {"ingress-nginx": "nginx", "Traefik": "traefik", "Istio": "istio"}


def metrics_page() -> str:
    """Return the page of fleet metrics, with the coverage that it has now."""
    metrics = load_profile("kubernetes").metrics
    groups = dict.fromkeys(metric.group for metric in metrics)
    parts = [_HEAD]
    for group in groups:
        rows = [_row(metric) for metric in metrics if metric.group == group]
        parts.append(f"\n## {group}\n\n{_ROW}\n" + "\n".join(rows) + "\n")
    shown = [metric for metric in metrics if metric.group == "ingress"]
    parts += [_CONTROLLERS, _side_by_side(shown), _COVERAGE]
    return "".join(parts) + coverage.BEGIN + coverage.documented() + coverage.END


def _row(metric: FleetMetric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels) or "–"
    served = ""
    for one in metric.candidates:
        between = "" if not served else " *and* " if one.merge is not None else ", "
        served += f"{between}{one.id} ({one.quality.value})"
    if metric.source is Source.LOKI:
        served += "; asked of Loki"
    return f"| `{metric.name}` | {metric.unit.value} | {labels} | {metric.help} | {served} |"


def _side_by_side(metrics: Sequence[FleetMetric]) -> str:
    """Return which candidates three controllers have, and what these read."""
    lines = [f"| metric | unit | labels | {' | '.join(_SHOWN)} |", "| --- |" + " --- |" * 5]
    for metric in metrics:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        cells = [_candidates(metric, prefix) for prefix in _SHOWN.values()]
        row = (f"`{metric.name}`", metric.unit.value, labels, *cells)
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def _candidates(metric: FleetMetric, prefix: str) -> str:
    derived = next((one.derive for one in metric.candidates if one.derive is not None), None)
    if derived is not None:
        return f"share of `{derived.metric}`"
    found = []
    for one in metric.candidates:
        if one.id.startswith(prefix):
            read = dict.fromkeys(re.findall(r"\b[a-z_]+(?=\{)", one.expr or ""))
            point = f", {one.const['point']}" if "point" in one.const else ""
            found.append(
                f"{one.id} ({one.quality.value}{point}): {', '.join(map('`{}`'.format, read))}"
            )
    return "<br>".join(found)


def test_every_fleet_metric_is_documented() -> None:
    """The page of fleet metrics is what the profile says."""
    assert METRICS.read_text() == metrics_page(), "run: python -m tests.test_docs"


def test_every_setting_is_documented() -> None:
    """Every key of the schema appears in the page about the configuration."""
    text = (ROOT / "docs" / "configuration.md").read_text()
    schema = json_schema()
    keys = {
        key for model in (schema, *schema["$defs"].values()) for key in model.get("properties", {})
    }
    words = set(re.findall(r"[a-z_]+", text))
    assert not {key for key in keys if key not in words}


def test_every_command_is_documented() -> None:
    """Every command of the command line appears in the README or the pages beside it."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    text = "\n".join(page.read_text() for page in pages)
    group = typer.main.get_group(app)
    missing = [name for name in group.commands if f"aggregator {name}" not in text]
    assert not missing


def test_every_link_of_the_documentation_leads_somewhere() -> None:
    """Relative links in Markdown files name files that exist."""
    broken = [
        f"{page.name}: {target}"
        for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert not broken


def test_decisions_are_short_and_numbered() -> None:
    """Each decision has context, decision and consequences, and fits a page."""
    for number, page in enumerate(sorted((ROOT / "docs" / "decisions").glob("*.md")), 1):
        text = page.read_text()
        assert page.name.startswith(f"{number:04}-")
        assert all(f"**{part}.**" in text for part in ("Context", "Decision", "Consequences"))
        assert len(text) < 3000


if __name__ == "__main__":
    METRICS.write_text(metrics_page())
