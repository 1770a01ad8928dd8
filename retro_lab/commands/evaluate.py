"""`python evaluate.py run=...`: evaluates trained runs; each run's folder gives its settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from retro_lab.config.errors import UserError
from retro_lab.config.schema import BenchmarkConfig, EvaluateConfig
from retro_lab.run.directory import RunDirectory


def main(argv: Sequence[str]) -> int:
    """Exit code of `evaluate.py <argv>`."""
    from . import launch

    return launch.run("evaluate", evaluate, with_lists(argv))


def with_lists(argv: Sequence[str]) -> list[str]:
    """The arguments with `run=A,B` as a list; under --multirun Hydra makes it several jobs."""
    argv = list(argv)
    if {"-m", "--multirun"} & set(argv):
        return argv
    return [
        f"run=[{argument.removeprefix('run=')}]" if _names_several(argument) else argument
        for argument in argv
    ]


def _names_several(argument: str) -> bool:
    return argument.startswith("run=") and "," in argument and "[" not in argument


def evaluate(command: EvaluateConfig) -> float | None:
    """Evaluates one or several runs and prints the results; the task of one Hydra job.

    Returns:
        The objective of a single run; None for several runs or a benchmark.

    Raises:
        UserError: a run cannot be evaluated, or several cannot be compared.
    """
    from retro_lab.evaluation.records.objective import objective

    from .summary import show_results

    given = [command.run] if isinstance(command.run, str) else command.run
    paths = [Path(str(path)) for path in given] if isinstance(given, list) else []
    if not paths or len({path.resolve() for path in paths}) < len(paths):
        raise UserError(
            f"run={command.run} does not name runs, each of them once", fix="run=runs/a,runs/b"
        )
    runs = [RunDirectory(_resolved(path)) for path in paths]
    if isinstance(command.eval, BenchmarkConfig):
        from retro_lab.run.tasks.benchmark import run_benchmark

        for run in runs:
            run_benchmark(run, command)
        return None
    from retro_lab.api.evaluating import evaluate_fully

    evaluated = [evaluate_fully(run, command) for run in runs]
    results = [show_results(out, seconds) for out, seconds in evaluated]
    if len(runs) > 1:
        _show_comparison([out for out, _ in evaluated])
        return None
    return objective(results[0])


def _resolved(path: Path) -> Path:
    """The path with `.` and `..` resolved, since the run's baseline is looked up beside it."""
    return path if path.name not in ("", "..") else path.resolve()


def _show_comparison(runs: Sequence[RunDirectory]) -> None:
    """Prints evaluated runs side by side, on the same chunks, and writes comparison.csv.

    Raises:
        UserError: the runs did not score the same tokens.
    """
    from rich.console import Console

    from retro_lab.evaluation.measure.comparison import compare
    from retro_lab.evaluation.records.chunk_table import ChunkTable
    from retro_lab.evaluation.records.csv_file import write_comparison
    from retro_lab.evaluation.records.results import Results
    from retro_lab.evaluation.report.tables import comparison_table

    console = Console(highlight=False)
    bootstrap = Results.load(runs[0].results_file).leakage.bootstrap
    tables = [ChunkTable.load(run.chunks_file) for run in runs]
    rows = compare(dict(zip(_labels(runs), tables, strict=True)), bootstrap)
    title = f"{len(runs)} runs on the same chunks; {100 * bootstrap.confidence:g} % intervals"
    path = runs[0].path.parent / "comparison.csv"
    write_comparison(rows, path)
    console.print()
    console.print(comparison_table(rows, title))
    console.print(f"\ntable   {path}", soft_wrap=True)


def _labels(runs: Sequence[RunDirectory]) -> list[str]:
    """A distinct label for each run: as few last parts of its path as make all labels differ."""
    parts = [run.path.resolve().parts for run in runs]
    longest = max(map(len, parts))
    names = (["/".join(each[-depth:]) for each in parts] for depth in range(1, longest + 1))
    return next(found for found in names if len(set(found)) == len(runs))
