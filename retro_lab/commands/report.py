"""`python -m retro_lab report runs/...`: compares runs in tables, files, a plot and W&B."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retro_lab.config import arguments
from retro_lab.config.arguments import key

USAGE = """usage: python -m retro_lab report <run directory or folder of runs> [...]
                              [where=<condition>] [sort=<key>] [logger=wandb]

Compares finished runs: bits per byte, and the paired difference from the plain model with its
interval, on all chunks and on chunks without local leakage. Each scored split has a table and a row
of plots. Runs that differ only in their seed are also grouped: mean, interval over seeds, best,
FLOPs and time of training. Groups agree in retrieval, text and scoring; each setting that differs
has a column. Repeated results count once. Failed runs are listed with the reason, pending runs with
their command. Writes report.html (a page with tables to sort), report.csv (a row a run), report.md,
report.png and report.svg beside the runs.
  python -m retro_lab report runs
  python -m retro_lab report runs where=split=validation sort=bpb
  python -m retro_lab report runs where=retriever=bm25,none 'where=optim.lr<0.01' sort=-optim.lr
  python -m retro_lab report runs/tiny-bm25-* runs/tiny-none-*
  python -m retro_lab report runs logger=wandb     also to W&B; offline without a login
Keys of where and sort are columns, figures (bpb gain leak_free memory flops time) and settings;
sort=-key sorts in descending order."""


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
