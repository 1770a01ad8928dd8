"""`python evaluate.py run=...`: evaluates trained runs anew; a run says all the rest itself."""

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
    """`run=A,B` as the list that it means; under --multirun Hydra makes jobs of it."""
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
    """One job: evaluates the run, or each of several, as asked, and shows the results.

    Raises:
        UserError: a run that cannot be evaluated, or several that cannot be compared.
    """
    from retro_lab.evaluation.records.objective import objective

    from .summary import show_comparison, show_results

    given = [command.run] if isinstance(command.run, str) else command.run
    paths = [Path(str(path)) for path in given] if isinstance(given, list) else []
    if not paths or len({path.resolve() for path in paths}) < len(paths):
        raise UserError(
            f"run={command.run} does not name runs, each of them once", fix="run=runs/a,runs/b"
        )
    runs = [RunDirectory(_named(path)) for path in paths]
    if isinstance(command.eval, BenchmarkConfig):
        from retro_lab.run.tasks.benchmark import run_benchmark

        for run in runs:
            run_benchmark(run, command)
        return None
    evaluated = [_evaluate_fully(run, command) for run in runs]
    results = [show_results(out, seconds) for out, seconds in evaluated]
    if len(runs) > 1:
        show_comparison([out for out, _ in evaluated])
        return None
    return objective(results[0])


def _named(path: Path) -> Path:
    """`.` and `..` by their names: the run's baseline is looked for beside it."""
    return path if path.name not in ("", "..") else path.resolve()


def _evaluate_fully(
    run: RunDirectory, command: EvaluateConfig
) -> tuple[RunDirectory, dict[str, float] | None]:
    """As `evaluate_one`, with rivals, and at every dose of a leak experiment, if asked for."""
    from retro_lab.run.evaluating.reevaluate import evaluate_one

    rivals = None
    if command.eval.rivals.which:
        from retro_lab.rivals.rivals import run_rivals as rivals
    if not command.eval.injection.doses:
        return evaluate_one(run, command, rivals)
    from retro_lab.run.evaluating.injection import check_injection, run_injection

    check_injection(run, command)
    out, seconds = evaluate_one(run, command, rivals)
    return out, (seconds or {}) | run_injection(run, command)
