"""`python -m retro_lab report runs/...`: runs side by side, as tables, files, a plot and in W&B."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retro_lab.config.console import print_error
from retro_lab.config.errors import EXIT_USER_ERROR, UserError
from retro_lab.config.files import replacing

if TYPE_CHECKING:
    from retro_lab.evaluation.seeds import SeedGroup
    from retro_lab.evaluation.sweep import SweepRow

USAGE = """usage: python -m retro_lab report <run directory or folder of runs> [...] [logger=wandb]

Compares finished runs: bits per byte, the paired difference from the baseline with its interval,
on all chunks and on those without local leakage. Runs that differ in their seed alone are shown
together: mean, interval over seeds, best, FLOPs and time of training. What was read, the text and
how it was scored must agree for that; what differs of them has a column. Results that are given
twice count once. Writes report.csv (a row a run), report.md, report.png and report.svg beside the
runs.
  python -m retro_lab report runs
  python -m retro_lab report runs/tiny-bm25-* runs/tiny-none-*
  python -m retro_lab report runs logger=wandb     also to W&B; offline without a login"""
WANDB = "logger=wandb"


def main(argv: Sequence[str]) -> int:
    """Exit code of `report <argv>`."""
    if not argv or {"--help", "-h"} & set(argv):
        print(USAGE)
        return 0 if argv else EXIT_USER_ERROR
    try:
        paths = [Path(argument) for argument in argv if argument != WANDB]
        report(paths, to_wandb=WANDB in argv)
    except UserError as error:
        print_error(str(error))
        return EXIT_USER_ERROR
    return 0


def report(paths: Sequence[Path], *, to_wandb: bool = False) -> None:
    """Prints the tables and writes report.csv, report.md, report.png and report.svg.

    Args:
        to_wandb: also log the tables and the plot to Weights & Biases.

    Raises:
        UserError: if a path does not exist, there is no finished run below them, or two results of
            one run and one evaluation have different figures.
    """
    from rich.console import Console

    from retro_lab.evaluation.plots import plot_sweep
    from retro_lab.evaluation.results import RESULTS_FILE
    from retro_lab.evaluation.seeds import by_settings, in_words
    from retro_lab.evaluation.sweep import told_apart
    from retro_lab.evaluation.tables import report_table, sweep_table

    files = sorted({file for path in paths for file in _results_below(path, RESULTS_FILE)})
    if not files:
        raise UserError(
            f"no finished run in {', '.join(map(str, paths)) or 'no directory'}",
            fix="give run directories, or the folder that holds them, such as runs",
        )
    rows, repeated = _distinct(files)
    rows = told_apart(rows)
    groups = by_settings(rows)
    folder, title = files[0].parent.parent, f"{len(rows)} runs"
    console = Console(highlight=False)
    console.print(sweep_table(rows, title))
    console.print()
    console.print(report_table(groups, f"{len(groups)} settings"))
    console.print(f"\n{in_words(groups)}")
    for line in repeated:
        console.print(line, soft_wrap=True)
    _write_csv(rows, folder / "report.csv")
    _write_markdown(groups, title, folder / "report.md")
    for name in ("report.png", "report.svg"):
        plot_sweep(rows, folder / name, title=title)
    for what, name in (("table", "csv"), ("table", "md"), ("plot", "png"), ("plot", "svg")):
        console.print(f"{what:<7} {folder / 'report'}.{name}", soft_wrap=True)
    if to_wandb:
        console.print(f"W&B     {_log_to_wandb(groups, folder)}", soft_wrap=True)


def _distinct(files: Sequence[Path]) -> tuple[list[SweepRow], list[str]]:
    """A row for each run and evaluation, and a sentence for each file that says one again."""
    first: dict[tuple[str, str | None], tuple[Path, SweepRow]] = {}
    repeated = []
    for file in files:
        row = _row(file)
        before, known = first.setdefault((row.run_key, row.settings), (file, row))
        if _figures(known) != _figures(row):
            raise UserError(
                f"{before} and {file} are of the same run and the same evaluation, but their "
                "figures differ",
                fix="report one of the two, or evaluate that run again and copy its folder anew",
            )
        if before != file:
            repeated.append(f"{file} repeats {before} and was left out.")
    return [row for _, row in first.values()], repeated


def _figures(row: SweepRow) -> SweepRow:
    """Without what training cost, which is another time on every machine."""
    return dataclasses.replace(row, seconds=None, flops=None)


def _row(file: Path) -> SweepRow:
    """The row of a run; without FLOPs where its configuration cannot be read."""
    from retro_lab.evaluation.results import Results
    from retro_lab.evaluation.sweep import sweep_row

    from .cost import training_flops
    from .run_directory import RunDirectory

    row = sweep_row(Results.load(file))
    try:
        return dataclasses.replace(row, flops=training_flops(RunDirectory(file.parent).config()))
    except UserError:
        return row


def _write_markdown(groups: Sequence[SeedGroup], title: str, path: Path) -> None:
    from retro_lab.evaluation.seeds import in_words, report_cells

    heads, rows = report_cells(groups)
    lines = [heads, ["---"] * len(heads), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    text = f"# {title}\n\n{table}\n\n{in_words(groups)}\n\n![bits per byte](report.png)\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _log_to_wandb(groups: Sequence[SeedGroup], folder: Path) -> str:
    """Logs the report as a W&B run of its own and returns where it lies."""
    import wandb

    from retro_lab.config.schema import WandbConfig
    from retro_lab.evaluation.seeds import report_cells
    from retro_lab.training.wandb_run import RunIdentity, start

    keys = sorted(row.run_key for group in groups for row in group.rows)
    key = hashlib.sha256("".join(keys).encode()).hexdigest()
    run = start(WandbConfig(), folder, RunIdentity(key, "report", job_type="report"))
    if run is None:
        return "switched off by its own settings"
    cells: Any = report_cells(groups)
    heads, rows = cells
    with run:
        run.log(
            {
                "report/table": wandb.Table(columns=heads, data=rows),
                "report/plot": wandb.Image(str(folder / "report.png")),
            }
        )
        return run.url or run.dir


def _results_below(path: Path, name: str) -> list[Path]:
    if not path.exists():
        raise UserError(f"{path} does not exist", fix="give a run directory or a folder of runs")
    own = path / name
    return [own] if own.is_file() else sorted(path.glob(f"*/{name}"))


def _write_csv(rows: Sequence, path: Path) -> None:
    import csv

    from retro_lab.evaluation.sweep import AXES, MEASURED

    header = ["run_key", *AXES, "k", *MEASURED, "bpb", "baseline_bpb"]
    for name in ("all_chunks", "leak_free"):
        header += [f"{name}_delta_bpb", f"{name}_low", f"{name}_high", f"{name}_documents"]
    header += ["training_flops", "training_seconds"]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for row in rows:
            cells = [row.run_key, *(getattr(row, axis) for axis in AXES), row.k]
            cells += [getattr(row, name) for name in MEASURED]
            cells += [row.score.bpb, row.baseline.bpb if row.baseline else None]
            for difference in (row.difference, row.leak_free):
                cells += (
                    [None] * 4
                    if difference is None
                    else [
                        difference.delta_bpb,
                        difference.low,
                        difference.high,
                        difference.documents,
                    ]
                )
            writer.writerow([*cells, row.flops, row.seconds])
