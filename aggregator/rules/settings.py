"""Settings of rules: which files, how often, and how long missing data holds an alert."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from aggregator.bundled import bundled_files
from aggregator.errors import ConfigError
from aggregator.settings import Duration, Settings, parse_duration_ms


class RulesSettings(Settings):
    """Where the rules are; without `files`, the ones that come with the aggregator.

    `interval` is for groups that set none, `limit` is how many alerts or series a rule may give if
    its group does not say, and `hold` bounds how long an alert over several clusters is held while
    one of them has no data.
    """

    files: tuple[str, ...] | None = None
    interval: Annotated[Duration, Field(ge=1_000)] = parse_duration_ms("30s")
    hold: Duration = parse_duration_ms("1h")
    limit: Annotated[int, Field(gt=0)] = 10_000

    def paths(self, base: Path) -> tuple[Path, ...]:
        """Return the rule files, patterns being relative to *base*.

        Raises `ConfigError` if a file that is named without a wildcard is absent.
        """
        if self.files is None:
            return bundled_files("alert_rules", "*.yaml")
        found: list[Path] = []
        for pattern in self.files:
            anchor = Path(pattern).anchor
            matches = sorted(
                Path(anchor).glob(pattern[len(anchor) :]) if anchor else base.glob(pattern)
            )
            if not matches and not any(wildcard in pattern for wildcard in "*?["):
                raise ConfigError("no such file", file=base / pattern, path="rules.files")
            found += [path for path in matches if path not in found]
        return tuple(found)
