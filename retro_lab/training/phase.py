"""Training phases: settings of one training, from scratch or as a retrofit of a baseline."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from retro_lab.config.schema import Config, OptimConfig, ScheduleConfig

from .curriculum import NeighbourCurriculum
from .joint import JointLoss

RETROFIT = "retrofit"
VALIDATIONS = 4
"""Least number of validations in a retrofit, unless `recipe.val_every` is set."""


@dataclass(frozen=True)
class Phase:
    """Settings of one training.

    Attributes:
        name: shown with the progress.
        optim: the optimiser.
        schedule: steps and learning-rate schedule.
        val_every: steps between validations.
        lr: peak learning rate; None for the optimiser's own.
        curriculum: which neighbours a training step reads; None for all.
        frozen_until: step at which the backbone's parameters are unfrozen.
        tokens_before: scored tokens that the initial weights were trained on.
        joint: the loss of the last steps, through a memory; None if there is none.
    """

    name: str
    optim: OptimConfig
    schedule: ScheduleConfig
    val_every: int
    lr: float | None = None
    curriculum: NeighbourCurriculum | None = None
    frozen_until: int = 0
    tokens_before: int = 0
    joint: JointLoss | None = None

    @classmethod
    def first(cls, config: Config, name: str, pad_id: int) -> Phase:
        """Training with the run's own schedule, from scratch or on a pretrained backbone."""
        steps = config.schedule.steps
        return cls(
            name,
            config.optim,
            config.schedule,
            config.trainer.val_every,
            curriculum=NeighbourCurriculum.of(config.recipe, steps, pad_id),
        )

    @classmethod
    def retrofit(cls, config: Config, pad_id: int, tokens_before: int) -> Phase:
        """Training of retrieval on a trained baseline or backbone, by the settings of `recipe`."""
        recipe, schedule = config.recipe, config.schedule
        warmup = schedule.warmup_steps if recipe.warmup_steps is None else recipe.warmup_steps
        often = min(max(recipe.steps // VALIDATIONS, 1), config.trainer.val_every)
        return cls(
            RETROFIT,
            recipe.optim or config.optim,
            dataclasses.replace(schedule, steps=recipe.steps, warmup_steps=warmup),
            recipe.val_every or often,
            recipe.lr,
            NeighbourCurriculum.of(recipe, recipe.steps, pad_id),
            recipe.unfreeze_after or 0,
            tokens_before,
        )
