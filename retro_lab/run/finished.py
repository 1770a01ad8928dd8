"""A trained run, evaluated as a command asks: another database, split, or part of the figures."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import TypeAlias

from retro_lab.config.errors import UserError
from retro_lab.config.fingerprints import canonical, database_key
from retro_lab.config.rules import check
from retro_lab.config.schema import Config, DatabaseConfig, EvaluateConfig
from retro_lab.store import lineage

from .changed_text import check_shown
from .compared import Compared, compared_runs
from .directory import RunDirectory
from .evaluate import evaluate_run
from .run_data import Prepared, prepare
from .stages import Pipeline
from .timing import Stopwatch

LOG = logging.getLogger("retro_lab")
Further: TypeAlias = Callable[[Config, RunDirectory, Prepared, Compared, Stopwatch], None]
"""What can be measured of a run besides its evaluation."""


def evaluate_one(
    run: RunDirectory, command: EvaluateConfig, then: Further | None = None
) -> tuple[RunDirectory, dict[str, float] | None]:
    """Evaluates a run unless that is done: where its results lie, and the seconds by stage.

    Args:
        then: what else is measured on the run's data, under the same lock; it is done even if the
            evaluation was.

    Raises:
        UserError: the run is not trained, its data changed, or it has no checkpoint.
    """
    config = as_asked(run, command)
    database = other_database(run, config, command.database)
    out = run if database is None else run.searching(database)
    if database is not None and out.lineage:
        _check_database(run, dataclasses.replace(config, database=database), out)
    evaluated = out.is_evaluated(config) and not command.eval.pages
    if command.eval.rivals.which and database is not None:
        raise UserError(
            f"database={database.name}: rivals search the run's own database",
            fix="leave database out, or take another eval",
        )
    if evaluated and then is None:
        LOG.info("%s is evaluated like this already", out.path)
        return out, None
    lock = run.acquire(wait=True)  # the files of two evaluations at once would not fit together
    try:
        return out, _evaluate(run, command, config, database, out, then)
    finally:
        lock.release()


def _check_database(run: RunDirectory, searching: Config, out: RunDirectory) -> None:
    """Refuses results of another text than the database holds now."""
    move = f"move {out.path} away to evaluate with the text that is there now"
    check_shown(out, Pipeline.of_run(searching, run), move)


def _evaluate(
    run: RunDirectory,
    command: EvaluateConfig,
    config: Config,
    database: DatabaseConfig | None,
    out: RunDirectory,
    then: Further | None,
) -> dict[str, float]:
    """The seconds by stage.

    Args:
        config: of `as_asked`.
        database: of `other_database`.
        out: where the results are to lie.
    """
    watch = Stopwatch()
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
    if then is not None:
        then(config, run, prepared, compared, watch)
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
    if not config.retriever.retrieves:
        raise UserError(
            f"database={asked.name}: {run.path} is a baseline, it searches nothing",
            fix="leave database out, or give a run with a retriever",
        )
    asked = canonical(dataclasses.replace(config, database=asked)).database
    own = canonical(config).database
    return None if database_key(asked) == database_key(own) else asked
