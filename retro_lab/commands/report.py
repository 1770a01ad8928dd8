"""`python -m retro_lab report runs/...`: runs side by side, as tables, files, a plot and in W&B."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from retro_lab.config.console import print_error
from retro_lab.config.errors import EXIT_USER_ERROR, UserError

USAGE = """usage: python -m retro_lab report <run directory or folder of runs> [...]
                              [where=<condition>] [sort=<key>] [logger=wandb]

Compares finished runs: bits per byte, the paired difference from the plain model with its interval,
on all chunks and on those without local leakage; a table and a row of plots for each scored split.
Runs that differ in their seed alone are also shown together: mean, interval over seeds, best, FLOPs
and time of training. What was read, the text and how it was scored must agree for that; whatever
differs has a column. Results that are given twice count once. Runs that failed are named with the
reason, and those still to be run, each with its command. Writes report.csv (a row a run),
report.md, report.png and report.svg beside the runs.
  python -m retro_lab report runs
  python -m retro_lab report runs where=split=validation sort=bpb
  python -m retro_lab report runs where=retriever=bm25,none 'where=optim.lr<0.01' sort=-optim.lr
  python -m retro_lab report runs/tiny-bm25-* runs/tiny-none-*
  python -m retro_lab report runs logger=wandb     also to W&B; offline without a login
Keys of where and sort are columns, figures (bpb gain leak_free flops time) and settings; sort=-key
goes downwards."""
WANDB, WHERE, SORT = "logger=wandb", "where=", "sort="


def main(argv: Sequence[str]) -> int:
    """Exit code of `report <argv>`."""
    if not argv or {"--help", "-h"} & set(argv):
        print(USAGE)
        return 0 if argv else EXIT_USER_ERROR
    conditions = [word.removeprefix(WHERE) for word in argv if word.startswith(WHERE)]
    keys = [word.removeprefix(SORT) for word in argv if word.startswith(SORT)]
    paths = [Path(word) for word in argv if word != WANDB and not word.startswith((WHERE, SORT))]
    from retro_lab.sweeps.report import report

    try:
        if len(keys) > 1:
            raise UserError(f"sort={keys[1]}: rows are sorted by one key", fix=f"sort={keys[0]}")
        sort = keys[0] if keys else None
        report(paths, to_wandb=WANDB in argv, where=conditions, sort=sort)
    except UserError as error:
        print_error(str(error))
        return EXIT_USER_ERROR
    return 0
