"""The documentation says what there is: every setting, fleet metric, command and decision.

`python -m tests.test_docs` writes docs/fleet-metrics.md anew from the bundled profile.
"""

import re
from pathlib import Path

import typer.main

from aggregator.cli import app
from aggregator.config.schema import json_schema
from aggregator.profile.load import load_profile

ROOT = Path(__file__).resolve().parents[1]
METRICS = ROOT / "docs" / "fleet-metrics.md"
_HEAD = """# Fleet metrics

What the bundled profile `kubernetes` records. Each is a finished gauge with one name, unit and
meaning in every cluster, and the labels `cluster` and `region` beside its own. The first candidate
that has data in a cluster serves it; `/api/v1/clusters/<name>` says which one does. *exact* means
the same meaning, *close* a small known bias, *rough* a proxy that should not be compared between
clusters.

Written from the profile by `python -m tests.test_docs`; a test fails when the two differ.

| metric | unit | labels | what it is | candidates, best first |
| --- | --- | --- | --- | --- |
"""


def metrics_page() -> str:
    """Return the page of fleet metrics."""
    rows = []
    for metric in load_profile("kubernetes").metrics:
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "–"
        served = ", ".join(
            f"{candidate.id} ({candidate.quality.value})" for candidate in metric.candidates
        )
        help_text = metric.help.strip().replace("|", "\\|")
        rows.append(
            f"| `{metric.name}` | {metric.unit.value} | {labels} | {help_text} | {served} |"
        )
    return _HEAD + "\n".join(rows) + "\n"


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
