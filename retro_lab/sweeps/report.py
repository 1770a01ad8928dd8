"""Report on a folder of runs: compares finished ones, lists unfinished ones."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retro_lab.config.errors import UserError
from retro_lab.config.files import replacing
from retro_lab.config.fingerprints import run_name
from retro_lab.config.serialise import read_config
from retro_lab.run.directory import EVALUATIONS, RunDirectory

from .unfinished import Unfinished, unfinished

if TYPE_CHECKING:
    from retro_lab.config.schema import Config
    from retro_lab.evaluation.report.sweep import SweepRow
    from retro_lab.evaluation.report.sweep_tables import Part
    from retro_lab.evaluation.report.table import Table

FILES = (
    ("table", "csv"),
    ("table", "md"),
    ("plot", "png"),
    ("plot", "svg"),
    ("page", "html"),
)
"""What `report` writes, and the endings of the files."""


def report(
    paths: Sequence[Path],
    *,
    to_wandb: bool = False,
    where: Sequence[str] = (),
    sort: str | None = None,
) -> None:
    """Prints the tables and writes report.csv, report.md, report.html, report.png and report.svg.

    Args:
        to_wandb: also log the tables and the plot to Weights & Biases.
        where: conditions that rows must meet; see `evaluation.report.selection`.
        sort: a key to sort by; see `evaluation.report.selection`.

    Raises:
        UserError: a path does not exist, no run is found, a condition is invalid, or two results
            of the same run and evaluation differ.
    """
    from retro_lab.evaluation.report.selection import where as chosen

    files = sorted({file for path in paths for file in _results_below(path)})
    left = [run for path in dict.fromkeys(paths) for run in _unfinished_below(path)]
    if not files and not left:
        raise UserError(
            f"no finished run in {', '.join(map(str, paths)) or 'no directory'}",
            fix="give run directories, or the folder that holds them, such as runs",
        )
    rows, repeated = _distinct(files)
    rows = chosen(rows, where)
    if files and not rows:
        raise UserError(
            f"no run holds {' and '.join(where)}", fix="leave out a condition, or write another"
        )
    folder = RunDirectory(files[0].parent).base.path.parent if files else Path()
    _show(rows, left, folder, repeated, sort, to_wandb)


def report_sweep(folder: Path, points: Iterable[Config]) -> None:
    """Reports on the points of one sweep: the evaluation that it asked of each run, and no other.

    Args:
        folder: holds the runs.
        points: the configurations.
    """
    asked = [(run_name(config), config) for config in points]
    names = sorted({name for name, _ in asked})
    files = {_results_of(RunDirectory(folder / name), config) for name, config in asked}
    rows, _ = _distinct(sorted(file for file in files if file is not None))
    _show(rows, unfinished(folder, names), folder, [], None, False)


def _show(
    rows: list[SweepRow],
    left: Sequence[Unfinished],
    folder: Path,
    repeated: Sequence[str],
    sort: str | None,
    to_wandb: bool,
) -> None:
    """Prints and writes the report of finished `rows` and unfinished runs `left`."""
    from rich.console import Console

    from retro_lab.evaluation.report.pages.sweep_page import write_sweep_page
    from retro_lab.evaluation.report.sweep import with_differing_settings
    from retro_lab.evaluation.report.sweep_plot import plot_sweep
    from retro_lab.evaluation.report.sweep_tables import in_words, part_tables, parts

    console = Console(highlight=False)
    rows = with_differing_settings(rows)
    shown = parts(rows, sort)
    for part in shown:
        for table in part_tables(part, sort):
            console.print()
            console.print(table)
        console.print(in_words(part), markup=False)
    counts = {state: sum(run.state == state for run in left) for state in ("failed", "pending")}
    said = [f"{len(rows)} finished", *(f"{n} {state}" for state, n in counts.items() if n)]
    console.print(f"\n{', '.join(said)}")
    for line in [line for run in left for line in run.lines()] + list(repeated):
        console.print(line, soft_wrap=True, markup=False)
    if not rows:
        return
    _write_csv([row for part in shown for row in part.rows], folder / "report.csv")
    _write_markdown(shown, left, sort, folder / "report.md")
    for name in ("report.png", "report.svg"):
        plot_sweep(rows, folder / name, title=said[0].replace("finished", "runs"))
    write_sweep_page(shown, said, _left_table(left), folder, sort)
    for what, name in FILES:
        console.print(f"{what:<7} {folder / 'report'}.{name}", soft_wrap=True)
    if to_wandb:
        console.print(f"W&B     {_log_to_wandb(shown, sort, folder)}", soft_wrap=True)


def _results_of(run: RunDirectory, asked: Config) -> Path | None:
    """The results of a run's evaluation; None if it has none, or cannot be read."""
    try:
        file = run.for_evaluation(asked).results_file
    except UserError:
        return None
    return file if file.is_file() else None


def _left_table(left: Sequence[Unfinished]) -> Table | None:
    from retro_lab.evaluation.report.table import Table

    rows = [[run.run, run.state, run.reason, run.command] for run in left]
    head = ["run", "state", "reason", "go on with"]
    return Table(head, rows, "Unfinished runs", names=len(head)) if rows else None


def _unfinished_below(path: Path) -> list[Unfinished]:
    """Unfinished runs of a folder of runs, or of a single run directory."""
    path = path.resolve()
    if (path / "config.yaml").is_file() or (path / "failure.json").is_file():
        return unfinished(path.parent, [path.name])
    return unfinished(path)


def _distinct(files: Sequence[Path]) -> tuple[list[SweepRow], list[str]]:
    """A row for each run and evaluation, and a message for each file that repeats one."""
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
    """The row without its place and training cost, which vary between machines."""
    return dataclasses.replace(row, seconds=None, flops=None, folder=None)


def _row(file: Path) -> SweepRow:
    """The row of a run; without FLOPs if its configuration cannot be read."""
    from retro_lab.evaluation.records.results import Results
    from retro_lab.evaluation.report.sweep import sweep_row
    from retro_lab.run.cost import training_flops

    row = dataclasses.replace(sweep_row(Results.load(file)), folder=file.parent)
    run = RunDirectory(file.parent).base
    try:
        return dataclasses.replace(row, flops=training_flops(run.config()))
    except UserError:
        return row


def _write_markdown(
    shown: Sequence[Part], left: Sequence[Unfinished], sort: str | None, path: Path
) -> None:
    from retro_lab.evaluation.report.sweep_tables import group_table, in_words

    text = f"# {sum(len(part.rows) for part in shown)} runs\n\n"
    for part in shown:
        table = group_table(part, sort).markdown()
        text += f"## {part.name}\n\n{table}\n{in_words(part, brackets=False)}\n\n"
    if left:
        lines = [line for run in left for line in run.lines()]
        text += "## Not finished\n\n" + "\n".join(f"    {line}" for line in lines) + "\n\n"
    with replacing(path) as temporary:
        temporary.write_text(f"{text}![bits per byte](report.png)\n", encoding="utf-8")


def _log_to_wandb(shown: Sequence[Part], sort: str | None, folder: Path) -> str:
    """Logs the report as a separate W&B run; returns its URL, or its folder if offline."""
    import wandb

    from retro_lab.config.schema import WandbConfig
    from retro_lab.evaluation.report.sweep_tables import group_table
    from retro_lab.training.wandb_run import RunIdentity, start

    keys = sorted(row.run_key for part in shown for row in part.rows)
    key = hashlib.sha256("".join(keys).encode()).hexdigest()
    run = start(WandbConfig(), folder, RunIdentity(key, "report", job_type="report"))
    if run is None:
        return "switched off by its own settings"
    logged: dict[str, Any] = {"report/plot": wandb.Image(str(folder / "report.png"))}
    for part in shown:
        table = group_table(part, sort)
        heads: list[Any] = list(table.heads)
        logged[f"report/{part.name}"] = wandb.Table(columns=heads, data=list(table.rows))
    with run:
        run.log(logged)
        return run.url or run.dir


def _results_below(path: Path) -> list[Path]:
    """The results of a run, or of every run in a folder, with those on other splits and so on."""
    if not path.exists():
        raise UserError(f"{path} does not exist", fix="give a run directory or a folder of runs")
    from retro_lab.evaluation.records.results import RESULTS_FILE

    own = path / RESULTS_FILE
    found = [own] if own.is_file() else sorted(path.glob(f"*/{RESULTS_FILE}"))
    return [file for run in found for file in (run, *_variants(run))]


def _variants(file: Path) -> list[Path]:
    """Results of a run on another split, or with another memory or plain model, one of each.

    Kinds of evaluation look at the same scores, so the run's own kind is taken if it has them.
    """
    from retro_lab.evaluation.records.results import RESULTS_FILE

    try:
        own = read_config(file.with_name("config.yaml")).eval.name
    except UserError:
        return []
    found: dict[str, Path] = {}
    for name in (own, "*"):
        for other in sorted(file.parent.glob(f"{EVALUATIONS}/{name}-*/{RESULTS_FILE}")):
            _, _, looks_at = other.parent.name.removeprefix(own).partition("-")
            found.setdefault(looks_at, other)
    return sorted(found.values())


def _write_csv(rows: Sequence[SweepRow], path: Path) -> None:
    """Writes one row a run, with unrounded figures."""
    from retro_lab.evaluation.records.csv_file import PAIRED, paired, write_csv
    from retro_lab.evaluation.report.sweep import AXES, MEASURED

    head = ["run_key", *AXES, *rows[0].others, "k", *MEASURED, "bpb", "baseline_bpb", "plain_bpb"]
    of = ("all_chunks", "leak_free", "memory")
    head += ["against", *(f"{part}_{n}" for part in of for n in PAIRED), "memory_bpb"]
    lines = [
        [
            row.run_key,
            *(getattr(row, axis) for axis in AXES),
            *row.others.values(),
            row.k,
            *(getattr(row, name) for name in MEASURED),
            *(score and score.bpb for score in (row.score, row.baseline, row.plain)),
            row.against if row.difference else None,
            *paired(row.difference),
            *paired(row.leak_free),
            *paired(row.saving),
            row.memory and row.memory.bpb,
            row.flops,
            row.seconds,
        ]
        for row in rows
    ]
    write_csv([*head, "training_flops", "training_seconds"], lines, path)
