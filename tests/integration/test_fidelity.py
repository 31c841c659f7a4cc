"""The centre holds what the sources hold."""

from pathlib import Path

import pytest

from tests.integration.fidelity import QUICK, run


@pytest.mark.integration
@pytest.mark.timeout(400)
def test_the_centre_equals_its_sources(tmp_path: Path, shared_dir: Path) -> None:
    """While clusters change, counts, sums and every copied sample equal the sources' own."""
    compared, copied = run(tmp_path, shared_dir / "expositions", QUICK, 200)
    assert compared >= 200 * 3 * 2
    assert copied > 100_000
