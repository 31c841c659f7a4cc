"""Templates render as Prometheus renders them, and refuse at load time what they do not know."""

import json
import math
import subprocess
from pathlib import Path

import pytest

from aggregator.rules.template import (
    MAX_RESULT_CHARACTERS,
    MAX_TEMPLATE_CHARACTERS,
    TemplateError,
    compile_template,
)
from tests.servers import binary

TEMPLATES = (
    "{{ $value }}",
    "{{ .Value }}",
    "{{ humanize $value }}",
    "{{ $value | humanize }}",
    "{{ $value | humanize1024 }}",
    "{{ $value | humanizePercentage }}",
    "{{ $value | humanizeDuration }}",
    '{{ printf "%.2f" $value }}',
    '{{ $value | printf "%.3e" }}',
    '{{ printf "%8.1f|%-6s|%g" $value $labels.cluster $value }}',
    '{{ printf "%010.2f|%6.1f|%-12v|%14v|%12g|%s" $value $value $value $value $value "x" }}',
    '{{ printf "%v %% of %s" $value $labels.region | toUpper }}',
    "{{ $labels.cluster | toUpper }} in {{ .Labels.region }}{{ $labels.missing }}",
    "a {{- $labels.cluster -}} b",
    'x {{ "quoted \\" text" }} {{ 5 }} {{ 2.50 }}',
)
INT64 = 2.0**63  # from here on Prometheus's humanizeDuration overflows
VALUES = (
    "0", "1", "-1", "0.05", "0.123456789", "999.95", "1000", "1234567", "123456789.5", "1e6",
    "1e20", "1e21", "1e27", "1e30", "0.0001", "0.00001234", "1e-30", "59", "61", "3661", "90061",
    "-3661.5", "0.5", "NaN", "+Inf", "-Inf", "1048576", "1023.99",
)  # fmt: skip


def test_results_are_prometheuss(tmp_path: Path) -> None:
    """Every template gives, for every value, what Debian's promtool expands it to."""
    labels = {"cluster": "eu-1", "region": "europe"}
    rules, expected = [], []
    for index, value in enumerate(VALUES):
        expression = (
            f'label_replace(label_replace(vector({value}), "cluster", "eu-1", "", ""), '
            '"region", "europe", "", "")'
        )
        name = f"V{index}"
        number = float(value)
        templates = {
            f"t{position}": text
            for position, text in enumerate(TEMPLATES)
            if not ("Duration" in text and math.isfinite(number) and abs(number) >= INT64)
        }
        rules.append({"alert": name, "expr": expression, "annotations": templates})
        rendered = {
            key: compile_template(text).render(labels, number) for key, text in templates.items()
        }
        alert = {"exp_labels": labels, "exp_annotations": rendered}
        expected.append({"alertname": name, "eval_time": "1m", "exp_alerts": [alert]})
    (tmp_path / "rules.json").write_text(json.dumps({"groups": [{"name": "g", "rules": rules}]}))
    test = {"interval": "1m", "input_series": [], "alert_rule_test": expected}
    tests = {"rule_files": ["rules.json"], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "tests.json").write_text(json.dumps(tests))
    done = subprocess.run(
        [binary("promtool"), "test", "rules", "tests.json"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ("{{ $labels.a", "without"),
        ("{{ }}", "missing"),
        ("{{ $value | }}", "missing"),
        ("{{ if $value }}x{{ end }}", "if"),
        ("{{ range $labels }}", "range"),
        ('{{ query "up" }}', "query"),
        ("{{ $labels }}", "$labels"),
        ("{{ $externalLabels.x }}", "$externalLabels"),
        ("{{ $x := 1 }}", "$x"),
        ("{{ $labels.a | humanize }}", "takes a number"),
        ("{{ $value | toUpper }}", "takes text"),
        ("{{ humanize $value $value }}", "one argument"),
        ("{{ humanize }}", "one argument"),
        ("{{ $value $value }}", "takes arguments"),
        ("{{ printf $value }}", "format in quotes"),
        ('{{ printf "%d" $value }}', "%s %v %f"),
        ('{{ printf "%999f" $value }}', "%s %v %f"),
        ('{{ printf "%s" $value }}', "does not fit"),
        ('{{ printf "%f" $labels.a }}', "does not fit"),
        ('{{ printf "%f" }}', "needs 1"),
        ("{{ $labels.a humanize }}", "first"),
        ("{{ $labels.__class__.__mro__ }}", ".__mro__"),
        ("x" * (MAX_TEMPLATE_CHARACTERS + 1), "longer"),
    ],
)
def test_unknown_constructs_are_named(template: str, names: str) -> None:
    """What is not supported is an error when the template is compiled, and says what it is."""
    with pytest.raises(TemplateError) as caught:
        compile_template(template)
    assert names in str(caught.value)


def test_results_are_capped() -> None:
    """A huge label value from a cluster cannot make a huge annotation."""
    text = compile_template("{{ $labels.a }}").render({"a": "x" * 10**6}, math.nan)
    assert len(text) == MAX_RESULT_CHARACTERS
