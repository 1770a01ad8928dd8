"""`python evaluate.py run=...`: evaluates trained runs anew; a run says all the rest itself."""

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

    return launch.run("evaluate", evaluate, with_lists(argv))


def with_lists(argv: Sequence[str]) -> list[str]:
    """`run=A,B` as the list that it means; under --multirun Hydra makes jobs of it."""
    if {"-m", "--multirun"} & set(argv):
        return list(argv)
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
    from .summary import objective, show_comparison, show_results

    given = [command.run] if isinstance(command.run, str) else command.run
    if not isinstance(given, list) or not given or len(set(map(str, given))) < len(given):
        raise UserError(
            f"run={command.run} does not name runs, each of them once", fix="run=runs/a,runs/b"
        )
    runs = [RunDirectory(Path(str(path))) for path in given]
    results = [show_results(run, _evaluate_one(run, command)) for run in runs]
    if len(runs) > 1:
        show_comparison(runs)
        return None
    return objective(results[0])


def _evaluate_one(run: RunDirectory, command: EvaluateConfig) -> dict[str, float] | None:
    """Evaluates a run unless that is done; seconds by stage.

    Raises:
        UserError: the run is not trained, its data changed, or it has no checkpoint.
    """
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
        return None
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
    return watch.seconds


def _baseline(config: Config) -> RunDirectory | None:
    """The baseline that the run was compared with, where it is still there."""
    if not has_retrieval(config) or config.baseline is None:
        return None
    baseline = RunDirectory.of(baseline_of(config))
    if not baseline.reached("trained"):
        LOG.warning("%s is missing, so there is no baseline to compare with", baseline.path)
        return None
    return baseline
