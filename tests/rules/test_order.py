"""Which rules wait for what their group writes."""

import pytest

from aggregator.rules.groups import load_groups
from aggregator.rules.order import reads_own
from aggregator.rules.settings import RulesSettings

GROUP = """
groups:
- name: g
  rules:
  - {{record: 'a:b', expr: 'up'}}
  - {{alert: Down, expr: 'up == 0'}}
  - {{record: 'other', expr: '{expression}'}}
"""


@pytest.mark.parametrize(
    ("expression", "reads"),
    [
        ("up", False),
        ("a:b", True),
        ("sum(rate(a:b[5m] offset 1m)) > 1", True),
        ("other offset 1m", True),
        ("max_over_time(up[5m:1m])", False),
        ("up * on (job) ALERTS_FOR_STATE", True),
        ('{{job="x"}}', True),
        ('{{__name__=~"a.*"}}', True),
        ('{{__name__="up", __name__!="a:b"}}', False),
        ("1 + 1", False),
    ],
)
def test_only_rules_that_may_read_their_group_wait(tmp_path, expression, reads):
    """Names that differ are ruled out, anything less exact is not."""
    path = tmp_path / "rules.yaml"
    path.write_text(GROUP.format(expression=expression.replace("{{", "{").replace("}}", "}")))
    [group] = load_groups([path], RulesSettings())
    assert reads_own(group) == (False, False, reads)
