"""`python train.py`: prepares data, trains baseline and run, evaluates, and prints results."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from retro_lab.config.console import ReportedInterrupt
from retro_lab.config.schema import BenchmarkConfig, Config, EvaluateConfig
from retro_lab.run.directory import RunDirectory
from retro_lab.run.timing import Stopwatch
from retro_lab.training.wandb_access import Agent

LOG = logging.getLogger("retro_lab")


def main(argv: Sequence[str]) -> int:
    """Exit code of `train.py <argv>`."""
    from . import launch

    return launch.run("train", train, argv)


def train(config: Config) -> float | None:
    """Trains and evaluates one run; the task of one Hydra job.

    Returns:
        The objective that a sweeper minimises; None on ranks other than 0.
    """
    from retro_lab.evaluation.records.objective import objective
    from retro_lab.evaluation.records.results import Results

    from .summary import show_results

    run = RunDirectory.of(config)
    watch = Stopwatch()
    if not run.is_rank_zero:
        LOG.setLevel(logging.WARNING)
    finished = config.resume is not None and run.is_finished(config)
    if finished:
        from retro_lab.run.data.changed_text import TRAIN_ANEW, check_unchanged_if_readable
        from retro_lab.run.data.graph import DataGraph

        check_unchanged_if_readable(run, DataGraph(config), TRAIN_ANEW)
        LOG.info("%s is finished already; resume=null trains it again", run.path)
        if run.is_rank_zero:
            if not run.config_file.is_file():
                run.describe(config)
            _log_to_agent(run, run.for_evaluation(config))
    else:
        _run(config, run, watch)
    if not run.is_rank_zero:
        return None
    seconds = None if finished else watch.seconds
    out = run.for_evaluation(config)
    if _evaluate_further(config, run) is None:
        show_results(out, seconds, verbose=config.verbose)
    return objective(Results.load(out.results_file), config.objective)


def _run(config: Config, run: RunDirectory, watch: Stopwatch) -> None:
    try:
        with watch.stage("imports"):
            from retro_lab.run.experiment import run_experiment
        run_experiment(config, watch)
    except KeyboardInterrupt as error:
        LOG.warning(
            "interrupted; nothing is lost: the same command goes on where %s stopped", run.path
        )
        raise ReportedInterrupt from error


def _log_to_agent(run: RunDirectory, out: RunDirectory) -> None:
    """Logs the figures of a finished run to the `wandb agent` that started this process, if any.

    Args:
        out: holds the results.
    """
    agent = Agent.of_environment()
    if agent is None:
        return
    from retro_lab.evaluation.records.results import Results
    from retro_lab.training.publish import publish

    results = Results.load(out.results_file)
    publish(results, run.config(), run.path, out.path, lineage=run.lineage, agent=agent)


def _evaluate_further(config: Config, run: RunDirectory) -> float | None:
    """Runs rivals, a leak experiment or a benchmark on the finished run, as `evaluate.py` does.

    Returns None without printing if none is requested.
    """
    more = config.eval.rivals.which or config.eval.injection.doses
    benchmark = isinstance(config.eval, BenchmarkConfig)
    if not benchmark and not (more and config.retriever.retrieves):
        return None
    from .evaluate import evaluate

    return evaluate(EvaluateConfig(run=str(run.path), eval=config.eval, verbose=config.verbose))
