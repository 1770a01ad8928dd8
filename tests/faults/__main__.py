"""`python tests/faults [names of faults] [small=yes] [seed=0]`: all faults, and their counts.

The table at its end is that of docs/reliability.md; exit code 1 if it is not all zeros.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from campaign import FAULTS, run_all  # noqa: E402
from fault_counts import table  # noqa: E402


def main(arguments: list[str]) -> int:
    """0 if nothing was lost, silently wrong or a traceback."""
    names = [argument for argument in arguments if "=" not in argument]
    options = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    unknown = (set(names) - set(FAULTS)) | (set(options) - {"small", "seed"})
    if unknown or "--help" in arguments:
        print(__doc__, "faults:", ", ".join(FAULTS))
        return 2
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="retro-faults-") as folder:
        small, seed = options.get("small") == "yes", int(options.get("seed", 0))
        rows = run_all(Path(folder), names or list(FAULTS), small=small, seed=seed, say=print)
    for row in rows:
        print(f"\n{row.name}: struck {dict(row.hit.most_common())}")
        print("\n".join(f"  {sentence}" for sentence in row.findings))
        if row.missed:
            print(f"  not struck: {', '.join(row.missed)}")
    print(f"\n{table(rows)}\n{time.monotonic() - start:.0f} s")
    return 0 if all(row.clean for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
