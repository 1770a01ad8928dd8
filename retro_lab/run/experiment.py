"""One run from configuration to verdict: data, baseline, training, evaluation.

Data flows one way: text -> chunks -> neighbours -> model -> score. Each step leaves its result in
the store or in the run's directory, so a run that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import logging
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from retro_lab.config.errors import UserError
from retro_lab.config.fingerprints import run_key, weights_fields
from retro_lab.config.schema import Config, Freeze
from retro_lab.training.agreement import agreed
from retro_lab.training.diet import Diet
from retro_lab.training.fit import FitResult, check_hardware, fit, resumable_step
from retro_lab.training.loggers import build_loggers, check_loggers, close_loggers
from retro_lab.training.publish import TOKENS_SEEN, last_figures
from retro_lab.training.wandb_run import RunIdentity

from .backbone import backbone_weights, is_backbone_alone, with_backbone
from .changed_text import TRAIN_ANEW, check_unchanged
from .compared import Compared, compared_configs
from .directory import RUN_KEY, RunDirectory
from .evaluate import evaluate_run
from .model import LanguageModel, build_data, build_model, parameter_counts
from .run_data import Prepared, prepare
from .stages import Pipeline
from .timing import Stopwatch

LOG = logging.getLogger("retro_lab")
SECOND_PHASE_VALIDATIONS = 4


def run_experiment(config: Config, watch: Stopwatch) -> RunDirectory:
    """Brings a run to `finished`, its baseline first; does nothing that is done already.

    Args:
        config: checked and canonical.
        watch: collects the seconds of each stage.
    """
    run = RunDirectory.of(config)
    if config.resume is not None and run.is_finished(config):
        return run
    check_hardware(config.trainer)
    check_loggers(config.logger)
    config = with_backbone(config)
    lock = run.acquire(wait=False)
    try:
        with watch.stage("prepare"):
            prepared = _prepare(config, run)
        compared = {
            name: ensure_trained(name, other, prepared, watch)
            for name, other in compared_configs(config).items()
        }
        train(config, run, prepared, compared.get("baseline"), watch)
        _evaluate(config, run, prepared, compared, watch)
    finally:
        lock.release()
    return run


def _prepare(config: Config, run: RunDirectory) -> Prepared:
    """The data; refuses text that is not what the run, or one it is compared with, began with."""
    pipeline = Pipeline(config)
    for began in (run, *map(RunDirectory.of, compared_configs(config).values())):
        check_unchanged(began, pipeline, TRAIN_ANEW)
    return prepare(config, pipeline)


def ensure_trained(name: str, config: Config, prepared: Prepared, watch: Stopwatch) -> RunDirectory:
    """A shared run that others are compared with, trained and evaluated if nobody has done so.

    Args:
        name: the condition that it is compared as.
        config: its own, of `compared_configs`.
        prepared: data of the run that is compared with it.
    """
    run = RunDirectory.of(config)
    with ExitStack() as held:
        due = not run.is_finished(config)
        if due:
            held.callback(run.acquire(wait=True).release)
            due = not run.is_finished(config)
        if agreed(config.trainer, due):
            LOG.info("%s: %s", name, run.path)
            own = prepared.without_neighbours()
            train(config, run, own, None, watch, companion=name)
            _evaluate(config, run, own, {}, watch)
        else:
            run.check_text(prepared.without_neighbours().lineage)
            LOG.info("%s: %s (already trained)", name, run.path)
    return run


def _evaluate(
    config: Config,
    run: RunDirectory,
    prepared: Prepared,
    compared: Compared,
    watch: Stopwatch,
) -> None:
    """Scores the trained run and finishes it; processes that only train with it go on."""
    if run.leads:
        with watch.stage("evaluation"):
            evaluate_run(config, config.eval, run, prepared, compared)
        run.enter("finished")


def train(
    config: Config,
    run: RunDirectory,
    prepared: Prepared,
    baseline: RunDirectory | None,
    watch: Stopwatch,
    companion: str | None = None,
) -> None:
    """Trains the run's model up to its last step, resuming where an earlier attempt stopped.

    A pretrained backbone without retrieval is done as it is.

    Args:
        baseline: what a retrofit grafts on.
        companion: what the run is to the one that was asked for, `baseline` or `plain`; None for
            that one itself.
    """
    if run.reached("trained") and config.resume is not None:
        run.check_lineage(prepared.lineage)
        if run.leads and not run.config_file.is_file():
            run.describe(config)
        return
    run.check_lineage(prepared.lineage)
    trained_as = weights_fields(config) | {RUN_KEY: run_key(config)}
    start = resumable_step(run.path, trained_as) if config.resume is not None else 0
    run.begin(config, anew=not start)
    if is_backbone_alone(config):
        run.enter("trained")
        return
    run.enter("training")
    backbone, tokens_before = None, 0
    if config.recipe.backbone is not None:
        backbone = backbone_weights(config)
    elif config.is_retrofit:
        if baseline is None:
            raise UserError(
                "recipe.method=retrofit grafts retrieval on the baseline, and baseline=null",
                fix="leave out baseline=null, or use recipe=scratch",
            )
        backbone = baseline.weights()
        tokens_before = int(last_figures(baseline.path).get(TOKENS_SEEN, 0))
    torch.manual_seed(config.seed)
    model = build_model(config, prepared.chunks.vocab_size, prepared.chunks.pad_id)
    if backbone is not None:
        model.load_backbone(backbone)
        if config.recipe.freeze is Freeze.backbone and config.recipe.unfreeze_after is None:
            model.freeze_backbone()
    model.enable_checkpointing(config.trainer.checkpointing)
    what = companion or "baseline"
    if config.retriever.retrieves:
        what = "retrofit" if config.is_retrofit else "training"
    with watch.stage(f"{what} training" if what != "training" else what):
        result = _fit(
            config, run, prepared, model, what, start, trained_as, companion, tokens_before
        )
    run.enter("trained", training=round(result.seconds, 1))


def _fit(
    config: Config,
    run: RunDirectory,
    prepared: Prepared,
    model: LanguageModel,
    what: str,
    start: int,
    trained_as: dict[str, Any],
    companion: str | None,
    tokens_before: int,
) -> FitResult:
    """Trains the model with the configured loggers.

    Args:
        start: optimiser steps that are done already.
        trained_as: settings that the weights go with.
    """
    retrofit = what == "retrofit"
    if start:
        LOG.info("resuming %s at step %d", run.path, start)
    identity = RunIdentity.of(
        config,
        run.path.name,
        lineage=prepared.lineage,
        parameters=parameter_counts(model),
        companion=companion,
    )
    loggers = build_loggers(config.logger, run.path, identity, resume_step=start)
    recipe, steps = config.recipe, config.schedule.steps
    held_back: list[nn.Parameter] = []
    if retrofit:
        config, steps = _second_phase(config), recipe.steps
        held_back = model.backbone_parameters() if recipe.unfreeze_after else []
    status = "failed"
    try:
        result = fit(
            model,
            build_data(config, prepared),
            config=config,
            run_dir=run.path,
            loggers=loggers,
            steps=recipe.steps if retrofit else None,
            lr=recipe.lr if retrofit else None,
            warmup_steps=recipe.warmup_steps if retrofit else None,
            resume=config.resume is not None,
            diet=Diet.of(recipe, steps, prepared.chunks.pad_id),
            held_back=held_back,
            held_until=recipe.unfreeze_after or 0,
            tokens_before=tokens_before,
            what=what,
            trained_as=trained_as,
        )
        status = "success"
    finally:
        close_loggers(loggers, status)
    return result


def _second_phase(config: Config) -> Config:
    """The configuration with the optimiser and the rhythm of the retrofit."""
    recipe = config.recipe
    quarter = max(recipe.steps // SECOND_PHASE_VALIDATIONS, 1)
    val_every = recipe.val_every or min(quarter, config.trainer.val_every)
    return dataclasses.replace(
        config,
        optim=recipe.optim or config.optim,
        trainer=dataclasses.replace(config.trainer, val_every=val_every),
    )
