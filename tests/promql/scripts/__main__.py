"""Runs script files: `python -m tests.promql.scripts FILE…`; exit status 1 if an eval fails."""

import sys
from collections import Counter
from pathlib import Path

from aggregator.store.memory import MemoryStore
from tests.promql.scripts.notation import NotationError
from tests.promql.scripts.run import Verdict, run_script


def main(files: list[str]) -> int:
    """Run *files* on the memory store and print a line of counts for each."""
    failed = False
    for name in files:
        counts: Counter[Verdict] = Counter()
        try:
            for outcome in run_script(Path(name).read_text(), MemoryStore):
                counts[outcome.verdict] += 1
                if outcome.verdict is Verdict.FAILED:
                    sys.stdout.write(f"{name}:{outcome.line}: {outcome.query}\n")
                    sys.stdout.write(f"    {outcome.detail}\n")
        except (NotationError, OSError) as error:
            sys.stdout.write(f"{name}: {error}\n")
            failed = True
        failed |= counts[Verdict.FAILED] > 0
        shown = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict)
        sys.stdout.write(f"{name}: {shown}\n")
    return int(failed)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.stderr.write("usage: python -m tests.promql.scripts FILE...\n")
        sys.exit(2)
    sys.exit(main(sys.argv[1:]))
