"""`python -m retro_lab report runs/...`: compares runs in tables, files, a plot and W&B."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retro_lab.config import arguments
from retro_lab.config.arguments import key

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


@dataclass(frozen=True)
class Request:
    """The command's arguments, see `USAGE`; `words` are run directories and folders of runs."""

    words: tuple[Path, ...] = ()
    where: tuple[str, ...] = ()
    sort: str | None = None
    logger: str | None = key(None, choices=("wandb",))


def main(argv: Sequence[str]) -> int:
    """Exit code of `report <argv>`."""
    return arguments.run(argv, USAGE, _report)


def _report(argv: Sequence[str]) -> None:
    from retro_lab.sweeps.report import report

    asked = arguments.parse(argv, Request, "report")
    report(asked.words, to_wandb=asked.logger is not None, where=asked.where, sort=asked.sort)
