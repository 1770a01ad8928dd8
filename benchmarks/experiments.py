"""Experiments, each a row of runs or evaluations, a figure and a table in docs/experiments.md.

    python benchmarks/experiments.py neighbours value
    python benchmarks/experiments.py training --set runs_dir=/scratch/runs --set trainer.threads=1
    python benchmarks/experiments.py --draw

The figures of a point go into benchmarks/experiments.json as soon as they are there, so a stopped
command goes on with the next point. `--draw` draws the figures and writes the tables from this
file in seconds, and runs nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path

from experiment_figures import draw, with_tables
from experiment_list import EXPERIMENTS
from experiment_page import FIGURES, HERE, change_page
from experiment_points import measure, scored

from retro_lab.config.console import print_error
from retro_lab.config.errors import EXIT_USER_ERROR, UserError


def main() -> int:
    """Measures and draws what the command line asks for; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(EXPERIMENTS))
    parser.add_argument("--set", action="append", default=[], help="an override of train.py")
    parser.add_argument("--json", type=Path, default=HERE / "experiments.json")
    parser.add_argument("--draw", action="store_true", help="only draw what is measured")
    asked = parser.parse_args()
    unknown = [name for name in asked.names if name not in EXPERIMENTS]
    if unknown or not (asked.names or asked.draw):
        parser.error(f"give experiments to run: {', '.join(EXPERIMENTS)}; or --draw")
    try:
        if not asked.draw:
            measure(partial(scored, machine=asked.set), asked.names, asked.json)
    except UserError as error:
        print_error(str(error))
        return EXIT_USER_ERROR
    known = json.loads(asked.json.read_text())
    for name in asked.names or known:
        print(draw(name, known[name], FIGURES))
    change_page(lambda page: with_tables(page, known))
    return 0


if __name__ == "__main__":
    sys.exit(main())
