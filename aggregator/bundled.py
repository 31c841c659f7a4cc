"""Finds the dashboards and rule files that come with the aggregator.

In a checkout they are the top-level folders; a wheel carries them inside the package.
"""

from pathlib import Path

from aggregator.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent


def bundled_files(folder: str, pattern: str, package: Path = _PACKAGE) -> tuple[Path, ...]:
    """Return the files of the bundled *folder* that match *pattern*, sorted by name.

    Raises `ConfigError` if the installation has none.
    """
    for place in (package / "_bundled" / folder, package.parent / folder):
        files = tuple(sorted(place.glob(pattern)))
        if files:
            return files
    raise ConfigError(f"the installation lacks its {folder}; install the wheel again", file=package)
