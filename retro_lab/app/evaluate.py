"""`python evaluate.py run=...`: evaluates a trained run anew; the run says all the rest."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

from retro_lab.config.errors import UserError
from retro_lab.config.fingerprints import baseline_of, has_retrieval
from retro_lab.config.schema import Config, EvaluateConfig

from .run_directory import RunDirectory
from .timing import Stopwatch

LOG = logging.getLogger("retro_lab")


def main(argv: Sequence[str]) -> int:
    """Exit code of `evaluate.py <argv>`."""
    from . import launch

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
    evaluated = run.is_evaluated(command.eval) and not command.eval.pages
    rivals = bool(command.eval.rivals.which)
    if evaluated and not rivals:
        LOG.info("%s is evaluated like this already", run.path)
        return objective(show_results(run))
    config = dataclasses.replace(config, eval=command.eval, runs_dir=str(run.path.parent))
    if command.store.dir is not None:
        config = dataclasses.replace(config, store=command.store)
    watch = Stopwatch()
    with watch.stage("imports"):
        from retro_lab.config.checks import check

        from .evaluation import evaluate_run
        from .stages import prepare
    check(config)
    with watch.stage("prepare"):
        prepared = prepare(config)
    run.check_lineage(prepared.lineage)
    baseline = _baseline(config)
    if not evaluated:
        with watch.stage("evaluation"):
            evaluate_run(config, command.eval, run, prepared, baseline)
        run.enter("finished")
    if rivals:
        from .rivals import run_rivals

        run_rivals(config, run, prepared, baseline, watch)
    return objective(show_results(run, watch.seconds))


def _baseline(config: Config) -> RunDirectory | None:
    """The baseline that the run was compared with, where it is still there."""
    if not has_retrieval(config) or config.baseline is None:
        return None
    baseline = RunDirectory.of(baseline_of(config))
    if not baseline.reached("trained"):
        LOG.warning("%s is missing, so there is no baseline to compare with", baseline.path)
        return None
    return baseline
