"""`python evaluate.py run=...`: evaluates a trained run anew; the run says all the rest."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

from retro_lab.config.console import print_error
from retro_lab.config.databases import database_key
from retro_lab.config.errors import EXIT_USER_ERROR, UserError
from retro_lab.config.fingerprints import baseline_of, canonical, has_retrieval
from retro_lab.config.schema import Config, DatabaseConfig, EvaluateConfig

from .run_directory import RunDirectory
from .timing import Stopwatch

LOG = logging.getLogger("retro_lab")


def main(argv: Sequence[str]) -> int:
    """Exit code of `evaluate.py <argv>`."""
    from . import launch

    inside = [argument for argument in argv if argument.startswith("database.")]
    if inside and not any(argument.startswith("database=") for argument in argv):
        # Hydra would fail on a setting inside a group of which no option is chosen.
        print_error(f"{inside[0]}: which database?\n  fix: add database=train, or another option")
        return EXIT_USER_ERROR
    return launch.run("evaluate", evaluate, argv)


def evaluate(command: EvaluateConfig) -> float | None:
    """One job: loads the run, evaluates it as asked, writes and shows its results."""
    from .summary import objective, show_results

    run = RunDirectory(Path(command.run))
    config = run.config()
    if not run.reached("trained"):
        raise UserError(
            f"{run.path} is not trained to its end: its state is {run.state!r}",
            fix="run the train.py command again; it resumes",
        )
    database = _other_database(command, config)
    out = run if database is None else run.searching(database)
    if out.is_evaluated(command.eval) and not command.eval.pages:
        LOG.info("%s is evaluated like this already", out.path)
        return objective(show_results(out))
    config = dataclasses.replace(config, eval=command.eval, runs_dir=str(run.path.parent))
    if command.store.dir is not None:
        config = dataclasses.replace(config, store=command.store)
    watch = Stopwatch()
    with watch.stage("imports"):
        from retro_lab.artifacts import lineage
        from retro_lab.config.checks import check

        from .evaluation import evaluate_run
        from .stages import prepare
    searching = config if database is None else dataclasses.replace(config, database=database)
    check(searching)
    with watch.stage("prepare"):
        prepared = prepare(searching)
    if database is None:
        run.check_lineage(prepared.lineage)
    else:
        run.check_text(lineage(prepared.pipeline.chunks))
        out.begin(searching)
        out.record_lineage(prepared.lineage)
    with watch.stage("evaluation"):
        evaluate_run(config, command.eval, run, prepared, _baseline(config), database)
    if database is None:
        run.enter("finished")
    return objective(show_results(out, watch.seconds))


def _other_database(command: EvaluateConfig, config: Config) -> DatabaseConfig | None:
    """What is searched instead of the run's own database; None if it is that one.

    Raises:
        UserError: the run searches nothing.
    """
    if command.database is None:
        return None
    if not has_retrieval(config):
        raise UserError(
            f"database={command.database.name}: {command.run} is a baseline, it searches nothing",
            fix="leave database out, or give a run with a retriever",
        )
    asked = canonical(dataclasses.replace(config, database=command.database)).database
    own = canonical(config).database
    return None if database_key(asked) == database_key(own) else asked


def _baseline(config: Config) -> RunDirectory | None:
    """The baseline that the run was compared with, where it is still there."""
    if not has_retrieval(config) or config.baseline is None:
        return None
    baseline = RunDirectory.of(baseline_of(config))
    if not baseline.reached("trained"):
        LOG.warning("%s is missing, so there is no baseline to compare with", baseline.path)
        return None
    return baseline
