"""`python -m retro_lab report runs/...`: runs side by side, as a table, a CSV and a plot."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from retro_lab.config.console import print_error
from retro_lab.config.errors import EXIT_USER_ERROR, UserError

LOG = logging.getLogger("retro_lab")
USAGE = """usage: python -m retro_lab report <run directory or folder of runs> [...]

Compares finished runs: bits per byte, the paired difference from the baseline with its interval,
on all chunks and on those without local leakage. Writes report.csv and report.png beside the runs.
  python -m retro_lab report runs
  python -m retro_lab report runs/tiny-bm25-* runs/tiny-none-*"""


def main(argv: Sequence[str]) -> int:
    """Exit code of `report <argv>`."""
    if not argv or {"--help", "-h"} & set(argv):
        print(USAGE)
        return 0 if argv else EXIT_USER_ERROR
    try:
        report([Path(argument) for argument in argv])
    except UserError as error:
        print_error(str(error))
        return EXIT_USER_ERROR
    return 0


def report(paths: Sequence[Path]) -> None:
    """Prints the table and writes report.csv and report.png.

    Raises:
        UserError: if a path does not exist or there is no finished run below them.
    """
    from rich.console import Console

    from retro_lab.evaluation.plots import plot_sweep
    from retro_lab.evaluation.results import RESULTS_FILE, Results
    from retro_lab.evaluation.sweep import sweep_row
    from retro_lab.evaluation.tables import sweep_table

    files = sorted({file for path in paths for file in _results_below(path, RESULTS_FILE)})
    if not files:
        raise UserError(
            f"no finished run in {', '.join(map(str, paths))}",
            fix="give run directories, or the folder that holds them, such as runs",
        )
    rows = [sweep_row(Results.load(file)) for file in files]
    folder = files[0].parent.parent
    console = Console(highlight=False)
    console.print(sweep_table(rows, f"{len(rows)} runs"))
    _write_csv(rows, folder / "report.csv")
    plot_sweep(rows, folder / "report.png", title=f"{len(rows)} runs")
    console.print(
        f"\ntable   {folder / 'report.csv'}\nplot    {folder / 'report.png'}", soft_wrap=True
    )


def _results_below(path: Path, name: str) -> list[Path]:
    if not path.exists():
        raise UserError(f"{path} does not exist", fix="give a run directory or a folder of runs")
    own = path / name
    return [own] if own.is_file() else sorted(path.glob(f"*/{name}"))


def _write_csv(rows: Sequence, path: Path) -> None:
    import csv

    from retro_lab.evaluation.sweep import AXES

    header = ["run_key", *AXES, "k", "bpb", "baseline_bpb"]
    for name in ("all_chunks", "leak_free"):
        header += [f"{name}_delta_bpb", f"{name}_low", f"{name}_high", f"{name}_documents"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for row in rows:
            cells = [row.run_key, *(getattr(row, axis) for axis in AXES), row.k, row.score.bpb]
            cells.append(row.baseline.bpb if row.baseline else None)
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
            writer.writerow(cells)
