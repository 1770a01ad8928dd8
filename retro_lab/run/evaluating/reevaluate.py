"""Evaluates a trained run with a command's settings: another database, split or set of figures."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable
from typing import TypeAlias

from retro_lab.config.errors import UserError
from retro_lab.config.fingerprints import differing, eval_fields, memory_fields
from retro_lab.config.rival_rules import applicable_rivals
from retro_lab.config.rules import check
from retro_lab.config.schema import Config, EvaluateConfig
from retro_lab.config.serialise import flatten

from ..compared import Compared, compared_runs
from ..data.changed_text import check_unchanged_if_readable
from ..directory import RunDirectory
from ..finished import FinishedRun
from ..timing import Stopwatch
from .evaluate import evaluate_run

LOG = logging.getLogger("retro_lab")
Measurement: TypeAlias = Callable[[FinishedRun, Compared, Stopwatch], None]
"""A measurement on a run besides its evaluation."""


def evaluate_one(
    directory: RunDirectory, command: EvaluateConfig, then: Measurement | None = None
) -> tuple[RunDirectory, dict[str, float] | None]:
    """Evaluates a run unless it is evaluated with these settings already.

    Args:
        then: a further measurement under the same lock, made even if the evaluation is stored.

    Returns:
        The result directory, and seconds by stage; None if there was nothing to do.

    Raises:
        UserError: invalid settings, or the run is not trained, its data changed, or it has no
            checkpoint.
    """
    run = FinishedRun.open(directory).with_command(command).with_database(command.database)
    check(run.config)
    elsewhere, out = run.out is not directory, run.results_in
    if elsewhere and run.out.lineage:
        move = f"move {run.out.path} away to evaluate with the text that is there now"
        check_unchanged_if_readable(run.out, run.graph, move)
    if command.eval.rivals.which:
        _check_rivals(run)
    due = not out.is_evaluated(run.config) or bool(command.eval.pages)
    _tell_other_settings(out, run.config)
    if not due and then is None:
        LOG.info("%s is evaluated like this already", out.path)
        return out, None
    watch = Stopwatch()
    lock = directory.acquire(wait=True)  # concurrent evaluations would mix their files
    try:
        compared = _prepare(run, watch)
        if due:
            with watch.stage("evaluation"):
                evaluate_run(run.config, directory, out, run.graph, compared)
            if out is directory:
                directory.enter("finished")
        if then is not None:
            then(run, compared, watch)
    finally:
        lock.release()
    return out, watch.seconds


def _tell_other_settings(out: RunDirectory, config: Config) -> None:
    """Logs the settings that differ from those of the stored results, which are replaced."""
    stored = out.evaluation
    if stored is None:
        return
    asked = eval_fields(config.eval, config.wanted_plain, memory_fields(config))
    changed = differing(*(flatten({"eval": fields}) for fields in (stored, asked)))
    if changed:
        named = [re.sub(r"^eval\.(plain|memory)\.", r"\1.", one) for one in changed]
        LOG.info(
            "replacing the results in %s, which were made with other settings: %s",
            out.path,
            "; ".join(named),
        )


def _check_rivals(run: FinishedRun) -> None:
    applicable = applicable_rivals(run.config)
    unfit = [name for name in run.config.eval.rivals.names(applicable) if name not in applicable]
    if unfit:
        raise UserError(
            f"{run.directory.path} has no retrieval, and these rivals are made of a run that has: "
            f"{', '.join(unfit)}",
            fix=f"eval.rivals.which=[{','.join(applicable)}], or fewer of these",
        )
    if run.out is not run.directory:
        raise UserError(
            f"database={run.config.database.name}: rivals search the run's own database",
            fix="leave database out, or take another eval",
        )


def _prepare(run: FinishedRun, watch: Stopwatch) -> Compared:
    """Opens the data, checks that it is the run's, and returns the compared runs."""
    directory, out = run.directory, run.out
    with watch.stage("prepare"):
        lineage = run.graph.prepare()
    if out is directory:
        directory.check_lineage(lineage)
    else:
        directory.check_text(run.graph.text_lineage)
        own = directory.config()
        kind = {"eval": own.eval, "memory": own.memory, "plain": own.plain}
        out.describe(dataclasses.replace(run.config, **kind))
        out.record_lineage(lineage)
    return compared_runs(run.config)
