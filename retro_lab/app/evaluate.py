"""`python evaluate.py run=...`: evaluates trained runs anew; a run says all the rest itself."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

from retro_lab.config.databases import database_key
from retro_lab.config.errors import UserError
from retro_lab.config.fingerprints import canonical, has_retrieval
from retro_lab.config.schema import BenchmarkConfig, Config, DatabaseConfig, EvaluateConfig

from .run_directory import RunDirectory
from .timing import Stopwatch

LOG = logging.getLogger("retro_lab")


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
    from retro_lab.evaluation.objective import objective

    from .summary import show_comparison, show_results

    given = [command.run] if isinstance(command.run, str) else command.run
    paths = [Path(str(path)) for path in given] if isinstance(given, list) else []
    if not paths or len({path.resolve() for path in paths}) < len(paths):
        raise UserError(
            f"run={command.run} does not name runs, each of them once", fix="run=runs/a,runs/b"
        )
    runs = [RunDirectory(_named(path)) for path in paths]
    if isinstance(command.eval, BenchmarkConfig):
        from .benchmarks import run_benchmark

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
    """As `evaluate_one`, and then at every dose of a leak experiment if one is asked for."""
    if not command.eval.injection.doses:
        return evaluate_one(run, command)
    from .injection import check_injection, run_injection

    check_injection(run, command)
    out, seconds = evaluate_one(run, command)
    return out, (seconds or {}) | run_injection(run, command)


def evaluate_one(
    run: RunDirectory, command: EvaluateConfig
) -> tuple[RunDirectory, dict[str, float] | None]:
    """Evaluates a run unless that is done: where its results lie, and the seconds by stage.

    Raises:
        UserError: the run is not trained, its data changed, or it has no checkpoint.
    """
    config = as_asked(run, command)
    database = other_database(run, config, command.database)
    out = run if database is None else run.searching(database)
    if database is not None and out.lineage:
        _check_database(run, dataclasses.replace(config, database=database), out)
    evaluated = out.is_evaluated(config) and not command.eval.pages
    rivals = bool(command.eval.rivals.which)
    if rivals and database is not None:
        raise UserError(
            f"database={database.name}: rivals search the run's own database",
            fix="leave database out, or take another eval",
        )
    if evaluated and not rivals:
        LOG.info("%s is evaluated like this already", out.path)
        return out, None
    lock = run.acquire(wait=True)  # the files of two evaluations at once would not fit together
    try:
        return out, _evaluate(run, command, config, database, out)
    finally:
        lock.release()


def _check_database(run: RunDirectory, searching: Config, out: RunDirectory) -> None:
    """Refuses results of another text than the database holds now."""
    from .changed_text import check_shown
    from .stages import Pipeline

    move = f"move {out.path} away to evaluate with the text that is there now"
    check_shown(out, Pipeline.of_run(searching, run), move)


def _evaluate(
    run: RunDirectory,
    command: EvaluateConfig,
    config: Config,
    database: DatabaseConfig | None,
    out: RunDirectory,
) -> dict[str, float]:
    """The seconds by stage.

    Args:
        config: of `as_asked`.
        database: of `other_database`.
        out: where the results are to lie.
    """
    watch = Stopwatch()
    with watch.stage("imports"):
        from retro_lab.artifacts import lineage
        from retro_lab.config.checks import check

        from .compared import compared_runs
        from .evaluation import evaluate_run
        from .run_data import prepare
        from .stages import Pipeline
    searching = config if database is None else dataclasses.replace(config, database=database)
    check(searching)
    with watch.stage("prepare"):
        prepared = prepare(searching, Pipeline.of_run(searching, run))
    if database is None:
        run.check_lineage(prepared.lineage)
    else:
        run.check_text(lineage(prepared.pipeline.chunks))
        out.describe(searching)
        out.record_lineage(prepared.lineage)
    compared = compared_runs(config)
    if not out.is_evaluated(config) or command.eval.pages:
        with watch.stage("evaluation"):
            evaluate_run(config, command.eval, run, prepared, compared, database)
        if database is None:
            run.enter("finished")
    if command.eval.rivals.which:
        from .rivals import run_rivals

        run_rivals(config, run, prepared, compared, watch)
    return watch.seconds


def as_asked(run: RunDirectory, command: EvaluateConfig) -> Config:
    """The configuration of a run, to be evaluated as the command says.

    Raises:
        UserError: it is not trained to its end.
    """
    config = run.config()
    if not run.reached("trained"):
        raise UserError(
            f"{run.path} is not trained to its end: its state is {run.state!r}",
            fix="run the train.py command again; it resumes",
        )
    config = dataclasses.replace(config, eval=command.eval, runs_dir=str(run.path.parent))
    if command.store.dir is not None:
        config = dataclasses.replace(config, store=command.store)
    if command.plain is not None:
        config = dataclasses.replace(config, plain=command.plain)
    if command.trainer is not None:
        # Precision is the run's: by it the baseline is found.
        trainer = dataclasses.replace(command.trainer, precision=config.trainer.precision)
        config = dataclasses.replace(config, trainer=trainer)
    return config


def other_database(
    run: RunDirectory, config: Config, asked: DatabaseConfig | None
) -> DatabaseConfig | None:
    """What is searched instead of the run's own database; None if it is that one.

    Raises:
        UserError: the run searches nothing.
    """
    if asked is None:
        return None
    if not has_retrieval(config):
        raise UserError(
            f"database={asked.name}: {run.path} is a baseline, it searches nothing",
            fix="leave database out, or give a run with a retriever",
        )
    asked = canonical(dataclasses.replace(config, database=asked)).database
    own = canonical(config).database
    return None if database_key(asked) == database_key(own) else asked
